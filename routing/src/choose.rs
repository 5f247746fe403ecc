//! Scores and limits to a decision: who answers, who steps in, and why.
//!
//! The order of the rules: a pin; the limits (capability, context, ejection, `maxInFlight`), which leave candidates; a single candidate;
//! a missing score; a spent budget; the conversation; the objective. Predictions of cost are in `candidate.rs`.

use std::cmp::Ordering;

use crate::{
    candidate::{Candidate, Means, candidates, limit, predict, saturated},
    snapshot::{Capability, FailureMode, Objective, Weights},
    table::{ExpertIndex, Table},
};

/// Predicted scores are 32-bit floats: differences below this are none. Keeps "at most 0.02" true of 0.84 and 0.82.
const SCORE_SLACK: f64 = 1e-6;

/// The model's prediction, in the table's order of experts (bound by name when the bundle was loaded).
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Predicted score per expert, in units of the score the router was trained on. Only differences count.
    pub quality: Vec<f32>,
    /// Expected completion tokens per expert: a trained head's, or the expert's mean in training. NaN where unknown.
    pub output_tokens: Vec<f32>,
    /// Expected seconds per expert; NaN where unknown.
    pub seconds: Vec<f32>,
    /// Where the policy says nothing else.
    pub recommended: Recommended,
}

/// What a model's training found to serve best, in place of settings that a policy leaves out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recommended {
    /// What `Cost` may give up, in units of the score.
    pub quality_tolerance: f64,
    /// What a cent (a hundredth of a dollar) weighs in `Balanced`, where quality weighs 1.
    pub cost_weight: f64,
}

impl Default for Recommended {
    /// Of a model that recommends nothing.
    fn default() -> Self {
        Self { quality_tolerance: 0.0, cost_weight: 0.5 }
    }
}

/// Why there are no scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScoreFailure {
    /// The router has no model yet.
    NoModel,
    /// The model is there but cannot be used, or failed on this prompt.
    ModelBroken,
    /// The score did not come in time.
    DeadlineExceeded,
    /// Too many requests wait for a score already.
    Overloaded,
}

/// The facts of a request the choice depends on.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Estimated or counted.
    pub prompt_tokens: u64,
    /// The client's `max_tokens` and the like.
    pub max_output_tokens: Option<u64>,
    /// Beyond plain text.
    pub needs: Vec<Capability>,
    /// Named by the client: a routing decision is not wanted.
    pub pin: Option<ExpertIndex>,
    /// Instead of the policy's.
    pub objective: Option<Objective>,
    /// Instead of the policy's.
    pub quality_tolerance: Option<f64>,
    /// The expert the conversation is with.
    pub session_expert: Option<ExpertIndex>,
    /// A budget is spent and says to prefer cheaper experts.
    pub prefer_cheaper: bool,
}

/// How an expert is just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpertState {
    /// Ejected, and not due for a probe.
    pub ejected: bool,
    /// Requests sent and not yet ended.
    pub in_flight: u32,
}

/// Why an expert was chosen. A closed set: these are metric labels and header values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The client named it, or goes on from a response that it keeps.
    Pinned,
    /// The conversation is with it already.
    Session,
    /// Best predicted score.
    Quality,
    /// Cheapest within the tolerance.
    Cost,
    /// Best weighted sum.
    Balanced,
    /// A budget is spent: the cheapest candidate.
    Budget,
    /// No other expert may take this request.
    OnlyCandidate,
    /// No model yet: the conversation's expert, else the fallback expert, else the cheapest. So for the three below.
    NoModel,
    /// The model is broken.
    ModelBroken,
    /// The score did not come in time.
    DeadlineExceeded,
    /// Too many requests wait for a score.
    Overloaded,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Is sent the request first.
    pub expert: ExpertIndex,
    /// Who steps in before the first byte, best first by the objective. The policy's fallback expert is among them as the last
    /// resort even while it is ejected. Empty for a pinned request: the client asked for this expert and no other.
    pub fallbacks: Vec<ExpertIndex>,
    /// Why this expert.
    pub reason: Reason,
    /// Predicted cost of the chosen expert, where it has prices and the output tokens are known.
    pub predicted_cost_usd: Option<f64>,
}

/// Why nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No expert has the capabilities asked for.
    Capability,
    /// The prompt fits no expert's context.
    Context,
    /// Every expert that could is ejected.
    Unhealthy,
    /// Every expert that could is at its `maxInFlight`.
    Saturated,
    /// No score, and the policy is to fail closed.
    NoScore(ScoreFailure),
}

impl ScoreFailure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NoModel, Self::ModelBroken, Self::DeadlineExceeded, Self::Overloaded];

    /// As a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.reason().as_str()
    }

    fn reason(self) -> Reason {
        match self {
            Self::NoModel => Reason::NoModel,
            Self::ModelBroken => Reason::ModelBroken,
            Self::DeadlineExceeded => Reason::DeadlineExceeded,
            Self::Overloaded => Reason::Overloaded,
        }
    }
}

