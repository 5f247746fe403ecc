//! Phase *meter*: the one step every request ends in, however it ended.
//!
//! A [`Meter`] is made with the request and goes along with it into the body of the answer. Its end is its `Drop`: soon after the last byte,
//! after an error, and also where the client hung up and everything of the request was dropped. In: what the phases noted. Out:
//! counters, money, one log line. Deliberately absent: prompt text, and any word of the client's but the id it gave.

mod later;
mod money;
mod record;
mod served;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use http::HeaderValue;
use model::bundle::Output;
use routing::{Reason, health};
use wire::{Description, sse::Piece};

pub use later::Later;
pub use money::{Money, Work};
pub use record::{Record, milliseconds};
use served::Served;

use crate::{
    aside::Aside,
    controls::stored_key,
    decide::{Choice, Timing},
    failure::Outcome,
    forward::Attempts,
    metrics::{AttemptResult, EndpointLabel, Operation, add_cost},
    shared::Shared,
    state::{Model, Permit, State},
    trace::context::TraceId,
};

/// Everything noted of one request.
#[derive(Debug)]
pub struct Meter {
    shared: Arc<Shared>,
    state: Arc<State>,
    endpoint: EndpointLabel,
    started: Instant,
    /// In every response and log line.
    pub request_id: HeaderValue,
    /// The trace it belongs to: the client's, or one that begins here.
    pub trace: Option<TraceId>,
    /// The client key's name.
    pub client: Option<Arc<str>>,
    /// The client asked for a stream.
    pub stream: bool,
    /// What was tried.
    pub attempts: Attempts,
    /// What is done with it beside answering it.
    pub aside: Aside,
    decided: Option<Decided>,
    served: Option<Box<Served>>,
    outcome: Outcome,
    status: u16,
}

#[derive(Debug)]
struct Decided {
    expert: usize,
    reason: Reason,
    prompt_tokens: u64,
    timing: Timing,
}

impl Meter {
    /// Begins with the request. Until something else is known, a request that ends was given up by its client, or is cut with the process.
    #[must_use]
    pub fn new(shared: Arc<Shared>, state: Arc<State>, endpoint: EndpointLabel, request_id: HeaderValue) -> Box<Self> {
        shared.open_requests.fetch_add(1, Ordering::AcqRel);
        Box::new(Self {
            shared,
            state,
            endpoint,
            started: Instant::now(),
            request_id,
            trace: None,
            client: None,
            stream: false,
            attempts: Attempts::default(),
            aside: Aside::default(),
            decided: None,
            served: None,
            outcome: Outcome::ClientGone,
            status: 0,
        })
    }

    /// The state the request is served by.
    #[must_use]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// What all requests share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// An expert was chosen.
    pub fn decided(&mut self, choice: &Choice) {
        self.attempts.trace.note(|notes| notes.decided(choice));
        let decision = &choice.decision;
        self.state.experts[decision.expert].metrics.decided(decision.reason);
        if let Some(Ok(scores)) = &choice.scores {
            self.predicted(&scores.quality, decision.expert);
        }
        self.decided =
            Some(Decided { expert: decision.expert, reason: decision.reason, prompt_tokens: choice.prompt_tokens, timing: choice.timing });
    }

    /// What the model thinks of the choice. Differences of scores mean the same whatever a bundle gives; scores themselves only where it
    /// gives scores.
    fn predicted(&self, quality: &[f32], chosen: usize) {
        let best = quality.iter().copied().filter(|score| score.is_finite()).max_by(f32::total_cmp).map(f64::from);
        let chosen = quality.get(chosen).copied().filter(|score| score.is_finite()).map(f64::from);
        let (Some(best), Some(chosen), metrics) = (best, chosen, &self.shared.metrics) else { return };
        metrics.predicted_loss.observe(best - chosen);
        if let Model::Ready(bound) = &self.state.model
            && bound.engine.bundle().manifest.output == Output::Scores
        {
            metrics.best_score.observe(best);
            metrics.chosen_score.observe(chosen);
        }
    }

    /// An expert's answer, or its error, goes to the client.
    pub fn served(&mut self, permit: Permit, operation: Operation, sent: Instant, status: u16) {
        self.status = status;
        self.served = Some(Box::new(Served::new(permit, operation, sent, status)));
    }

    /// The request ended with an answer of our own.
    pub fn ended(&mut self, outcome: Outcome, status: u16) {
        (self.outcome, self.status) = (outcome, status);
    }

    /// How the request stands; the last word counts.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// A piece of a stream passed.
    pub fn piece(&mut self, piece: &Piece) {
        let Some(served) = &mut self.served else { return };
        served.piece(piece);
        self.attempts.trace.note(|notes| notes.described(piece.description.clone()));
        self.aside.piece(&piece.out);
        if let Some(id) = &piece.response_id {
            self.keeps(id);
        }
    }

    /// The expert that answers keeps its response under this id. Noted at once: the client may go on from it as soon as it has the id.
    fn keeps(&self, id: &str) {
        let Some(served) = self.served.as_ref().filter(|served| served.answered) else { return };
        self.shared.stored.put(self.state.generation, stored_key(id), served.permit.expert().index, self.shared.now());
    }

