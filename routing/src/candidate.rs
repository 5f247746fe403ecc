//! Who may take a request at all, and what each is predicted to give and to cost.
//!
//! Figures the model does not have are filled in the same way for all, so that an expert is never preferred for being unknown:
//! output tokens and seconds by the mean of the experts that have them, else by a stated assumption; a price that nobody stated counts as
//! the dearest candidate's.

use wire::Usage;

use crate::{
    choose::{ExpertState, Refusal, Request, Scores},
    table::{ExpertIndex, Table},
};

/// Where neither the model nor the client says how long an answer is: a common chat answer.
const ASSUMED_OUTPUT_TOKENS: f64 = 256.0;
/// Where the model does not know an expert's seconds: a mid-sized model on a GPU.
const ASSUMED_TOKENS_PER_SECOND: f64 = 50.0;

/// An expert that may take the request, with what is predicted of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) expert: ExpertIndex,
    /// Minus infinity where the model gave none.
    pub(crate) quality: f64,
    pub(crate) cost_usd: f64,
    pub(crate) seconds: f64,
    /// The cost rests on known prices and a known length.
    pub(crate) cost_known: bool,
}

/// What may keep an expert from taking a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits<'a> {
    table: &'a Table,
    request: &'a Request,
    state: &'a [ExpertState],
    /// Whether experts that asked for a pause get it.
    pauses: bool,
}

impl<'a> Limits<'a> {
    /// Pauses hold as long as somebody else can answer. Where nobody can, the client is better served by the paused expert's own word than
    /// by a refusal of ours: it may have room again, and else says so itself.
    pub(crate) fn new(table: &'a Table, request: &'a Request, state: &'a [ExpertState]) -> Self {
        let strict = Self { table, request, state, pauses: true };
        let pauses = !state.iter().any(|now| now.paused) || strict.passing().next().is_some();
        Self { pauses, ..strict }
    }

    /// Experts that may take the request, in the table's order.
    pub(crate) fn passing(self) -> impl Iterator<Item = ExpertIndex> {
        (0..self.table.experts().len()).filter(move |expert| self.hit(*expert).is_none())
    }

    /// The first limit an expert does not pass.
    pub(crate) fn hit(self, expert: ExpertIndex) -> Option<Refusal> {
        let Self { table, request, .. } = self;
        if !table.capable(expert, &request.needs) {
            return Some(Refusal::Capability);
        }
        let output = table.output_limit(expert, request.max_output_tokens).unwrap_or(0);
        let needed = request.prompt_tokens.saturating_add(table.prepended_tokens(expert)).saturating_add(output);
        if table.experts()[expert].context_tokens.is_some_and(|context| needed > u64::from(context)) {
            return Some(Refusal::Context);
        }
        let now = self.state.get(expert).copied().unwrap_or_default();
        if now.ejected || (now.paused && self.pauses) {
            return Some(Refusal::Unhealthy);
        }
        self.is_saturated(expert).then_some(Refusal::Saturated)
    }

    /// Whether an expert has as many requests as it may have.
    pub(crate) fn is_saturated(self, expert: ExpertIndex) -> bool {
        let now = self.state.get(expert).copied().unwrap_or_default();
        self.table.experts()[expert].max_in_flight.is_some_and(|most| now.in_flight >= most)
    }
}

/// All experts that may take the request, in the table's order; a refusal that names the last limit nobody passed.
pub(crate) fn candidates(limits: Limits<'_>, scores: Option<&Scores>) -> Result<Vec<Candidate>, Refusal> {
    let Limits { table, request, state, .. } = limits;
    let mut refusal = Refusal::Capability;
    let mut found = Vec::with_capacity(table.experts().len());
    let means = Means::of(scores);
    for expert in 0..table.experts().len() {
        match limits.hit(expert) {
            None => found.push(predict(table, request, state, scores.map(|scores| (scores, means)), expert)),
            Some(hit) => refusal = further(refusal, hit),
        }
    }
    if found.is_empty() {
        return Err(refusal);
    }
    price_the_unpriced(table, &mut found);
    Ok(found)
}

/// Of two limits, the one that comes later: it was nearer to an answer.
fn further(one: Refusal, other: Refusal) -> Refusal {
    let rank = |refusal: Refusal| match refusal {
        Refusal::Capability => 0,
        Refusal::Context => 1,
        Refusal::Unhealthy => 2,
        Refusal::Saturated | Refusal::NoScore(_) => 3,
    };
    if rank(other) > rank(one) { other } else { one }
}

/// What the model knows of experts on average, for those it knows nothing of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Means {
    output_tokens: Option<f64>,
    seconds: Option<f64>,
}

impl Means {
    pub(crate) fn of(scores: Option<&Scores>) -> Self {
        Self { output_tokens: scores.and_then(|s| mean(&s.output_tokens)), seconds: scores.and_then(|s| mean(&s.seconds)) }
    }
}

fn mean(values: &[f32]) -> Option<f64> {
    let (sum, count) = values.iter().filter_map(|value| sound(*value)).fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// A number a model may predict of a length or a time: everything else is unknown.
fn sound(value: f32) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then_some(f64::from(value))
}

/// What is predicted of one expert.
pub(crate) fn predict(
    table: &Table,
    request: &Request,
    state: &[ExpertState],
    scores: Option<(&Scores, Means)>,
    expert: ExpertIndex,
) -> Candidate {
    let of = |values: &[f32], mean: Option<f64>| values.get(expert).copied().and_then(sound).or(mean);
    let known_output = scores.and_then(|(scores, means)| of(&scores.output_tokens, means.output_tokens));
    let known_seconds = scores.and_then(|(scores, means)| of(&scores.seconds, means.seconds));
    let most = table.output_limit(expert, request.max_output_tokens).map_or(f64::INFINITY, |most| most as f64);
    let output = known_output.unwrap_or(ASSUMED_OUTPUT_TOKENS).min(most);
    let seconds = known_seconds.unwrap_or(output / ASSUMED_TOKENS_PER_SECOND);
    let quality = scores.and_then(|(scores, _)| scores.quality.get(expert).copied()).filter(|quality| quality.is_finite());
    let prices = table.experts()[expert].prices;
    let at_once = state.get(expert).map_or(0, |now| now.in_flight).saturating_add(1);
    let usage = Usage {
        prompt_tokens: request.prompt_tokens.saturating_add(table.prepended_tokens(expert)),
        completion_tokens: output.round() as u64,
        ..Usage::default()
    };
    Candidate {
        expert,
        quality: quality.map_or(f64::NEG_INFINITY, f64::from),
        cost_usd: prices.map_or(0.0, |prices| prices.cost_usd(usage, seconds / f64::from(at_once))),
        seconds,
        cost_known: prices.is_some() && known_output.is_some(),
    }
}

/// An expert nobody priced is not thereby the cheapest.
fn price_the_unpriced(table: &Table, candidates: &mut [Candidate]) {
    let priced = |candidate: &Candidate| table.experts()[candidate.expert].prices.is_some();
    let dearest = candidates.iter().filter(|candidate| priced(candidate)).map(|candidate| candidate.cost_usd).fold(0.0, f64::max);
    candidates.iter_mut().filter(|candidate| !priced(candidate)).for_each(|candidate| candidate.cost_usd = dearest);
}
