//! Scores and limits to a decision: who answers, who steps in, and why.

use crate::{
    snapshot::{Capability, Objective},
    table::{ExpertIndex, Table},
};

/// The model's prediction, in the table's order of experts (bound by name when the bundle was loaded).
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Predicted score per expert, in units of the score the router was trained on. Only differences count.
    pub quality: Vec<f32>,
    /// Expected completion tokens per expert: a trained head's, or the expert's mean in training. NaN where unknown.
    pub output_tokens: Vec<f32>,
    /// Expected seconds per expert; NaN where unknown.
    pub seconds: Vec<f32>,
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
    pub in_flight: u32,
}

/// Why an expert was chosen. A closed set: these are metric labels and header values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The client named it.
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
    /// No model yet: the fallback expert.
    NoModel,
    /// The model is broken: the fallback expert.
    ModelBroken,
    /// The score did not come in time: the fallback expert.
    DeadlineExceeded,
    /// Too many requests wait for a score: the fallback expert.
    Overloaded,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub expert: ExpertIndex,
    /// Who steps in before the first byte, best first.
    pub fallbacks: Vec<ExpertIndex>,
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

/// Decides.
///
/// # Errors
/// A [`Refusal`] where no expert may take the request.
pub fn choose(table: &Table, request: &Request, state: &[ExpertState], scores: Result<&Scores, ScoreFailure>) -> Result<Decision, Refusal> {
    let _ = (table, request, state, scores);
    Err(Refusal::Unhealthy)
}
