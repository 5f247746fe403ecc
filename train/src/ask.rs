//! Asking one expert one query over its real endpoint.
//!
//! In: an expert of a snapshot, a conversation. Out: its answer with tokens, seconds, cost and likelihood, or why there is none. Retries
//! are here, since only here is known what failed. Deliberately absent: which queries are asked, how many at once, and what may be spent
//! (`prepare`).

mod answer;
mod backoff;

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Client, StatusCode, header};
use routing::snapshot::Expert;
use serde_json::{Value, json};
use wire::{Endpoint, Inbound, Outbound};

pub use answer::Answer;
pub use backoff::{Backoff, retry_after};

/// How questions are put.
#[derive(Debug, Clone)]
pub struct AskOptions {
    /// Completion tokens asked for where the expert's own `bodyOverrides` set no limit: many servers have none.
    pub max_tokens: u64,
    /// Ask for log-probabilities where the expert has them.
    pub logprobs: bool,
    /// When and how often to ask again.
    pub backoff: Backoff,
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// Nothing that more patience would mend: the key is wrong, or there is no such endpoint or model.
    #[error("{status}: {message}")]
    Refused {
        /// What it answered.
        status: StatusCode,
        /// Its words, cut short.
        message: String,
    },
    /// This request cannot be answered by this expert, others may.
    #[error("{status}: {message}")]
    Unanswerable {
        /// What it answered.
        status: StatusCode,
        /// Its words, cut short.
        message: String,
    },
    /// All attempts failed.
    #[error("{last} (tried {attempts} times)")]
    GaveUp {
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt came to.
        last: String,
    },
    /// The conversation cannot be sent.
    #[error("the query is no chat request: {0}")]
    Query(String),
    /// Whoever hears of attempts wanted no further one.
    #[error("not asked any further")]
    Stopped,
    /// The expert's token cannot be read.
    #[error("cannot read the token in {path}: {problem}")]
    Credentials {
        /// Which file.
        path: String,
        /// Why.
        problem: String,
    },
}

/// What an attempt came to, for whoever keeps the books and the pace.
#[derive(Debug, Clone, Copy)]
pub enum Attempt {
    /// About to be sent.
    Sent,
    /// Not answered, and may have been paid for: the connection broke, or patience ended.
    Lost,
    /// Answered with an error: nobody pays for those.
    Failed {
        /// Whoever asks this expert should wait so long, not this request alone.
        pause: Option<Duration>,
    },
}

/// Asks one expert.
#[derive(Debug, Clone)]
pub struct Asker {
    expert: Expert,
    client: Client,
    url: String,
    options: AskOptions,
}

/// Longer answers are an expert's mistake.
const MOST_ANSWER_BYTES: usize = 64 << 20;

impl Asker {
    /// Prepares connections to an expert.
    ///
    /// # Errors
    /// Its certificates cannot be read, or the system's.
    pub fn new(expert: &Expert, options: &AskOptions) -> anyhow::Result<Self> {
        let client = client(expert)?;
        let url = format!("{}{}", expert.base_url, Endpoint::ChatCompletions.path());
        Ok(Self { expert: expert.clone(), client, url, options: options.clone() })
    }

    /// Who is asked.
    #[must_use]
    pub fn expert(&self) -> &Expert {
        &self.expert
    }

    /// The body that will be sent for a conversation: with the expert's own messages before it and its overrides.
    ///
    /// # Errors
    /// The messages are none.
    pub fn body(&self, messages: &[Value]) -> Result<Bytes, AskError> {
        let mut body = json!({"messages": messages});
        if !self.limits_output() {
            body["max_tokens"] = self.options.max_tokens.into();
        }
        if self.options.logprobs && self.expert.capabilities.contains(&routing::snapshot::Capability::Logprobs) {
            body["logprobs"] = true.into();
        }
        let inbound = Inbound::parse(Endpoint::ChatCompletions, body.to_string().into()).map_err(|error| AskError::Query(error.message))?;
        Ok(inbound.outbound(&Outbound {
            model_name: &self.expert.model_name,
            prepend_messages: &self.expert.prepend_messages,
            body_overrides: &self.expert.body_overrides,
            ask_usage: false,
        }))
    }

    fn limits_output(&self) -> bool {
        ["max_tokens", "max_completion_tokens"].iter().any(|name| self.expert.body_overrides.get(*name).is_some_and(Value::is_u64))
    }

