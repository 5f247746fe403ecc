//! The last requests, for the page of those who look without any tools. In: records. Out: a short list, newest first. No text of any
//! request, and no more than is in its log line.

use std::{collections::VecDeque, sync::Mutex};

use routing::Reason;
use serde::Serialize;

use crate::{
    meter::{Record, milliseconds},
    shared::unix_seconds,
    state::lock,
};

/// So many are remembered.
const MOST: usize = 50;

/// One request that an expert was chosen for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When it ended, seconds since 1970.
    pub at: u64,
    /// As in the response and in the log.
    pub request_id: String,
    /// Of its trace, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// What was asked of us.
    pub endpoint: &'static str,
    /// Who answered, or whose error was passed on.
    pub expert: Option<String>,
    /// Who was chosen first, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// Why.
    pub reason: Option<&'static str>,
    /// How it ended.
    pub outcome: &'static str,
    /// The answer's status; 0 where there was none.
    pub status: u16,
    /// Streamed.
    pub stream: bool,
    /// Of the question.
    pub input_tokens: Option<u64>,
    /// Of the answer.
    pub output_tokens: Option<u64>,
    /// Where prices say so.
    pub cost_usd: Option<f64>,
    /// Less than nothing where the baseline would have been cheaper.
    pub saved_usd: Option<f64>,
    /// From the parsed request to the decision.
    pub decision_ms: Option<f64>,
    /// To the first content of a stream.
    pub first_token_ms: Option<f64>,
    /// From its head to its answer's end.
    pub duration_ms: f64,
}

impl Decision {
    fn of(record: &Record<'_>) -> Self {
        let usage = record.money.map(|money| money.usage);
        Self {
            at: unix_seconds(),
            request_id: record.request_id.to_owned(),
            trace_id: record.trace.map(|trace| trace.to_string()),
            endpoint: record.endpoint.as_str(),
            expert: record.expert.map(str::to_owned),
            chosen: record.chosen.filter(|chosen| record.expert != Some(*chosen)).map(str::to_owned),
            reason: record.reason.map(Reason::as_str),
            outcome: record.outcome.as_str(),
            status: record.status,
            stream: record.stream,
            input_tokens: usage.map(|usage| usage.prompt_tokens),
            output_tokens: usage.map(|usage| usage.completion_tokens),
            cost_usd: record.cost_usd(),
            saved_usd: record.money.and_then(|money| money.savings_usd()),
            decision_ms: record.timing.map(|timing| milliseconds(timing.total)),
            first_token_ms: record.first_token.map(milliseconds),
            duration_ms: milliseconds(record.duration),
        }
    }
}

/// The list.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Decision>>);

impl Recent {
    /// A request has ended.
    pub fn push(&self, record: &Record<'_>) {
        let decision = Decision::of(record);
        let mut decisions = lock(&self.0);
        decisions.truncate(MOST - 1);
        decisions.push_front(decision);
    }

    /// Newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Decision> {
        lock(&self.0).iter().cloned().collect()
    }
}
