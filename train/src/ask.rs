//! Asking one expert one query over its real endpoint.
//!
//! In: an expert of a snapshot, a conversation. Out: its answer with tokens, seconds, cost and likelihood, or why there is none. Retries
//! are here, since only here is known what failed. Deliberately absent: which queries are asked, how many at once, and what may be spent
//! (`prepare`).

mod answer;
mod attempt;
mod backoff;
mod client;

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
use attempt::Outcome;
pub use backoff::Backoff;

/// What a picture, a sound or a file counts for at most where only its size is known: above the 48,169 tokens that OpenAI counts for the
/// largest picture with the dearest of its tables (gpt-4o-mini: 2,833 and 5,667 for each of eight tiles).
const MOST_PICTURE_TOKENS: usize = 50_000;

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

impl Asker {
    /// Prepares connections to an expert.
    ///
    /// # Errors
    /// Its certificates cannot be read, or the system's.
    pub fn new(expert: &Expert, options: &AskOptions) -> anyhow::Result<Self> {
        let client = client::client(expert)?;
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

    /// The most this body can cost. A token has at least a byte, and each message some tokens of the template's; of an image the bytes,
    /// or the address, say little.
    #[must_use]
    pub fn most_cost_usd(&self, bytes: &[u8]) -> f64 {
        let Some(prices) = self.expert.prices else { return 0.0 };
        let Ok(body) = serde_json::from_slice::<Value>(bytes) else { return f64::INFINITY };
        let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let parts = messages.iter().filter_map(|message| message["content"].as_array()).flatten();
        let pictures = parts.filter(|part| part["type"] != "text").count();
        // Tools and formats are read by the model too.
        let most_tokens = (bytes.len() + 16 * messages.len() + 64 + MOST_PICTURE_TOKENS * pictures) as u64;
        let prompt_tokens = self.expert.context_tokens.map_or(most_tokens, |most| most_tokens.min(most.into()));
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

    /// Asks until there is an answer or no hope. `tell` hears of every attempt, and may break off; `wait` waits so long and then for
    /// this expert's next turn, or breaks off meanwhile.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask(
        &self,
        body: &Bytes,
        busy: usize,
        mut tell: impl FnMut(Attempt) -> ControlFlow<()>,
        wait: impl AsyncFn(Duration) -> ControlFlow<()>,
    ) -> Result<Answer, AskError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            // Read each time, so that a rotated key is taken up.
            let token = self.token()?;
            if tell(Attempt::Sent).is_break() {
                return Err(AskError::Stopped);
            }
            let (last, asked_for, told) = match self.attempt(body, token.as_deref(), busy).await {
                Outcome::Answer(answer) => return Ok(*answer),
                Outcome::Lost(problem) => (problem, None, tell(Attempt::Lost)),
                Outcome::Hopeless(error) => {
                    let told = tell(Attempt::Failed { pause: None });
                    return Err(if told.is_break() { AskError::Stopped } else { error });
                }
                Outcome::Failed { status, problem, retry_after } => {
                    let everyone = status == StatusCode::TOO_MANY_REQUESTS || retry_after.is_some();
                    let pause = everyone.then(|| self.options.backoff.wait(attempts, retry_after));
                    (format!("{status}: {problem}"), retry_after, tell(Attempt::Failed { pause }))
                }
            };
            if told.is_break() {
                return Err(AskError::Stopped);
            }
            if attempts >= self.options.backoff.attempts {
                return Err(AskError::GaveUp { attempts, last });
            }
            if wait(self.options.backoff.wait(attempts, asked_for)).await.is_break() {
                return Err(AskError::Stopped);
            }
        }
    }

    fn token(&self) -> Result<Option<String>, AskError> {
        let Some(path) = &self.expert.credentials_file else { return Ok(None) };
        let token = std::fs::read_to_string(path)
            .map_err(|error| AskError::Credentials { path: path.display().to_string(), problem: error.to_string() })?;
        Ok(Some(token.trim().to_owned()))
    }

    async fn attempt(&self, body: &Bytes, token: Option<&str>, busy: usize) -> Outcome {
        let mut request = self.client.post(&self.url).header(header::CONTENT_TYPE, "application/json").body(body.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let start = Instant::now();
        match attempt::send(request).await {
            Ok(bytes) => attempt::answer(&bytes, start.elapsed(), busy, self.expert.prices.as_ref()),
            Err(outcome) => outcome,
        }
    }
}

#[cfg(test)]
mod tests;
