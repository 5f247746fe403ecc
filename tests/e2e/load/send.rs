//! One request, from its connection to its record.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{
    answer::{self, Fault},
    connections::Pool,
    record::{Outcome, Record},
    unix_milliseconds,
};

/// No answer takes longer; what does is given up and told.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Becomes `x-request-id`.
    pub(crate) id: String,
    /// What is going on.
    pub(crate) phase: String,
    /// As in the API.
    pub(crate) model: String,
    /// The question.
    pub(crate) prompt: String,
    /// Ask for a stream.
    pub(crate) stream: bool,
    /// Ask a stream for its usage.
    pub(crate) usage: bool,
    /// Use a kept connection, and keep it.
    pub(crate) kept: bool,
    /// Further headers.
    pub(crate) headers: Vec<(String, String)>,
}

/// Why there is no answer.
struct Trouble {
    outcome: Outcome,
    detail: String,
}

/// Sends it once, and tells how it ended.
pub(crate) async fn send(pool: &Pool, path: &str, plan: Plan) -> Record {
    let began = Instant::now();
    let mut record = Record {
        id: plan.id.clone(),
        phase: plan.phase.clone(),
        sent_at: unix_milliseconds(),
        stream: plan.stream,
        kept: plan.kept,
        outcome: Outcome::Failed,
        status: 0,
        detail: String::new(),
        expert: String::new(),
        reason: String::new(),
        cost_usd: None,
        tokens: None,
        first_byte_ms: 0.0,
        total_ms: 0.0,
    };
    let attempt = tokio::time::timeout(PATIENCE, exchange(pool, path, &plan, &mut record, began)).await;
    match attempt {
        Ok(Ok(())) => record.outcome = Outcome::Answered,
        Ok(Err(trouble)) => (record.outcome, record.detail) = (trouble.outcome, trouble.detail),
        Err(_) => {
            record.outcome = if record.first_byte_ms > 0.0 { Outcome::Cut } else { Outcome::Failed };
            record.detail = "not in a minute".into();
        }
    }
    record.total_ms = milliseconds(began);
    record
}

async fn exchange(pool: &Pool, path: &str, plan: &Plan, record: &mut Record, began: Instant) -> Result<(), Trouble> {
    let failed = |detail: String| Trouble { outcome: Outcome::Failed, detail };
    let request = request(&pool.address, path, plan).map_err(|error| failed(format!("request: {error}")))?;
    let (response, sender) = loop {
        let mut lease = pool.take(plan.kept).await.map_err(|error| failed(format!("connect: {error}")))?;
        match lease.sender.try_send_request(request.clone()).await {
            Ok(response) => break (response, lease.sender),
            // A kept connection that was found closed before a byte went out: every client takes another one.
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                if !(unsent && lease.reused) {
                    let outcome = if lease.reused { Outcome::Raced } else { Outcome::Failed };
                    return Err(Trouble { outcome, detail: format!("no response: {}", chain(error.error())) });
                }
            }
        }
    };
    note_head(record, response.status(), response.headers());
    let status = response.status();
    let (bytes, broken) = read(response.into_body(), record, began).await;
    if status != StatusCode::OK {
        let detail = answer::error_code(&bytes).unwrap_or_else(|| String::from_utf8_lossy(&bytes).chars().take(80).collect());
        return Err(failed(detail));
    }
    let answer = if plan.stream { answer::stream(&bytes, plan.usage) } else { answer::whole(&bytes) };
    match (answer, broken) {
        // All of it came; how its connection ended changes nothing.
        (Ok(answer), _) => record.tokens = answer.tokens,
        (Err(Fault::ErrorEvent(code)), _) => return Err(Trouble { outcome: Outcome::Cut, detail: code }),
        (Err(_), Some(error)) => {
            let outcome = if bytes.is_empty() { Outcome::Failed } else { Outcome::Cut };
            return Err(Trouble { outcome, detail: format!("transfer: {error}") });
        }
        (Err(Fault::NotWhole(what)), None) => return Err(Trouble { outcome: Outcome::Silent, detail: what }),
    }
    if plan.kept {
        pool.give(sender);
    }
    Ok(())
}

/// The body as far as it came, and what broke it off.
async fn read(mut body: Incoming, record: &mut Record, began: Instant) -> (Vec<u8>, Option<String>) {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if record.first_byte_ms == 0.0 {
                    record.first_byte_ms = milliseconds(began);
                }
                bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            }
            Err(error) => return (bytes, Some(chain(&error))),
        }
    }
    (bytes, None)
}

fn request(host: &str, path: &str, plan: &Plan) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::post(format!("{path}/chat/completions"))
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-request-id", &plan.id);
    if !plan.kept {
        request = request.header(header::CONNECTION, "close");
    }
    for (name, value) in &plan.headers {
        request = request.header(name, value);
    }
    request.body(Full::new(body(plan).to_string().into()))
}

fn body(plan: &Plan) -> Value {
    let mut body = json!({"model": plan.model, "messages": [{"role": "user", "content": plan.prompt}]});
    if plan.stream {
        body["stream"] = json!(true);
    }
    if plan.usage {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

fn note_head(record: &mut Record, status: StatusCode, headers: &HeaderMap) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    record.status = status.as_u16();
    record.expert = header("x-expert-router-expert");
    record.reason = header("x-expert-router-reason");
    record.cost_usd = header("x-expert-router-cost-usd").parse().ok();
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        said = format!("{said}: {error}");
        source = error.source();
    }
    said
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
