//! Phase *choose*: the facts of a request put together, scored where a score can matter, and handed to `routing::choose`.
//!
//! In: a parsed request, its controls, the state. Out: the decision with what it was made from. Deliberately absent: the rules of the
//! choice.

use std::time::{Duration, Instant};

use routing::{Decision, ExpertState, Refusal, Request, ScoreFailure, Scores, budget::Verdict, choose, needs_scores, snapshot::Capability};
use tracing::Instrument;
use wire::{Endpoint, ErrorBody, Inbound, Kind, Prompt};

use crate::{
    controls::{Controls, conversation_key, stored_key},
    failure::{Failure, Outcome},
    score::{self, Scored},
    shared::Shared,
    state::{State, lock},
};

/// A decision, what it was made from and how long it took.
#[derive(Debug)]
pub struct Choice {
    /// Who answers.
    pub decision: Decision,
    /// What the model said, where it was asked.
    pub scores: Option<Result<Scores, ScoreFailure>>,
    /// The conversation, where it can be recognised.
    pub conversation: Option<u128>,
    /// Estimated.
    pub prompt_tokens: u64,
    /// By phase.
    pub timing: Timing,
    /// For those who want to choose again.
    pub considered: Option<Considered>,
}

/// What a choice was made from, the scores aside.
#[derive(Debug, Clone)]
pub struct Considered {
    /// The facts of the request.
    pub request: Request,
    /// How the experts were.
    pub states: Vec<ExpertState>,
}

/// Where a decision's time went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// Text to tokens or features.
    pub tokenize: Duration,
    /// Waiting for the encoder.
    pub queue: Duration,
    /// In the graph.
    pub encode: Duration,
    /// Scores to decision.
    pub choose: Duration,
    /// All of it, from the parsed request on.
    pub total: Duration,
}

/// Whether the model is asked where its answer cannot change the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// No: it costs time.
    WhereItMatters,
    /// Yes: somebody wants to see the scores.
    Always,
}

/// Decides.
///
/// # Errors
/// Unknown models, embeddings without a pinned expert, spent budgets, and refusals of the rules.
pub async fn decide(
    shared: &Shared,
    state: &State,
    inbound: &Inbound,
    controls: &Controls,
    client: Option<&str>,
    scoring: Scoring,
) -> Result<Choice, Failure> {
    let begun = Instant::now();
    let pin = pin(state, inbound)?.or_else(|| keeper(shared, state, inbound));
    if inbound.endpoint() == Endpoint::Embeddings && pin.is_none() {
        one_expert_embeds(state)?;
    }
    let prefer_cheaper = ask_budgets(shared, state, client)?;
    let prompt = inbound.prompt();
    let conversation = conversation(state, inbound, controls);
    let request = Request {
        prompt_tokens: estimated_tokens(&prompt, inbound),
        max_output_tokens: inbound.max_output_tokens(),
        needs: needs(inbound),
        pin,
        objective: controls.objective,
        quality_tolerance: controls.quality_tolerance,
        session_expert: conversation.and_then(|key| shared.sessions.get(state.generation, key, shared.now())),
        prefer_cheaper,
    };
    let states = expert_states(shared, state);
    let scored = if scoring == Scoring::Always || needs_scores(&state.table, &request, &states) {
        Some(score::score(state, &prompt, &shared.metrics).instrument(tracing::debug_span!("score")).await)
    } else {
        None
    };
    // Scoring takes long enough for experts to fail or fill up meanwhile.
    let states = if scored.is_some() { expert_states(shared, state) } else { states };
    let choosing = Instant::now();
    let scores = scored.as_ref().map_or(Err(ScoreFailure::NoModel), |scored| scored.scores.as_ref().map_err(|failure| *failure));
    let decision = choose(&state.table, &request, &states, scores).map_err(|refusal| refused(shared, state, refusal, &request.needs))?;
    let timing = timing(shared, scored.as_ref(), begun, choosing);
    let scores = scored.map(|scored| scored.scores);
    let prompt_tokens = request.prompt_tokens;
    Ok(Choice { decision, scores, conversation, prompt_tokens, timing, considered: Some(Considered { request, states }) })
}

fn timing(shared: &Shared, scored: Option<&Scored>, begun: Instant, choosing: Instant) -> Timing {
    let (choose, total) = (choosing.elapsed(), begun.elapsed());
    shared.metrics.choose_seconds.observe(choose.as_secs_f64());
    shared.metrics.decision_seconds.observe(total.as_secs_f64());
    let of = |part: fn(&Scored) -> Duration| scored.map_or(Duration::ZERO, part);
    Timing { tokenize: of(|s| s.tokenize), queue: of(|s| s.queue), encode: of(|s| s.encode), choose, total }
}