impl Reason {
    /// All of them, so that metrics can show zeros from the start.
    pub const ALL: [Self; 11] = [
        Self::Pinned,
        Self::Session,
        Self::Quality,
        Self::Cost,
        Self::Balanced,
        Self::Budget,
        Self::OnlyCandidate,
        Self::NoModel,
        Self::ModelBroken,
        Self::DeadlineExceeded,
        Self::Overloaded,
    ];

    /// As a metric label and header value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Session => "session",
            Self::Quality => "quality",
            Self::Cost => "cost",
            Self::Balanced => "balanced",
            Self::Budget => "budget",
            Self::OnlyCandidate => "only_candidate",
            Self::NoModel => "no_model",
            Self::ModelBroken => "model_broken",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Overloaded => "overloaded",
        }
    }
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Capability,
        Self::Context,
        Self::Unhealthy,
        Self::Saturated,
        Self::NoScore(ScoreFailure::NoModel),
        Self::NoScore(ScoreFailure::ModelBroken),
        Self::NoScore(ScoreFailure::DeadlineExceeded),
        Self::NoScore(ScoreFailure::Overloaded),
    ];

    /// As a metric label. A missing score shows why it is missing.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capability => "capability",
            Self::Context => "context",
            Self::Unhealthy => "unhealthy",
            Self::Saturated => "saturated",
            Self::NoScore(failure) => failure.as_str(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Capability => "no expert has all the capabilities this request needs",
            Self::Context => "the request fits no capable expert's context",
            Self::Unhealthy => "every expert that could answer this request is out of rotation after failures",
            Self::Saturated => "every expert that could answer this request has as many requests as it may have",
            Self::NoScore(ScoreFailure::NoModel) => "the router has no model yet and is set to fail closed",
            Self::NoScore(ScoreFailure::ModelBroken) => "the router's model failed and the router is set to fail closed",
            Self::NoScore(ScoreFailure::DeadlineExceeded) => "the score did not come in time and the router is set to fail closed",
            Self::NoScore(ScoreFailure::Overloaded) => "too many requests wait for a score and the router is set to fail closed",
        })
    }
}

/// Decides.
///
/// # Errors
/// A [`Refusal`] where no expert may take the request.
pub fn choose(table: &Table, request: &Request, state: &[ExpertState], scores: Result<&Scores, ScoreFailure>) -> Result<Decision, Refusal> {
    if let Some(expert) = request.pin {
        return pinned(table, request, state, scores.ok(), expert);
    }
    let mut candidates = candidates(table, request, state, scores.ok())?;
    // A model that scores none of the candidates, or another number of experts, is broken whatever it says of itself.
    let scores = scores.and_then(|scores| {
        let usable = scores.quality.len() == table.experts().len() && candidates.iter().any(|candidate| candidate.quality.is_finite());
        usable.then_some(scores.recommended).ok_or(ScoreFailure::ModelBroken)
    });
    let reason = if candidates.len() == 1 {
        Reason::OnlyCandidate
    } else {
        match scores {
            Ok(recommended) => by_objective(table, request, recommended, &mut candidates),
            Err(failure) => without_scores(table, request, &mut candidates, failure)?,
        }
    };
    Ok(decision(table, request, state, &candidates, reason))
}

/// Whether a score can change the decision: not for a pinned request, nor where one expert or none may take it. Lets a caller spare
/// the model.
#[must_use]
pub fn needs_scores(table: &Table, request: &Request, state: &[ExpertState]) -> bool {
    request.pin.is_none() && (0..table.experts().len()).filter(|expert| limit(table, request, state, *expert).is_none()).nth(1).is_some()
}

/// A pinned request goes to its expert whatever is thought of that expert: ejected (the client may know better, and it is the only way
/// to try), incapable or too small (the expert's own error says more than ours). Only `maxInFlight` holds, which protects the expert.
fn pinned(
    table: &Table,
    request: &Request,
    state: &[ExpertState],
    scores: Option<&Scores>,
    expert: ExpertIndex,
) -> Result<Decision, Refusal> {
    if expert >= table.experts().len() {
        return Err(Refusal::Capability);
    }
    if saturated(table, state.get(expert).copied().unwrap_or_default(), expert) {
        return Err(Refusal::Saturated);
    }
    let candidate = predict(table, request, state, scores.map(|scores| (scores, Means::of(Some(scores)))), expert);
    Ok(Decision { expert, fallbacks: Vec::new(), reason: Reason::Pinned, predicted_cost_usd: predicted_cost(&candidate) })
}

