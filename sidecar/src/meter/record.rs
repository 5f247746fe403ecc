//! All that is known of a request at its end, gathered once: the log line is made from it, and whoever else tells of single requests
//! (spans, the request log, the dashboard's list) reads the same.

use std::time::{Duration, Instant};

use routing::Reason;

use super::Money;
use crate::{decide::Timing, failure::Outcome, metrics::EndpointLabel, trace::context::TraceId};

/// A request that ended.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When it came.
    pub started: Instant,
    /// All it took.
    pub duration: Duration,
    /// In the response and in every line.
    pub request_id: &'a str,
    /// The trace it belongs to, where there is one.
    pub trace: Option<TraceId>,
    /// What was asked of us.
    pub endpoint: EndpointLabel,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer's status; 0 where there was none.
    pub status: u16,
    /// The client key's name.
    pub client: Option<&'a str>,
    /// Who answered, or whose error was passed on.
    pub expert: Option<&'a str>,
    /// Who was chosen first.
    pub chosen: Option<&'a str>,
    /// Why.
    pub reason: Option<Reason>,
    /// The client asked for a stream.
    pub stream: bool,
    /// Requests sent to experts.
    pub attempts: u32,
    /// `expert:result` of each attempt that came to nothing, with commas between.
    pub failed: Option<String>,
    /// The bill, where there was an answer.
    pub money: Option<Money>,
    /// What the decision took, where there was one.
    pub timing: Option<Timing>,
    /// From sending to the first content of a stream.
    pub first_token: Option<Duration>,
    /// From sending the request to the expert to the end of its answer.
    pub answer: Option<Duration>,
}

impl Record<'_> {
    /// What it cost, where prices say so.
    #[must_use]
    pub fn cost_usd(&self) -> Option<f64> {
        self.money.filter(|money| money.priced).map(|money| money.cost_usd)
    }

    /// What the baseline would have cost, where it has prices.
    #[must_use]
    pub fn baseline_usd(&self) -> Option<f64> {
        self.money.and_then(|money| money.baseline_usd)
    }

    /// One line a request.
    pub(super) fn log(&self) {
        let usage = self.money.map(|money| money.usage);
        tracing::info!(
            target: "expert_router::request",
            request_id = self.request_id,
            trace_id = self.trace.map(tracing::field::display),
            endpoint = self.endpoint.as_str(),
            outcome = self.outcome.as_str(),
            status = self.status,
            client = self.client,
            expert = self.expert,
            chosen = self.chosen,
            reason = self.reason.map(Reason::as_str),
            stream = self.stream,
            attempts = self.attempts,
            failed = self.failed.as_deref(),
            input_tokens = usage.map(|usage| usage.prompt_tokens),
            cached_tokens = usage.map(|usage| usage.cached_tokens),
            output_tokens = usage.map(|usage| usage.completion_tokens),
            estimated = self.money.map(|money| money.estimated),
            cost_usd = self.cost_usd(),
            baseline_cost_usd = self.baseline_usd(),
            decision_ms = self.timing.map(|timing| milliseconds(timing.total)),
            first_token_ms = self.first_token.map(milliseconds),
            duration_ms = milliseconds(self.duration),
            "request"
        );
    }
}

/// With three decimals' worth of meaning.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