    /// The most this body can cost. A token has at least a byte, and each message some tokens of the template's.
    #[must_use]
    pub fn most_cost_usd(&self, body: &[u8]) -> f64 {
        let Some(prices) = self.expert.prices else { return 0.0 };
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return f64::INFINITY };
        let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let bytes: usize = messages.iter().map(|message| message.to_string().len() + 16).sum();
        let prompt_tokens = self.expert.context_tokens.map_or(bytes as u64 + 64, |most| u64::from(most).min(bytes as u64 + 64));
        let completion_tokens = self.most_output_tokens(&body) * body["n"].as_u64().unwrap_or(1).max(1);
        let usage = wire::Usage { prompt_tokens, completion_tokens, cached_tokens: 0 };
        prices.cost_usd(usage, if prices.per_hour > 0.0 { self.total_timeout().as_secs_f64() } else { 0.0 })
    }

    /// What this body will cost if it is like most: four letters a token, an answer of the expected length.
    #[must_use]
    pub fn likely_cost_usd(&self, body: &[u8], completion_tokens: Option<f64>) -> f64 {
        let (Some(prices), Ok(body)) = (self.expert.prices, serde_json::from_slice::<Value>(body)) else { return 0.0 };
        let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let letters: usize = messages.iter().map(|message| message["content"].as_str().map_or(0, |text| text.chars().count()) + 16).sum();
        let completion_tokens = completion_tokens.map_or_else(|| self.most_output_tokens(&body), |tokens| tokens.ceil() as u64);
        prices.cost_usd(wire::Usage { prompt_tokens: letters as u64 / 4, completion_tokens, cached_tokens: 0 }, 0.0)
    }

    fn most_output_tokens(&self, body: &Value) -> u64 {
        let told = ["max_completion_tokens", "max_tokens"].iter().find_map(|name| body[*name].as_u64());
        told.unwrap_or(self.options.max_tokens)
    }

    fn total_timeout(&self) -> Duration {
        Duration::from_millis(self.expert.timeouts.total_milliseconds)
    }

    /// For whatever else is asked of the expert's server.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks until there is an answer or no hope. `tell` hears of every attempt, and may break off.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask(&self, body: &Bytes, busy: usize, mut tell: impl FnMut(Attempt) -> ControlFlow<()>) -> Result<Answer, AskError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            if tell(Attempt::Sent).is_break() {
                return Err(AskError::Stopped);
            }
            let (last, asked_for, told) = match self.attempt(body, busy).await? {
                Outcome::Answer(answer) => return Ok(*answer),
                Outcome::Lost(problem) => {
                    let told = tell(Attempt::Lost);
                    (problem, None, told)
                }
                Outcome::Failed { status, problem, retry_after } => {
                    let everyone = status == StatusCode::TOO_MANY_REQUESTS || retry_after.is_some();
                    let pause = everyone.then(|| self.options.backoff.wait(attempts, retry_after));
                    let told = tell(Attempt::Failed { pause });
                    (format!("{status}: {problem}"), retry_after, told)
                }
            };
            if told.is_break() {
                return Err(AskError::Stopped);
            }
            if attempts >= self.options.backoff.attempts {
                return Err(AskError::GaveUp { attempts, last });
            }
            tokio::time::sleep(self.options.backoff.wait(attempts, asked_for)).await;
        }
    }

    async fn attempt(&self, body: &Bytes, busy: usize) -> Result<Outcome, AskError> {
        let mut request = self.client.post(&self.url).header(header::CONTENT_TYPE, "application/json").body(body.clone());
        if let Some(path) = &self.expert.credentials_file {
            // Read each time, so that a rotated key is taken up.
            let token = std::fs::read_to_string(path)
                .map_err(|error| AskError::Credentials { path: path.display().to_string(), problem: error.to_string() })?;
            request = request.bearer_auth(token.trim());
        }
        let start = Instant::now();
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(lost_or_failed(&error)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = match read(response).await {
            Ok(bytes) => bytes,
            Err(problem) => return Ok(Outcome::Lost(problem)),
        };
        if !status.is_success() {
            return self.refusal(status, &headers, &bytes);
        }
        match Answer::parse(&bytes, start.elapsed().as_secs_f64(), busy, self.expert.prices.as_ref()) {
            Ok(answer) => Ok(Outcome::Answer(Box::new(answer))),
            Err(problem) => Ok(Outcome::Lost(problem)),
        }
    }

    fn refusal(&self, status: StatusCode, headers: &header::HeaderMap, bytes: &[u8]) -> Result<Outcome, AskError> {
        let problem = answer::error_message(bytes);
        let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT;
        match status {
            _ if again => Ok(Outcome::Failed { status, problem, retry_after: retry_after(headers, std::time::SystemTime::now()) }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                Err(AskError::Refused { status, message: problem })
            }
            _ => Err(AskError::Unanswerable { status, message: problem }),
        }
    }
}

enum Outcome {
    Answer(Box<Answer>),
    Lost(String),
    Failed { status: StatusCode, problem: String, retry_after: Option<Duration> },
}

/// A connection that never stood cannot have cost anything.
fn lost_or_failed(error: &reqwest::Error) -> Outcome {
    let problem = causes(error);
    if error.is_connect() || error.is_builder() {
        Outcome::Failed { status: StatusCode::SERVICE_UNAVAILABLE, problem, retry_after: None }
    } else {
        Outcome::Lost(problem)
    }
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| causes(&error))? {
        if bytes.len() + piece.len() > MOST_ANSWER_BYTES {
            return Err(format!("the answer is longer than {} MiB", MOST_ANSWER_BYTES >> 20));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// An error with what led to it; without the address, which the caller knows.
fn causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { "the connection failed".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn client(expert: &Expert) -> anyhow::Result<Client> {
    use anyhow::Context;
    // Whoever was first has chosen; it is the same provider everywhere in this workspace.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeouts = &expert.timeouts;
    let mut builder = Client::builder()
        .user_agent(concat!("expert-router-train/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_millis(timeouts.connect_milliseconds))
        // An answer that does not stream has its head at its end: only the whole can be timed.
        .timeout(Duration::from_millis(timeouts.total_milliseconds))
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &expert.ca_file {
        let pem = std::fs::read(path).with_context(|| format!("expert {}: reading {}", expert.name, path.display()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).with_context(|| format!("certificates in {}", path.display()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().with_context(|| format!("preparing connections to expert {}", expert.name))
}

#[cfg(test)]
mod tests;