/// Puts the candidates in the objective's order, then the conversation's expert first if it stays.
fn by_objective(table: &Table, request: &Request, recommended: Recommended, candidates: &mut [Candidate]) -> Reason {
    if request.prefer_cheaper {
        // Money that is spent outweighs a conversation's habit.
        candidates.sort_unstable_by(cheaper);
        return Reason::Budget;
    }
    let policy = &table.snapshot().policy;
    let objective = request.objective.unwrap_or(policy.objective);
    // `max` also turns NaN into 0.
    let tolerance = request.quality_tolerance.or(policy.quality_tolerance).unwrap_or(recommended.quality_tolerance).max(0.0);
    let floor = candidates.iter().map(|candidate| candidate.quality).fold(f64::NEG_INFINITY, f64::max) - tolerance - SCORE_SLACK;
    let Weights { quality, cost, latency } = policy.weights;
    let cost = cost.unwrap_or(recommended.cost_weight * quality);
    let order = Order { objective, floor, quality, dollar: 100.0 * cost, second: latency };
    candidates.sort_unstable_by(|one, other| order.compare(one, other));
    let stays = request.session_expert.and_then(|expert| candidates.iter().position(|candidate| candidate.expert == expert)).filter(|at| {
        let threshold = table.snapshot().session.as_ref().map_or(0.0, |session| session.switch_gain);
        order.gain(&candidates[*at], &candidates[0]) <= threshold
    });
    match (stays, objective) {
        (Some(at), _) => {
            candidates[..=at].rotate_right(1);
            Reason::Session
        }
        (None, Objective::Quality) => Reason::Quality,
        (None, Objective::Cost) => Reason::Cost,
        (None, Objective::Balanced) => Reason::Balanced,
    }
}

/// The order without a model: the conversation's expert (a late score is no reason to flip), the fallback expert, then by cost.
fn without_scores(table: &Table, request: &Request, candidates: &mut [Candidate], failure: ScoreFailure) -> Result<Reason, Refusal> {
    if table.snapshot().policy.failure_mode == FailureMode::FailClosed {
        return Err(Refusal::NoScore(failure));
    }
    candidates.sort_unstable_by(cheaper);
    if request.prefer_cheaper {
        return Ok(Reason::Budget);
    }
    for preferred in [table.fallback(), request.session_expert].into_iter().flatten() {
        if let Some(at) = candidates.iter().position(|candidate| candidate.expert == preferred) {
            candidates[..=at].rotate_right(1);
        }
    }
    Ok(failure.reason())
}

/// An objective, ready to compare two candidates.
struct Order {
    objective: Objective,
    /// The least quality `Cost` accepts.
    floor: f64,
    /// What a unit of score, a dollar and a second weigh in `Balanced`.
    quality: f64,
    dollar: f64,
    second: f64,
}

impl Order {
    /// `Less` where `one` is to be preferred.
    fn compare(&self, one: &Candidate, other: &Candidate) -> Ordering {
        match self.objective {
            Objective::Quality => better(one, other).then_with(|| cheaper(one, other)),
            Objective::Cost => match (one.quality >= self.floor, other.quality >= self.floor) {
                (true, true) => cheaper(one, other),
                (false, false) => better(one, other).then_with(|| cheaper(one, other)),
                (accepted, _) => other.quality.ge(&self.floor).cmp(&accepted),
            },
            Objective::Balanced => self.value(other).total_cmp(&self.value(one)).then_with(|| cheaper(one, other)),
        }
    }

    /// The weighted sum of `Balanced`.
    fn value(&self, candidate: &Candidate) -> f64 {
        if !candidate.quality.is_finite() {
            return f64::NEG_INFINITY;
        }
        self.quality * candidate.quality - self.dollar * candidate.cost_usd - self.second * candidate.seconds
    }

    /// What moving a conversation from `current` to `best` is predicted to gain: score for `Quality`, the weighted sum for `Balanced`;
    /// for `Cost` USD of this request, or score below what the tolerance allows, whichever is more.
    fn gain(&self, current: &Candidate, best: &Candidate) -> f64 {
        match self.objective {
            Objective::Quality => best.quality - current.quality,
            Objective::Cost => (current.cost_usd - best.cost_usd).max(self.floor - current.quality),
            Objective::Balanced => self.value(best) - self.value(current),
        }
    }
}

fn better(one: &Candidate, other: &Candidate) -> Ordering {
    other.quality.total_cmp(&one.quality)
}

/// By cost, then by quality, then by place in the table, so that equal candidates never take turns.
fn cheaper(one: &Candidate, other: &Candidate) -> Ordering {
    one.cost_usd.total_cmp(&other.cost_usd).then_with(|| better(one, other)).then_with(|| one.expert.cmp(&other.expert))
}

/// The first of the ordered candidates answers, the rest step in.
fn decision(table: &Table, request: &Request, state: &[ExpertState], candidates: &[Candidate], reason: Reason) -> Decision {
    let mut fallbacks: Vec<ExpertIndex> = candidates[1..].iter().map(|candidate| candidate.expert).collect();
    // An ejected fallback expert is still better than an error, once all others have failed.
    fallbacks.extend(
        table
            .fallback()
            .filter(|expert| limit(table, request, state, *expert) == Some(Refusal::Unhealthy))
            .filter(|expert| !saturated(table, state.get(*expert).copied().unwrap_or_default(), *expert)),
    );
    Decision { expert: candidates[0].expert, fallbacks, reason, predicted_cost_usd: predicted_cost(&candidates[0]) }
}

fn predicted_cost(candidate: &Candidate) -> Option<f64> {
    candidate.cost_known.then_some(candidate.cost_usd)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