fn refused(shared: &Shared, state: &State, refusal: Refusal, needs: &[Capability]) -> Failure {
    shared.metrics.refusals.with_label_values(&[refusal.as_str()]).inc();
    let mut failure = Failure::refused(refusal);
    if refusal == Refusal::Capability {
        let needs = needs.iter().map(|need| format!("{need:?}")).collect::<Vec<_>>().join(", ");
        failure.body.message = format!(
            "no expert of this router has all capabilities that this request needs: {needs}; an expert has those its `capabilities` list, \
             and a request that names an expert as its `model` goes there whatever they are"
        );
    }
    if refusal != Refusal::Unhealthy {
        return failure;
    }
    let now = shared.now();
    let ejected = state.experts.iter().map(|expert| lock(&expert.live.ejection).ejected_for(now)).filter(|left| !left.is_zero());
    let soonest = ejected.min().unwrap_or_default();
    failure.with_retry_after(soonest.as_secs() + 1)
}

/// `auto`, the router's name and no model at all route; an expert's name pins.
fn pin(state: &State, inbound: &Inbound) -> Result<Option<usize>, Failure> {
    match inbound.model() {
        None | Some(routing::AUTO) => Ok(None),
        Some(name) => match state.table.expert(name) {
            Some(expert) => Ok(Some(expert)),
            None if name == state.table.snapshot().router => Ok(None),
            None => Err(Failure::of_wire(ErrorBody::unknown_model(name))),
        },
    }
}

/// Who keeps the response that this request goes on from.
fn keeper(shared: &Shared, state: &State, inbound: &Inbound) -> Option<usize> {
    let id = inbound.previous_response_id()?;
    shared.stored.get(state.generation, stored_key(&id), shared.now())
}

/// Vectors of different models do not compare: where several could answer, the client has to say which.
fn one_expert_embeds(state: &State) -> Result<(), Failure> {
    let able = state.table.experts().iter().filter(|expert| expert.capabilities.contains(&Capability::Embeddings)).count();
    if able == 1 {
        return Ok(());
    }
    let found = if able == 0 { "no expert has" } else { "several experts have" };
    Err(Failure::invalid("model", format!("`model`: expected the name of an expert, since {found} the capability Embeddings")))
}

/// Whether cheaper experts are to be preferred.
fn ask_budgets(shared: &Shared, state: &State, client: Option<&str>) -> Result<bool, Failure> {
    match shared.spend.verdict(&state.table.snapshot().budgets, client) {
        Verdict::NotExceeded => Ok(false),
        Verdict::PreferCheaper => Ok(true),
        Verdict::Refuse { retry_after_seconds } => {
            let message = "the budget of this period is spent; requests are refused until the next period begins";
            let mut failure = Failure::new(Outcome::Budget, Kind::RateLimit, message).with_retry_after(retry_after_seconds);
            failure.body.code = Some("budget_exceeded");
            Err(failure)
        }
    }
}

/// The session header's name for it, else its opening. Embeddings are part of none, whatever the header says: who searches during a
/// conversation does not move it to whoever makes the vectors.
fn conversation(state: &State, inbound: &Inbound, controls: &Controls) -> Option<u128> {
    if inbound.endpoint() == Endpoint::Embeddings {
        return None;
    }
    state.table.snapshot().session.as_ref()?;
    controls.session.or_else(|| inbound.conversation_opening().map(|opening| conversation_key(b"opening", &opening)))
}

fn expert_states(shared: &Shared, state: &State) -> Vec<ExpertState> {
    let now = shared.now();
    state.experts.iter().map(|expert| expert.live.state(now)).collect()
}

fn needs(inbound: &Inbound) -> Vec<Capability> {
    let needs = inbound.needs();
    [
        (needs.tools, Capability::Tools),
        (needs.vision, Capability::Vision),
        (needs.json_schema, Capability::JsonSchema),
        (needs.logprobs, Capability::Logprobs),
        (needs.embeddings, Capability::Embeddings),
    ]
    .into_iter()
    .filter_map(|(needed, capability)| needed.then_some(capability))
    .collect()
}

/// Four bytes of text a token, and four tokens of frame a turn. Token ids given as numbers have no text: there the body's length says
/// more than nothing.
fn estimated_tokens(prompt: &Prompt<'_>, inbound: &Inbound) -> u64 {
    let text: usize = prompt.turns.iter().map(|turn| turn.text.len()).sum();
    if text == 0 && matches!(inbound.endpoint(), Endpoint::Completions | Endpoint::Embeddings) {
        return (inbound.body().len() as u64).div_ceil(6);
    }
    (text as u64).div_ceil(4) + 4 * prompt.turns.len() as u64
}
