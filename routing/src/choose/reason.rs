//! Why an expert was chosen, why there are no scores, and why nobody answers: closed sets, for they are metric labels and header values.

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

    pub(super) fn reason(self) -> Reason {
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
