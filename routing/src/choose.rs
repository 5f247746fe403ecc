//! Scores and limits to a decision: who answers, who steps in, and why.
//!
//! The order of the rules: a pin; the limits (capability, context, ejection and pauses, `maxInFlight`), which leave candidates; a single
//! candidate; a missing score; a spent budget; the conversation; the objective. Limits and predictions of cost are in `candidate.rs`.

mod reason;

use std::cmp::Ordering;

use crate::{
    candidate::{Candidate, Limits, Means, candidates, predict},
    snapshot::{Capability, FailureMode, Objective, Weights},
    table::{ExpertIndex, Table},
};

pub use reason::{Reason, Refusal, ScoreFailure};

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
    /// It asked for no requests just now.
    pub paused: bool,
    /// Requests sent and not yet ended.
    pub in_flight: u32,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Is sent the request first.
    pub expert: ExpertIndex,
    /// Who steps in before the first byte, best first by the objective. The policy's fallback expert is among them as the last
    /// resort even while it is ejected or paused. Empty for a pinned request: the client asked for this expert and no other.
    pub fallbacks: Vec<ExpertIndex>,
    /// Why this expert.
    pub reason: Reason,
    /// Predicted cost of the chosen expert, where it has prices and the output tokens are known.
    pub predicted_cost_usd: Option<f64>,
}

/// Decides.
///
/// # Errors
/// A [`Refusal`] where no expert may take the request.
pub fn choose(table: &Table, request: &Request, state: &[ExpertState], scores: Result<&Scores, ScoreFailure>) -> Result<Decision, Refusal> {
    if let Some(expert) = request.pin {
        return pinned(table, request, state, scores.ok(), expert);
    }
    let limits = Limits::new(table, request, state);
    let mut candidates = candidates(limits, scores.ok())?;
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
    Ok(decision(limits, table.fallback(), &candidates, reason))
}

/// Whether a score can change the decision: not for a pinned request, nor where one expert or none may take it. Lets a caller spare
/// the model.
#[must_use]
pub fn needs_scores(table: &Table, request: &Request, state: &[ExpertState]) -> bool {
    request.pin.is_none() && Limits::new(table, request, state).passing().nth(1).is_some()
}

/// A pinned request goes to its expert whatever is thought of that expert: ejected or paused (the client may know better, and it is
/// the only way to try), incapable or too small (the expert's own error says more than ours). Only `maxInFlight` holds, which protects the
/// expert.
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
    if Limits::new(table, request, state).is_saturated(expert) {
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
fn decision(limits: Limits<'_>, fallback: Option<ExpertIndex>, candidates: &[Candidate], reason: Reason) -> Decision {
    let mut fallbacks: Vec<ExpertIndex> = candidates[1..].iter().map(|candidate| candidate.expert).collect();
    // A fallback expert that is out of rotation is still better than an error, once all others have failed.
    let last_resort = |expert: &ExpertIndex| limits.hit(*expert) == Some(Refusal::Unhealthy) && !limits.is_saturated(*expert);
    fallbacks.extend(fallback.filter(last_resort));
    Decision { expert: candidates[0].expert, fallbacks, reason, predicted_cost_usd: predicted_cost(&candidates[0]) }
}

fn predicted_cost(candidate: &Candidate) -> Option<f64> {
    candidate.cost_known.then_some(candidate.cost_usd)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