    /// A whole body was seen; gives its cost, which still fits into a header.
    pub fn whole(&mut self, body: &[u8], readable: bool) -> Option<f64> {
        if readable
            && self.endpoint == EndpointLabel::Responses
            && let Some(id) = wire::stored::id_of_body(body)
        {
            self.keeps(&id);
        }
        let served = self.served.as_mut()?;
        served.whole(body, readable);
        if readable {
            self.aside.piece(body);
            self.attempts.trace.note(|notes| notes.described(Description::of_body(body)));
        }
        if !served.answered {
            return None;
        }
        self.money().filter(|money| money.priced).map(|money| money.cost_usd)
    }

    /// A piece of a body too large to be looked into, but for its ends.
    pub fn passed(&mut self, bytes: &[u8]) {
        if let Some(served) = &mut self.served {
            served.passed(bytes);
        }
    }

    /// The expert's metrics, once one answers.
    pub fn broke_off(&mut self, cause: crate::metrics::CutCause) {
        self.outcome = Outcome::UpstreamCut;
        if let Some(served) = &self.served {
            served.permit.expert().metrics.broke_off(cause);
        }
    }

    /// What the answer cost, worked out once.
    fn money(&mut self) -> Option<Money> {
        let prompt_tokens = self.decided.as_ref().map_or(0, |decided| decided.prompt_tokens);
        // `prependMessages` are put before these alone.
        let instructed = matches!(self.endpoint, EndpointLabel::ChatCompletions | EndpointLabel::Responses);
        self.served.as_mut().map(|served| served.money(&self.state.table, prompt_tokens, instructed))
    }

    fn settle(&mut self) {
        let _span = tracing::debug_span!("meter").entered();
        if self.outcome == Outcome::ClientGone && self.shared.cut.load(Ordering::Acquire) {
            self.outcome = Outcome::Shutdown;
        }
        let duration = self.started.elapsed();
        self.shared.metrics.request_ended(self.endpoint, self.outcome, self.status, duration.as_secs_f64());
        let answered = self.served.as_ref().is_some_and(|served| served.answered);
        let money = if answered { self.money() } else { None };
        if let Some(money) = &money {
            self.count_money(money);
        }
        let outcome = self.outcome;
        if let Some(served) = &mut self.served {
            served.count(outcome, money.as_ref());
            let health = if outcome == Outcome::UpstreamCut { health::Outcome::Failure } else { health::Outcome::Success };
            // An error passed on was reported when it came.
            if served.answered {
                served.permit.report(health, self.shared.now());
            }
        }
        let traced = self.attempts.trace.take();
        let logged = tracing::enabled!(target: "expert_router::request", tracing::Level::INFO);
        let mut aside = std::mem::take(&mut self.aside);
        if logged || traced.is_some() || self.decided.is_some() {
            let record = self.record(duration, money);
            if logged {
                record.log();
            }
            if let (Some(notes), Some(tracer)) = (traced, &self.shared.tracer) {
                tracer.end(&notes, &record, &self.state);
            }
            if self.decided.is_some() {
                self.shared.recent.push(&record);
            }
            aside.end(&self.shared, &record);
        }
    }

    fn count_money(&self, money: &Money) {
        let budgets = &self.state.table.snapshot().budgets;
        let client = self.client.as_deref();
        if money.cost_usd > 0.0 {
            self.shared.spend.spend(budgets, client, money.cost_usd);
            add_cost(&self.shared.metrics.client_cost.with_label_values(&[client.unwrap_or_default()]), money.cost_usd);
        }
        if let Some(savings) = money.savings_usd() {
            self.shared.metrics.savings.add(savings);
        }
    }

    /// `expert:result` of each attempt that came to nothing.
    fn failed(&self) -> Option<String> {
        let one = |(index, result): &(usize, AttemptResult)| format!("{}:{}", self.state.experts[*index].name, result.as_str());
        let failed = &self.attempts.failed;
        (!failed.is_empty()).then(|| failed.iter().map(one).collect::<Vec<_>>().join(","))
    }

    /// All that is known by now. Made only where somebody listens.
    fn record(&self, duration: Duration, money: Option<Money>) -> Record<'_> {
        let decided = self.decided.as_ref();
        let served = self.served.as_ref();
        Record {
            started: self.started,
            duration,
            request_id: self.request_id.to_str().unwrap_or_default(),
            trace: self.trace,
            endpoint: self.endpoint,
            outcome: self.outcome,
            status: self.status,
            client: self.client.as_deref(),
            expert: served.map(|served| served.permit.expert().name.as_str()),
            chosen: decided.map(|decided| self.state.experts[decided.expert].name.as_str()),
            reason: decided.map(|decided| decided.reason),
            stream: self.stream,
            attempts: self.attempts.sent,
            failed: self.failed(),
            money,
            timing: decided.map(|decided| decided.timing),
            first_token: served.and_then(|served| served.first_content),
            answer: served.map(|served| served.sent.elapsed()),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.settle();
        self.shared.open_requests.fetch_sub(1, Ordering::AcqRel);
    }
}
