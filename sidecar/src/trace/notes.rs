//! What is noted of a traced request while it is under way, beside what its meter knows: names of spans, times, parameters. No text of it.

use std::time::{Duration, Instant};

use http::{HeaderValue, Request, header};
use routing::{ScoreFailure, Scores, table::ExpertIndex};
use wire::{Description, Inbound};

use super::context::{self, Parent, SpanId, TraceId};
use crate::{decide::Choice, metrics::AttemptResult};

/// Names that clients make up are cut at this many bytes.
const MAX_TEXT: usize = 256;

/// A request that becomes spans.
#[derive(Debug)]
pub struct Notes {
    pub(super) trace: TraceId,
    pub(super) parent: Option<Parent>,
    pub(super) state: String,
    pub(super) flags: u8,
    pub(super) own: SpanId,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) version: &'static str,
    pub(super) user_agent: Option<String>,
    pub(super) read: Option<Duration>,
    pub(super) asked: Option<Asked>,
    pub(super) decision: Option<Decided>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) description: Description,
}

/// What the client asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) choices: u64,
    pub(super) max_tokens: Option<u64>,
    /// In the order of [`PARAMETERS`].
    pub(super) parameters: [Option<f64>; 6],
}

/// Parameters of OpenAI's requests that have a name in the conventions.
pub(super) const PARAMETERS: [&str; 6] = ["temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed"];

/// The decision.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) ended: Instant,
    pub(super) prompt_tokens: u64,
    pub(super) predicted_cost_usd: Option<f64>,
    pub(super) scores: Option<Result<Scores, ScoreFailure>>,
}

/// A request sent to an expert.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) span: SpanId,
    pub(super) expert: ExpertIndex,
    pub(super) sent: Instant,
    /// None: it goes on to the end of the request, or was given up with it.
    pub(super) ended: Option<Instant>,
    pub(super) status: Option<u16>,
    pub(super) result: Option<AttemptResult>,
}

impl Notes {
    pub(super) fn new<B>(trace: TraceId, parent: Option<Parent>, request: &Request<B>) -> Self {
        let headers = request.headers();
        Self {
            trace,
            flags: context::flags(parent.as_ref(), true),
            // Without a parent there is nothing the state could belong to.
            state: parent.map(|_| context::state(headers)).unwrap_or_default(),
            parent,
            own: SpanId::fresh(),
            method: request.method().as_str().to_owned(),
            path: cut(request.uri().path()),
            version: version(request.version()),
            user_agent: headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(cut),
            read: None,
            asked: None,
            decision: None,
            attempts: Vec::new(),
            description: Description::default(),
        }
    }

    /// The body was read, in that time, and understood.
    pub fn asked(&mut self, inbound: &Inbound, read: Duration) {
        self.read = Some(read);
        self.asked = Some(Asked {
            model: cut(inbound.model().unwrap_or(routing::AUTO)),
            choices: inbound.choices(),
            max_tokens: inbound.max_output_tokens(),
            parameters: inbound.numbers(PARAMETERS),
        });
    }

    /// An expert was chosen, just now.
    pub fn decided(&mut self, choice: &Choice) {
        self.decision = Some(Decided {
            ended: Instant::now(),
            prompt_tokens: choice.prompt_tokens,
            predicted_cost_usd: choice.decision.predicted_cost_usd,
            scores: choice.scores.clone(),
        });
    }

    /// A request goes to an expert; gives what it is told of the trace.
    pub fn sent(&mut self, expert: ExpertIndex, sent: Instant) -> HeaderValue {
        let span = SpanId::fresh();
        self.attempts.push(Attempt { span, expert, sent, ended: None, status: None, result: None });
        context::header(self.trace, span, self.flags)
    }

    /// The last request sent came to nothing.
    pub fn failed(&mut self, result: AttemptResult, status: Option<u16>) {
        if let Some(attempt) = self.attempts.last_mut() {
            (attempt.ended, attempt.status, attempt.result) = (Some(Instant::now()), status, Some(result));
        }
    }

    /// The last request sent is answered.
    pub fn answered(&mut self, status: u16) {
        if let Some(attempt) = self.attempts.last_mut() {
            let result = if (400..500).contains(&status) { AttemptResult::ClientError } else { AttemptResult::Ok };
            (attempt.status, attempt.result) = (Some(status), Some(result));
        }
    }

    /// What the answer says of itself, or a piece of it does.
    pub fn described(&mut self, description: Description) {
        self.description.add(description);
    }
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "0.9",
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// The beginning of a text of somebody else's.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"\u{1F600}".repeat(100)).len(), MAX_TEXT);
        assert_eq!(cut(&format!("x{}", "\u{1F600}".repeat(100))).len(), MAX_TEXT - 3);
    }
}
