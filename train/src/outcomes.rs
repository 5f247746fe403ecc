//! The outcomes file: what every expert made of every query, one query a line.
//!
//! In: JSON lines, plain, gzip or zstd (told by their first bytes). Out: rows, each checked by itself, read one at a time. Every error
//! names file and line. Deliberately absent: what a step needs of the rows together (`data.rs`).

mod read;
mod write;

use serde::{Deserialize, Serialize};

pub use read::{MAX_LINE_BYTES, OutcomesError, Place, Reader, file_sha256, read};
pub use write::Writer;

/// One query and what the experts made of it. Unknown fields are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a JSON object")]
pub struct Row {
    /// Unique in the file.
    pub id: String,
    /// What kind of query it is; evaluation reports by it, training may use it as a label. Never needed at serving.
    #[serde(default)]
    pub dataset: String,
    /// Absent: by [`Row::split`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Near-duplicates share one: never on both sides of a fold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// This, or `messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A conversation, as the chat endpoint takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<serde_json::Value>>,
    /// The right answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Where the experts count alike; an outcome's own count goes before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<f64>,
    /// At most one per expert.
    #[serde(default)]
    pub outcomes: Vec<Outcome>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// Which rows may be learnt from, chosen on, and only reported on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Learnt from.
    Train,
    /// Chosen on.
    Val,
    /// Only reported on.
    Test,
}

/// What one expert made of a query.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(expecting = "a JSON object")]
pub struct Outcome {
    /// The expert's name, as in the router's manifest.
    pub expert: String,
    /// Correctness, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// BERTScore F1 of the response against the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bertsim: Option<f64>,
    /// Mean negative log-likelihood per completion token, nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nll: Option<f64>,
    /// As the expert's server counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<f64>,
    /// As the expert's server counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<f64>,
    /// Of the prompt tokens, those from the server's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<f64>,
    /// From sending the request to the end of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Its share of the expert's time: the seconds by the requests the expert had at once. For experts that are paid by the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_seconds: Option<f64>,
    /// What the answer cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl Split {
    /// As in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl std::str::FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "train" => Ok(Self::Train),
            "val" => Ok(Self::Val),
            "test" => Ok(Self::Test),
            _ => Err(format!("`{text}` is none of train, val, test")),
        }
    }
}

impl Row {
    /// The row's own split; without one, 80 % train, 10 % val, 10 % test by the SHA-256 of its group (else its id), so that
    /// near-duplicates stay together and a longer file leaves earlier rows where they were.
    #[must_use]
    pub fn split(&self) -> Split {
        use sha2::Digest;
        self.split.unwrap_or_else(|| {
            let digest = sha2::Sha256::digest(self.group.as_deref().unwrap_or(&self.id).as_bytes());
            match u16::from_be_bytes([digest[0], digest[1]]) % 100 {
                0..80 => Split::Train,
                80..90 => Split::Val,
                _ => Split::Test,
            }
        })
    }

    /// What is wrong with the row by itself.
    ///
    /// # Errors
    /// The first problem, with the field's name.
    pub fn check(&self) -> Result<(), String> {
        if self.id.is_empty() {
            return Err("id: must not be empty".into());
        }
        if self.prompt.is_none() && self.messages.is_none() {
            return Err("prompt: either this or messages is needed".into());
        }
        at_least_zero("prompt_tokens", self.prompt_tokens)?;
        for (at, outcome) in self.outcomes.iter().enumerate() {
            outcome.check().map_err(|problem| format!("outcomes[{at}].{problem}"))?;
            if self.outcomes[..at].iter().any(|earlier| earlier.expert == outcome.expert) {
                return Err(format!("outcomes[{at}].expert: `{}` is there twice", outcome.expert));
            }
        }
        Ok(())
    }
}

impl Outcome {
    fn check(&self) -> Result<(), String> {
        if self.expert.is_empty() {
            return Err("expert: must not be empty".into());
        }
        if self.score.is_some_and(|score| !(0.0..=1.0).contains(&score)) {
            return Err("score: must be from 0 to 1".into());
        }
        if self.bertsim.is_some_and(|bertsim| !(-1.0..=1.0 + 1e-6).contains(&bertsim)) {
            return Err("bertsim: must be from -1 to 1".into());
        }
        if self.nll.is_some_and(|nll| !nll.is_finite()) {
            return Err("nll: must be finite".into());
        }
        at_least_zero("prompt_tokens", self.prompt_tokens)?;
        at_least_zero("completion_tokens", self.completion_tokens)?;
        at_least_zero("cached_tokens", self.cached_tokens)?;
        at_least_zero("seconds", self.seconds)?;
        at_least_zero("busy_seconds", self.busy_seconds)?;
        at_least_zero("cost_usd", self.cost_usd)
    }
}

fn at_least_zero(field: &str, value: Option<f64>) -> Result<(), String> {
    match value {
        Some(value) if !(value.is_finite() && value >= 0.0) => Err(format!("{field}: must be finite and at least 0")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
