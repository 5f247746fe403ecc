//! What is known of a request once an expert's answer is on its way to the client: its usage, its bill, the expert's own counters.

use std::time::{Duration, Instant};

use routing::Table;
use wire::{Usage, sse::Piece, usage::Seeker};

use super::{Money, Work};
use crate::{
    failure::Outcome,
    metrics::{Operation, add_cost},
    state::Permit,
};

/// An expert's answer, or its error, as far as it went to the client.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) permit: Permit,
    operation: Operation,
    pub(super) sent: Instant,
    /// It is an answer and not an error.
    pub(super) answered: bool,
    usage: Option<Usage>,
    content_events: u64,
    content_bytes: u64,
    seeker: Seeker,
    pub(super) first_content: Option<Duration>,
    money: Option<Money>,
}

impl Served {
    pub(super) fn new(permit: Permit, operation: Operation, sent: Instant, status: u16) -> Self {
        Self {
            permit,
            operation,
            sent,
            answered: (200..300).contains(&status),
            usage: None,
            content_events: 0,
            content_bytes: 0,
            seeker: Seeker::default(),
            first_content: None,
            money: None,
        }
    }

    /// A piece of a stream passed.
    pub(super) fn piece(&mut self, piece: &Piece) {
        if piece.seen.content && self.first_content.is_none() {
            self.first_content = Some(self.sent.elapsed());
        }
        self.usage = piece.seen.usage.or(self.usage);
        self.content_events += u64::from(piece.content_events);
        self.content_bytes += piece.content_bytes as u64;
    }

    /// A whole body was seen.
    pub(super) fn whole(&mut self, body: &[u8], readable: bool) {
        self.usage = if readable { Usage::of_body(body) } else { None };
        if self.usage.is_none() {
            let text = if readable { wire::answer::text_bytes(body) } else { None };
            self.content_bytes = text.unwrap_or(body.len()) as u64;
        }
    }

    /// A piece of a body too large to be looked into, but for its ends.
    pub(super) fn passed(&mut self, bytes: &[u8]) {
        self.content_bytes += bytes.len() as u64;
        self.seeker.push(bytes);
    }

    /// What the answer cost, worked out once. `instructed`: the request is of a kind that an expert's own messages go before.
    pub(super) fn money(&mut self, table: &Table, prompt_tokens: u64, instructed: bool) -> Money {
        if let Some(money) = self.money {
            return money;
        }
        let index = self.permit.expert().index;
        self.usage = self.usage.or_else(|| self.seeker.usage());
        let usage = self.usage.unwrap_or_else(|| {
            let completion_tokens = match self.operation {
                // Vectors are not written, however long they are.
                Operation::Embeddings => 0,
                // One event carries one token with most servers; four bytes of text are one token where an event carries more.
                Operation::Chat | Operation::TextCompletion => self.content_events.max(self.content_bytes.div_ceil(4)),
            };
            Usage { prompt_tokens: prompt_tokens + table.prepended_tokens(index), completion_tokens, cached_tokens: 0 }
        });
        let busy_seconds = self.sent.elapsed().as_secs_f64() / self.permit.mean_at_once().max(1.0);
        let embeds = self.operation == Operation::Embeddings;
        let money = Money::of(table, &Work { expert: index, usage, estimated: self.usage.is_none(), busy_seconds, instructed, embeds });
        self.money = Some(money);
        money
    }

    /// The expert's own counters.
    pub(super) fn count(&self, outcome: Outcome, money: Option<&Money>) {
        let metrics = &self.permit.expert().metrics;
        let seconds = self.sent.elapsed().as_secs_f64();
        metrics.operation_ended(self.operation, outcome, seconds);
        let Some(money) = money else { return };
        metrics.input_tokens.inc_by(money.usage.prompt_tokens);
        metrics.cached_tokens.inc_by(money.usage.cached_tokens);
        metrics.output_tokens.inc_by(money.usage.completion_tokens);
        if money.estimated {
            metrics.usage_missing.inc();
        }
        if money.priced {
            add_cost(&metrics.cost, money.cost_usd);
        } else {
            metrics.unpriced.inc();
        }
        if let Some(baseline) = money.baseline_usd.filter(|_| money.priced) {
            add_cost(&metrics.baseline_cost, baseline);
        }
        let operation = metrics.operation(self.operation);
        operation.input.observe(money.usage.prompt_tokens as f64);
        operation.output.observe(money.usage.completion_tokens as f64);
        let completion = money.usage.completion_tokens as f64;
        if completion > 0.0 && seconds > 0.0 {
            metrics.tokens_per_second.observe(completion / seconds);
        }
        if let Some(first) = self.first_content.map(|first| first.as_secs_f64()) {
            operation.first_token.observe(first);
            if completion > 1.0 {
                operation.per_token.observe((seconds - first).max(0.0) / (completion - 1.0));
            }
        }
    }
}
