//! What holds of every choice, whatever the numbers.

use proptest::prelude::*;

use super::*;
use crate::{
    candidate,
    fixtures::{compile, snapshot_json},
};

fn states() -> impl Strategy<Value = Vec<ExpertState>> {
    let state = (prop::bool::weighted(0.2), prop::bool::weighted(0.3), 0_u32..6);
    prop::collection::vec(state.prop_map(|(ejected, paused, in_flight)| ExpertState { ejected, paused, in_flight }), 0..4)
}

fn any_scores() -> impl Strategy<Value = Scores> {
    let numbers = || prop::collection::vec(prop_oneof![4 => 0.0_f32..1.0, 1 => any::<f32>()], 3);
    let counts = || prop::collection::vec(prop_oneof![4 => 0.0_f32..2_000.0, 1 => any::<f32>()], 3);
    (numbers(), counts(), counts()).prop_map(|(quality, output_tokens, seconds)| Scores {
        quality,
        output_tokens,
        seconds,
        recommended: Recommended::default(),
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let objective = prop::option::of(prop::sample::select(vec![Objective::Quality, Objective::Cost, Objective::Balanced]));
    let needs = prop::sample::subsequence(vec![Capability::Tools, Capability::Vision, Capability::JsonSchema], 0..2);
    let numbers = (0_u64..20_000, prop::option::of(0_u64..4_000), prop::option::of(any::<f64>()));
    (numbers, needs, prop::option::weighted(0.1, 0_usize..4), objective, prop::option::of(0_usize..4), prop::bool::weighted(0.1)).prop_map(
        |((prompt_tokens, max_output_tokens, quality_tolerance), needs, pin, objective, session_expert, prefer_cheaper)| Request {
            prompt_tokens,
            max_output_tokens,
            needs,
            pin,
            objective,
            quality_tolerance,
            session_expert,
            prefer_cheaper,
        },
    )
}

fn with_tolerance(request: &Request, objective: Objective, tolerance: f64) -> Request {
    Request { objective: Some(objective), quality_tolerance: Some(tolerance), pin: None, session_expert: None, ..request.clone() }
}

proptest! {
    #[test]
    fn the_chosen_expert_passes_every_limit_and_nobody_is_named_twice(request in requests(), state in states(), scores in any_scores()) {
        let table = compile(snapshot_json());
        let limits = Limits::new(&table, &request, &state);
        let passes = |expert| limits.hit(expert).is_none();
        let able = (0..3).filter(|expert| passes(*expert)).count();
        match choose(&table, &request, &state, Ok(&scores)) {
            Ok(decision) if request.pin.is_some() => prop_assert_eq!(Some(decision.expert), request.pin),
            Ok(decision) => {
                prop_assert!(passes(decision.expert));
                let mut named = decision.fallbacks.clone();
                named.push(decision.expert);
                named.sort_unstable();
                named.dedup();
                prop_assert_eq!(named.len(), decision.fallbacks.len() + 1);
                prop_assert!(decision.fallbacks.iter().all(|expert| passes(*expert) || Some(*expert) == table.fallback()));
                prop_assert!(named.len() >= able);
                prop_assert!(decision.predicted_cost_usd.is_none_or(|cost| cost.is_finite() && cost >= 0.0));
            }
            Err(_) if request.pin.is_some() => {}
            Err(_) => prop_assert_eq!(able, 0),
        }
    }

    #[test]
    fn cost_is_never_dearer_than_quality_and_quality_never_worse_than_cost(
        request in requests(), state in states(), scores in any_scores(), tolerance in 0.0_f64..1.0,
    ) {
        let table = compile(snapshot_json());
        let run = |objective| choose(&table, &with_tolerance(&request, objective, tolerance), &state, Ok(&scores));
        let (Ok(cost), Ok(quality)) = (run(Objective::Cost), run(Objective::Quality)) else { return Ok(()) };
        let all = candidate::candidates(Limits::new(&table, &request, &state), Some(&scores)).unwrap();
        let of = |decision: &Decision| *all.iter().find(|candidate| candidate.expert == decision.expert).unwrap();
        prop_assert!(of(&cost).cost_usd <= of(&quality).cost_usd);
        prop_assert!(of(&quality).quality >= of(&cost).quality || cost.reason == Reason::ModelBroken);
        if cost.reason == Reason::Cost {
            prop_assert!(of(&quality).quality - of(&cost).quality <= tolerance + 2.0 * SCORE_SLACK);
        }
    }

    #[test]
    fn a_larger_tolerance_never_costs_more(
        request in requests(), state in states(), scores in any_scores(), tolerance in 0.0_f64..1.0, more in 0.0_f64..1.0,
    ) {
        let table = compile(snapshot_json());
        let run = |tolerance| choose(&table, &with_tolerance(&request, Objective::Cost, tolerance), &state, Ok(&scores));
        let (Ok(strict), Ok(loose)) = (run(tolerance), run(tolerance + more)) else { return Ok(()) };
        let all = candidate::candidates(Limits::new(&table, &request, &state), Some(&scores)).unwrap();
        let cost = |decision: &Decision| all.iter().find(|candidate| candidate.expert == decision.expert).unwrap().cost_usd;
        prop_assert!(cost(&loose) <= cost(&strict));
    }

    #[test]
    fn a_decision_is_the_same_each_time_and_a_needless_score_changes_nothing(
        request in requests(), state in states(), scores in any_scores(),
    ) {
        let table = compile(snapshot_json());
        let with = choose(&table, &request, &state, Ok(&scores));
        prop_assert_eq!(&with, &choose(&table, &request, &state, Ok(&scores)));
        if !needs_scores(&table, &request, &state) {
            let without = choose(&table, &request, &state, Err(ScoreFailure::NoModel));
            prop_assert_eq!(with.map(|d| (d.expert, d.reason)), without.map(|d| (d.expert, d.reason)));
        }
    }
}
