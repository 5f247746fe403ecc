use serde_json::{Value, json};

use super::*;
use crate::fixtures::{compile, scores, snapshot_json, with};

const SMALL: ExpertIndex = 0;
const MIDDLE: ExpertIndex = 1;
const LARGE: ExpertIndex = 2;

/// The shape a test states: the chosen expert's name, its reason, the fallbacks' names; or the refusal.
type Expected<'a> = Result<(&'a str, &'a str, &'a [&'a str]), Refusal>;

struct Case {
    snapshot: Value,
    request: Request,
    state: [ExpertState; 3],
    scores: Result<Scores, ScoreFailure>,
}

fn case(quality: [f32; 3]) -> Case {
    let request = Request { prompt_tokens: 100, ..Request::default() };
    Case { snapshot: snapshot_json(), request, state: [ExpertState::default(); 3], scores: Ok(scores(quality)) }
}

#[track_caller]
fn check(case: &Case, expected: Expected<'_>) -> Option<f64> {
    let table = compile(case.snapshot.clone());
    let decision = choose(&table, &case.request, &case.state, case.scores.as_ref().map_err(|failure| *failure));
    let name = |expert: ExpertIndex| table.experts()[expert].name.as_str();
    let expected_owned = expected.map(|(expert, reason, fallbacks)| (expert, reason, fallbacks.to_vec()));
    let got = decision.as_ref().map_err(|refusal| *refusal);
    assert_eq!(got.map(|d| (name(d.expert), d.reason.as_str(), d.fallbacks.iter().map(|f| name(*f)).collect())), expected_owned);
    decision.ok().and_then(|decision| decision.predicted_cost_usd)
}

fn ejected() -> ExpertState {
    ExpertState { ejected: true, ..ExpertState::default() }
}

fn paused() -> ExpertState {
    ExpertState { paused: true, ..ExpertState::default() }
}

#[test]
fn quality_takes_the_best_score_and_falls_back_by_score() {
    check(&case([0.3, 0.5, 0.9]), Ok(("large", "quality", &["middle", "small"])));
    check(&case([0.9, 0.3, 0.5]), Ok(("small", "quality", &["large", "middle"])));
}

#[test]
fn what_the_policy_leaves_out_is_as_the_model_recommends() {
    let quality = [0.70, 0.88, 0.90];
    let recommending = |quality_tolerance, cost_weight| {
        let scores = Scores { recommended: Recommended { quality_tolerance, cost_weight }, ..scores(quality) };
        Case { scores: Ok(scores), ..case(quality) }
    };
    let mut cost = recommending(0.02, 0.0);
    cost.request.objective = Some(Objective::Cost);
    check(&cost, Ok(("middle", "cost", &["large", "small"])));
    cost.snapshot = with("/policy/qualityTolerance", json!(0.0));
    check(&cost, Ok(("large", "cost", &["middle", "small"])));
    let mut balanced = recommending(0.0, 100.0);
    balanced.request.objective = Some(Objective::Balanced);
    check(&balanced, Ok(("small", "balanced", &["middle", "large"])));
    balanced.snapshot = with("/policy/weights", json!({"cost": 0.0}));
    check(&balanced, Ok(("large", "balanced", &["middle", "small"])));
}

#[test]
fn quality_takes_the_cheaper_of_equals() {
    check(&case([0.1, 0.7, 0.7]), Ok(("middle", "quality", &["large", "small"])));
}

#[test]
fn cost_takes_the_cheapest_within_the_tolerance_and_falls_back_by_score_outside_of_it() {
    let mut case = case([0.70, 0.88, 0.90]);
    case.request.objective = Some(Objective::Cost);
    check(&case, Ok(("large", "cost", &["middle", "small"])));
    case.request.quality_tolerance = Some(0.02);
    check(&case, Ok(("middle", "cost", &["large", "small"])));
    case.request.quality_tolerance = Some(0.25);
    // 1 s at 0.36 an hour is 0.0001; 100 tokens in and 200 out at middle are 0.00035.
    check(&case, Ok(("small", "cost", &["middle", "large"])));
}

#[test]
fn the_tolerance_is_measured_from_the_best_candidate_not_from_the_best_expert() {
    let mut case = case([0.50, 0.52, 0.90]);
    case.request.objective = Some(Objective::Cost);
    case.request.quality_tolerance = Some(0.03);
    case.state[LARGE] = ejected();
    check(&case, Ok(("small", "cost", &["middle"])));
}

#[test]
fn a_nonsense_tolerance_is_none() {
    for tolerance in [f64::NAN, -1.0] {
        let mut case = case([0.89, 0.5, 0.90]);
        case.request.objective = Some(Objective::Cost);
        case.request.quality_tolerance = Some(tolerance);
        check(&case, Ok(("large", "cost", &["small", "middle"])));
    }
}

#[test]
fn balanced_weighs_score_against_cents_and_seconds() {
    let mut case = case([0.60, 0.70, 0.80]);
    case.request.objective = Some(Objective::Balanced);
    // large costs 0.65 cents, middle 0.035, small 0.01: 0.80 - 0.5 x 0.65 = 0.475; 0.6825; 0.595.
    check(&case, Ok(("middle", "balanced", &["small", "large"])));
    case.snapshot = with("/policy/weights", json!({"quality": 1.0, "cost": 0.0, "latency": 0.0}));
    check(&case, Ok(("large", "balanced", &["middle", "small"])));
    case.snapshot = with("/policy/weights", json!({"quality": 1.0, "cost": 0.0, "latency": 0.2}));
    check(&case, Ok(("small", "balanced", &["middle", "large"])));
}

#[test]
fn predicted_cost_counts_expected_output_up_to_the_clients_limit() {
    let mut case = case([0.1, 0.9, 0.2]);
    let cost = check(&case, Ok(("middle", "quality", &["large", "small"])));
    assert!((cost.unwrap() - (100.0 * 0.5 + 200.0 * 1.5) / 1e6).abs() < 1e-12);
    case.request.max_output_tokens = Some(20);
    let cost = check(&case, Ok(("middle", "quality", &["large", "small"])));
    assert!((cost.unwrap() - (100.0 * 0.5 + 20.0 * 1.5) / 1e6).abs() < 1e-12);
}

#[test]
fn an_override_of_the_output_limit_outweighs_the_clients() {
    let mut case = case([0.1, 0.9, 0.2]);
    case.snapshot = with("/experts/1/bodyOverrides", json!({"max_tokens": 8}));
    case.request.max_output_tokens = Some(7_950);
    let cost = check(&case, Ok(("middle", "quality", &["large"])));
    assert!((cost.unwrap() - (100.0 * 0.5 + 8.0 * 1.5) / 1e6).abs() < 1e-12);
}

#[test]
fn an_unknown_length_is_the_mean_of_the_known_ones_and_an_unpredicted_cost_is_not_shown() {
    let mut with_gap = case([0.1, 0.9, 0.2]);
    with_gap.scores.as_mut().unwrap().output_tokens[MIDDLE] = f32::NAN;
    let cost = check(&with_gap, Ok(("middle", "quality", &["large", "small"])));
    assert!((cost.unwrap() - (100.0 * 0.5 + 205.0 * 1.5) / 1e6).abs() < 1e-12);
    with_gap.scores.as_mut().unwrap().output_tokens = vec![f32::NAN; 3];
    assert_eq!(check(&with_gap, Ok(("middle", "quality", &["large", "small"]))), None);
}

#[test]
fn prepended_messages_cost_money_and_context() {
    let long = "word ".repeat(160);
    let mut case = case([0.9, 0.8, 0.2]);
    case.snapshot = with("/experts/0/prependMessages", json!([{"role": "system", "content": long}]));
    case.request.prompt_tokens = 700;
    check(&case, Ok(("small", "quality", &["middle", "large"])));
    case.request.prompt_tokens = 800;
    check(&case, Ok(("middle", "quality", &["large"])));
}

#[test]
fn an_expert_paid_by_the_hour_shares_its_cost_among_the_requests_at_once() {
    let mut case = case([0.9, 0.1, 0.2]);
    assert!((check(&case, Ok(("small", "quality", &["large", "middle"]))).unwrap() - 1e-4).abs() < 1e-12);
    case.state[SMALL].in_flight = 3;
    assert!((check(&case, Ok(("small", "quality", &["large", "middle"]))).unwrap() - 0.25e-4).abs() < 1e-12);
}

#[test]
fn an_unpriced_expert_is_not_the_cheapest() {
    let mut case = case([0.5, 0.5, 0.5]);
    case.snapshot = with("/experts/0/prices", Value::Null);
    case.request.objective = Some(Objective::Cost);
    assert!(check(&case, Ok(("middle", "cost", &["small", "large"]))).is_some());
}

#[test]
fn an_incapable_expert_is_no_candidate() {
    let mut case = case([0.9, 0.8, 0.7]);
    case.request.needs = vec![Capability::Tools];
    check(&case, Ok(("middle", "quality", &["large"])));
    case.request.needs = vec![Capability::Tools, Capability::Vision];
    check(&case, Ok(("large", "only_candidate", &[])));
    case.request.needs = vec![Capability::Logprobs];
    check(&case, Err(Refusal::Capability));
}

#[test]
fn prompt_and_asked_output_must_fit_the_context() {
    let mut case = case([0.9, 0.8, 0.7]);
    case.request.prompt_tokens = 990;
    case.request.max_output_tokens = Some(10);
    check(&case, Ok(("small", "quality", &["middle", "large"])));
    case.request.max_output_tokens = Some(11);
    check(&case, Ok(("middle", "quality", &["large"])));
    case.request.prompt_tokens = u64::MAX;
    check(&case, Err(Refusal::Context));
}

#[test]
fn a_refusal_names_the_limit_nearest_to_an_answer() {
    let mut case = case([0.9, 0.8, 0.7]);
    case.request.needs = vec![Capability::Tools];
    case.state[MIDDLE] = ejected();
    case.state[LARGE] = ejected();
    check(&case, Err(Refusal::Unhealthy));
    case.state[MIDDLE] = ExpertState { in_flight: 4, ..ExpertState::default() };
    check(&case, Err(Refusal::Saturated));
    case.request.prompt_tokens = 50_000;
    check(&case, Err(Refusal::Unhealthy));
}

#[test]
fn a_full_expert_is_passed_over() {
    let mut case = case([0.1, 0.9, 0.5]);
    case.state[MIDDLE].in_flight = 3;
    check(&case, Ok(("middle", "quality", &["large", "small"])));
    case.state[MIDDLE].in_flight = 4;
    check(&case, Ok(("large", "quality", &["small"])));
}

#[test]
fn an_ejected_fallback_expert_is_the_last_resort() {
    let mut case = case([0.3, 0.9, 0.5]);
    case.state[MIDDLE] = ejected();
    check(&case, Ok(("large", "quality", &["small", "middle"])));
    case.state[MIDDLE].in_flight = 4;
    check(&case, Ok(("large", "quality", &["small"])));
}

#[test]
fn a_paused_expert_is_passed_over_and_as_fallback_expert_the_last_resort() {
    let mut case = case([0.3, 0.9, 0.5]);
    case.state[LARGE] = paused();
    check(&case, Ok(("middle", "quality", &["small"])));
    case.state = [ExpertState::default(), paused(), paused()];
    check(&case, Ok(("small", "only_candidate", &["middle"])));
}

#[test]
fn where_nobody_else_can_answer_pauses_do_not_hold_and_ejections_do() {
    let mut case = case([0.3, 0.9, 0.5]);
    case.state = [paused(); 3];
    check(&case, Ok(("middle", "quality", &["large", "small"])));
    case.state = [ejected(), ExpertState { in_flight: 4, ..paused() }, paused()];
    check(&case, Ok(("large", "only_candidate", &[])));
    case.state = [ExpertState::default(), paused(), paused()];
    case.request.needs = vec![Capability::Tools];
    check(&case, Ok(("middle", "quality", &["large"])));
    case.state = [paused(), ejected(), ejected()];
    check(&case, Err(Refusal::Unhealthy));
}

#[test]
fn a_pinned_request_goes_to_its_expert_unless_that_is_full() {
    let mut case = case([0.9, 0.8, 0.7]);
    case.request.pin = Some(MIDDLE);
    case.state[MIDDLE] = ExpertState { paused: true, ..ejected() };
    case.request.needs = vec![Capability::Embeddings];
    case.request.prompt_tokens = 1_000_000;
    case.scores = Err(ScoreFailure::NoModel);
    assert_eq!(check(&case, Ok(("middle", "pinned", &[]))), None);
    case.state[MIDDLE].in_flight = 4;
    check(&case, Err(Refusal::Saturated));
    case.request.pin = Some(3);
    check(&case, Err(Refusal::Capability));
}

#[test]
fn a_conversation_stays_unless_the_gain_is_above_the_threshold() {
    let mut case = case([0.10, 0.86, 0.90]);
    case.request.session_expert = Some(MIDDLE);
    check(&case, Ok(("middle", "session", &["large", "small"])));
    case.scores = Ok(scores([0.10, 0.84, 0.90]));
    check(&case, Ok(("large", "quality", &["middle", "small"])));
}

#[test]
fn a_cost_conversation_moves_for_score_beyond_tolerance_or_for_dollars_of_one_request() {
    let mut case = case([0.80, 0.88, 0.90]);
    case.request.objective = Some(Objective::Cost);
    case.request.quality_tolerance = Some(0.07);
    case.request.session_expert = Some(SMALL);
    check(&case, Ok(("small", "session", &["middle", "large"])));
    case.scores = Ok(scores([0.77, 0.88, 0.90]));
    check(&case, Ok(("middle", "cost", &["large", "small"])));
    case.request.session_expert = Some(LARGE);
    check(&case, Ok(("large", "session", &["middle", "small"])));
    // 15,000 tokens in at 5.0 a million: 0.075 more than nothing.
    case.snapshot = with("/experts/1/contextTokens", json!(20_000));
    case.request.prompt_tokens = 15_000;
    check(&case, Ok(("middle", "cost", &["large"])));
}

#[test]
fn a_conversation_leaves_an_expert_that_cannot_take_it() {
    let mut case = case([0.90, 0.86, 0.50]);
    case.request.session_expert = Some(MIDDLE);
    case.state[MIDDLE] = ejected();
    check(&case, Ok(("small", "quality", &["large", "middle"])));
    case.state[MIDDLE] = ExpertState::default();
    case.request.needs = vec![Capability::Vision];
    check(&case, Ok(("large", "only_candidate", &[])));
}

#[test]
fn a_spent_budget_takes_the_cheapest_even_from_a_conversation() {
    let mut case = case([0.1, 0.8, 0.9]);
    case.request.prefer_cheaper = true;
    case.request.session_expert = Some(LARGE);
    check(&case, Ok(("small", "budget", &["middle", "large"])));
    // Without predictions small is assumed to be busy for the 5.12 s of 256 tokens: 0.000512 against 0.000434.
    case.scores = Err(ScoreFailure::DeadlineExceeded);
    check(&case, Ok(("middle", "budget", &["small", "large"])));
}

#[test]
fn without_a_score_the_fallback_expert_answers_then_the_cheapest() {
    let mut case = case([0.0; 3]);
    for failure in ScoreFailure::ALL {
        case.scores = Err(failure);
        check(&case, Ok(("middle", failure.as_str(), &["small", "large"])));
    }
    case.state[MIDDLE] = ejected();
    check(&case, Ok(("small", "overloaded", &["large", "middle"])));
    case.snapshot["policy"]["fallbackExpert"] = Value::Null;
    check(&case, Ok(("small", "overloaded", &["large"])));
}

#[test]
fn without_a_score_a_conversation_stays() {
    let mut case = case([0.0; 3]);
    case.scores = Err(ScoreFailure::DeadlineExceeded);
    case.request.session_expert = Some(LARGE);
    check(&case, Ok(("large", "deadline_exceeded", &["middle", "small"])));
}

#[test]
fn fail_closed_refuses_without_a_score_unless_there_is_nothing_to_choose() {
    let mut case = case([0.0; 3]);
    case.snapshot = with("/policy/failureMode", json!("FailClosed"));
    case.scores = Err(ScoreFailure::DeadlineExceeded);
    check(&case, Err(Refusal::NoScore(ScoreFailure::DeadlineExceeded)));
    case.request.needs = vec![Capability::Vision];
    check(&case, Ok(("large", "only_candidate", &[])));
}

#[test]
fn scores_that_make_no_sense_are_a_broken_model() {
    for quality in [vec![f32::NAN; 3], vec![f32::INFINITY; 3], vec![0.5; 2], vec![]] {
        let mut case = case([0.0; 3]);
        case.scores = Ok(Scores { quality, output_tokens: vec![], seconds: vec![], recommended: Recommended::default() });
        check(&case, Ok(("middle", "model_broken", &["small", "large"])));
    }
    let mut one_known = case([f32::NAN, f32::NAN, 0.1]);
    check(&one_known, Ok(("large", "quality", &["small", "middle"])));
    one_known.request.objective = Some(Objective::Balanced);
    one_known.snapshot = with("/policy/weights", json!({"quality": 0.0, "cost": 1.0, "latency": 0.0}));
    check(&one_known, Ok(("large", "balanced", &["small", "middle"])));
}

#[test]
fn scores_are_needed_only_where_there_is_a_choice() {
    let table = compile(snapshot_json());
    let needed = |request: &Request, state: &[ExpertState]| needs_scores(&table, request, state);
    assert!(needed(&Request::default(), &[]));
    assert!(!needed(&Request { pin: Some(SMALL), ..Request::default() }, &[]));
    assert!(!needed(&Request { needs: vec![Capability::Vision], ..Request::default() }, &[]));
    assert!(!needed(&Request::default(), &[ejected(), ejected(), ExpertState::default()]));
    assert!(!needed(&Request::default(), &[ejected(); 3]));
    assert!(!needed(&Request::default(), &[paused(), paused(), ExpertState::default()]));
    assert!(needed(&Request::default(), &[paused(); 3]));
}

#[test]
fn labels_are_distinct_snake_case() {
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let refusals: Vec<&str> = Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
    for labels in [reasons, refusals] {
        assert!(labels.iter().all(|label| label.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
        assert_eq!(labels.iter().collect::<std::collections::BTreeSet<_>>().len(), labels.len());
    }
}
