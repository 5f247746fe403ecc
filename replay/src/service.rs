//! One request: read, recorded, looked up, and answered as the script says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use crate::answer::Answer;
use crate::asked::{Asked, Endpoint};
use crate::events::events;
use crate::format::{self, About};
use crate::paced::{BrokenOff, Ending, Paced};
use crate::script::{Fault, Script, Step};
use crate::serve::Options;

/// A request header with a step (as in a script's text) for this one request; the script waits.
const STEP_HEADER: &str = "x-replay-step";

/// Larger bodies are refused.
const BODY_LIMIT: usize = 64 << 20;

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path: String,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// What became of the requests so far. Those to `/models` and `/health` are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests whose headers arrived.
    pub received: usize,
    /// Answers (errors, too) that were sent whole, or broken off by the script.
    pub answered: usize,
    /// Requests whose client went away before the answer was whole.
    pub aborted: usize,
}

impl Received {
    /// The body as JSON, null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's text, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Counts, shared by the requests.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    received: AtomicUsize,
    answered: AtomicUsize,
    aborted: AtomicUsize,
}

/// That a client still waits. Dropped before `answered`, it was given up.
#[derive(Default)]
pub(crate) struct Presence {
    counts: Option<Arc<Counts>>,
}

impl Presence {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.received.fetch_add(1, Ordering::Relaxed);
        Presence { counts: Some(Arc::clone(counts)) }
    }

    /// The answer is whole.
    pub(crate) fn answered(&mut self) {
        if let Some(counts) = self.counts.take() {
            counts.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(counts) = self.counts.take() {
            counts.aborted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The expert behind all connections.
pub(crate) struct Expert {
    options: Options,
    script: Mutex<(Script, usize)>,
    received: Mutex<Vec<Received>>,
    counts: Arc<Counts>,
}

impl Expert {
    pub(crate) fn new(options: Options) -> Self {
        let script = Mutex::new((options.script.clone(), 0));
        Expert { options, script, received: Mutex::default(), counts: Arc::default() }
    }

    pub(crate) fn set_script(&self, script: Script) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = (script, 0);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn totals(&self) -> Totals {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Totals { received: count(&self.counts.received), answered: count(&self.counts.answered), aborted: count(&self.counts.aborted) }
    }

    /// Answers a request; an error closes the connection without a response.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Paced>, BrokenOff> {
        let (head, body) = request.into_parts();
        let endpoint = match Endpoint::of(&head.method, head.uri.path()) {
            Ok(Endpoint::Health) => return Ok(plain(200, &serde_json::json!({"status": "ok"}), Presence::default())),
            Ok(endpoint) => endpoint,
            Err(code) => return Ok(plain(code, &format::error(code, "no such endpoint here"), Presence::default())),
        };
        if !self.is_allowed(&head.headers) {
            return Ok(plain(401, &format::error(401, "the API key is missing or wrong"), Presence::default()));
        }
        if endpoint == Endpoint::Models {
            return Ok(plain(200, &format::models(self.model_names().iter().map(String::as_str)), Presence::default()));
        }
        let mut presence = Presence::new(&self.counts);
        let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else { return Err(BrokenOff) };
        let body = body.to_bytes();
        let step = self.step(&head.headers);
        self.keep(head, &body);
        if !step.delay.is_zero() {
            // Asked to sleep for no time at all, a timer still takes its millisecond.
            tokio::time::sleep(step.delay).await;
        }
        match step.fault.as_ref() {
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Close) => {
                presence.answered();
                Err(BrokenOff)
            }
            Some(Fault::Status { code, retry_after }) => Ok(fault(*code, retry_after.as_deref(), presence)),
            _ => Ok(match Asked::parse(endpoint, &body) {
                Ok(asked) => self.respond(endpoint, &asked, &step, presence),
                Err(error) => plain(400, &format::error(400, &format!("no request for this endpoint: {error}")), presence),
            }),
        }
    }

    fn respond(&self, endpoint: Endpoint, asked: &Asked, step: &Step, presence: Presence) -> Response<Paced> {
        let expert = self.options.expert.as_deref().unwrap_or(&asked.model);
        let answer = self.options.recording.find(&asked.prompt, expert).unwrap_or(&self.options.fallback);
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let number = self.counts.received.load(Ordering::Relaxed);
        let about = About { answer, asked, model: &asked.model, number, created, usage: !step.no_usage };
        if asked.stream && endpoint != Endpoint::Embeddings {
            streamed(self.stream(endpoint, &about, step, presence))
        } else {
            with_type("application/json", 200, self.whole(endpoint, &about, step, presence))
        }
    }

    fn whole(&self, endpoint: Endpoint, about: &About<'_>, step: &Step, presence: Presence) -> Paced {
        let bytes = match step.fault {
            Some(Fault::MalformedAt(_)) => Bytes::from_static(b"{\"choices\":[{\"message\":"),
            _ => format::whole(endpoint, about).to_string().into(),
        };
        let body = Paced::whole(bytes, self.pace(about.answer, 1.0), presence);
        match step.fault {
            Some(Fault::CutAfter(_)) => body.ending(Ending::Cut),
            Some(Fault::HangAfter(_)) => body.ending(Ending::Hang),
            _ => body,
        }
    }

    fn stream(&self, endpoint: Endpoint, about: &About<'_>, step: &Step, presence: Presence) -> Paced {
        let mut chunks: Vec<_> =
            events(endpoint, about).into_iter().map(|event| (self.pace(about.answer, event.due), event.bytes)).collect();
        let ending = match step.fault {
            Some(Fault::CutAfter(count)) => {
                chunks.truncate(count);
                Ending::Cut
            }
            Some(Fault::HangAfter(count)) => {
                chunks.truncate(count);
                Ending::Hang
            }
            Some(Fault::MalformedAt(index)) => {
                if let Some((_, bytes)) = chunks.get_mut(index) {
                    *bytes = Bytes::from_static(b"data: {\"choices\":[{\"delta\n\n");
                }
                Ending::Done
            }
            _ => Ending::Done,
        };
        let body = Paced::stream(chunks, ending, presence);
        step.chunk_bytes.map(|size| size.max(1)).into_iter().fold(body, Paced::cut_into)
    }

    /// When the part of an answer is due that comes after that share of its time.
    fn pace(&self, answer: &Answer, share: f64) -> Duration {
        if self.options.speed > 0.0 { answer.duration.mul_f64(share / self.options.speed) } else { Duration::ZERO }
    }

    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(keys) = &self.options.api_keys else { return true };
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
        shown.is_some_and(|shown| keys.iter().any(|key| key == shown))
    }

    fn model_names(&self) -> Vec<String> {
        match &self.options.expert {
            Some(expert) => vec![expert.clone()],
            None if self.options.recording.is_empty() => vec!["replay".to_owned()],
            None => self.options.recording.experts().map(str::to_owned).collect(),
        }
    }

    fn step(&self, headers: &HeaderMap) -> Step {
        let asked = headers.get(STEP_HEADER).and_then(|value| value.to_str().ok());
        if let Some(step) = asked.and_then(|text| text.parse().ok()) {
            return step;
        }
        let (script, next) = &mut *self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let step = script.step(*next);
        *next += 1;
        step
    }

    fn keep(&self, head: http::request::Parts, body: &Bytes) {
        if self.options.keep_requests == 0 {
            return;
        }
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if received.len() < self.options.keep_requests {
            let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
            let body = body.clone();
            received.push(Received { method: head.method, path, version: head.version, headers: head.headers, body });
        }
    }
}

fn plain(code: u16, value: &serde_json::Value, presence: Presence) -> Response<Paced> {
    with_type("application/json", code, Paced::whole(value.to_string().into(), Duration::ZERO, presence))
}

fn fault(code: u16, retry_after: Option<&str>, presence: Presence) -> Response<Paced> {
    let mut response = plain(code, &format::error(code, "as the script says"), presence);
    if let Some(value) = retry_after.and_then(|value| HeaderValue::from_str(value).ok()) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

fn streamed(body: Paced) -> Response<Paced> {
    with_type("text/event-stream", 200, body)
}

fn with_type(content_type: &'static str, code: u16, body: Paced) -> Response<Paced> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
