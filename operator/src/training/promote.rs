//! Whether a bundle on trial takes the place of the one in force. Pure.

use api::{
    model::PromotionMode,
    training::{Evaluated, Point},
};
use routing::snapshot::Objective;

/// Differences this small are rounding.
const ROUNDING: f64 = 1e-9;

/// What becomes of a bundle on trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// It is published.
    Publish,
    /// A person has to say so.
    AwaitsPromotion,
    /// It gains too little over the best single expert.
    GainTooSmall,
    /// The one in force does better on the same queries.
    OlderKept,
    /// It would be published, but is still to be watched in shadow.
    InShadow,
}

/// The rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    /// Who promotes.
    pub mode: PromotionMode,
    /// What gains are measured at.
    pub objective: Objective,
    /// `Automatic` asks for it.
    pub required_gain: f64,
    /// The digest a person named.
    pub promoted: Option<&'a str>,
    /// The digest in force.
    pub in_force: Option<&'a str>,
    /// `Automatic` waits: it has not been in shadow for long enough.
    pub in_shadow: bool,
}

impl Rule<'_> {
    /// What becomes of this bundle.
    #[must_use]
    pub fn decide(&self, evaluated: &Evaluated) -> Decision {
        let is_named = |name: Option<&str>| name == Some(evaluated.digest.as_str());
        // What is in force stays in force; what a person names needs no other reason.
        if is_named(self.in_force) || is_named(self.promoted) {
            return Decision::Publish;
        }
        if self.mode == PromotionMode::Manual {
            return Decision::AwaitsPromotion;
        }
        let gain = self.gain(evaluated);
        if let Some(in_service) = evaluated.in_service.as_ref().filter(|_| self.in_force.is_some())
            && gain + ROUNDING < merit(self.objective, in_service, &evaluated.best_single)
        {
            return Decision::OlderKept;
        }
        match gain + ROUNDING < self.required_gain {
            true => Decision::GainTooSmall,
            false if self.in_shadow => Decision::InShadow,
            false => Decision::Publish,
        }
    }

    /// Over the best single expert.
    #[must_use]
    pub fn gain(&self, evaluated: &Evaluated) -> f64 {
        merit(self.objective, &evaluated.router, &evaluated.best_single)
    }
}

/// How much better than the best single expert: in score, or under `Cost` as the share of its cost saved, where none of its score is lost.
fn merit(objective: Objective, point: &Point, best_single: &Point) -> f64 {
    let score = point.score - best_single.score;
    match (objective, point.cost, best_single.cost) {
        (Objective::Cost, Some(cost), Some(best)) if score + ROUNDING >= 0.0 && best > 0.0 => 1.0 - cost / best,
        _ => score,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(score: f64, cost: f64) -> Point {
        Point { name: "x".into(), score, cost: Some(cost) }
    }

    fn evaluated(router: Point, in_service: Option<Point>) -> Evaluated {
        Evaluated {
            digest: "new".into(),
            split: "test".into(),
            rows: 100,
            router,
            best_single: point(0.60, 2.0),
            in_service,
            table: Vec::new(),
            left_out: 0,
        }
    }

    fn rule(objective: Objective, required_gain: f64) -> Rule<'static> {
        Rule { mode: PromotionMode::Automatic, objective, required_gain, promoted: None, in_force: Some("old"), in_shadow: false }
    }

    #[test]
    fn automatic_asks_for_the_gain_over_the_best_single_expert() {
        let check = |score, required, expect| {
            let found = rule(Objective::Quality, required).decide(&evaluated(point(score, 9.0), None));
            assert_eq!(found, expect, "{score} {required}");
        };
        check(0.62, 0.02, Decision::Publish);
        check(0.61, 0.02, Decision::GainTooSmall);
        check(0.60, 0.0, Decision::Publish);
        check(0.59, 0.0, Decision::GainTooSmall);
    }

    #[test]
    fn for_cost_the_gain_is_the_share_saved_at_no_less_score() {
        let check = |score, cost, required, expect| {
            assert_eq!(rule(Objective::Cost, required).decide(&evaluated(point(score, cost), None)), expect, "{score} {cost} {required}");
        };
        check(0.60, 1.0, 0.5, Decision::Publish);
        check(0.60, 1.2, 0.5, Decision::GainTooSmall);
        check(0.59, 0.1, 0.0, Decision::GainTooSmall);
    }

    #[test]
    fn the_bundle_in_force_is_never_replaced_by_a_worse_one() {
        let rule = rule(Objective::Quality, 0.01);
        assert_eq!(rule.decide(&evaluated(point(0.64, 1.0), Some(point(0.65, 1.0)))), Decision::OlderKept);
        assert_eq!(rule.decide(&evaluated(point(0.65, 1.0), Some(point(0.65, 1.0)))), Decision::Publish);
        let cost = Rule { objective: Objective::Cost, ..rule };
        assert_eq!(cost.decide(&evaluated(point(0.60, 1.0), Some(point(0.70, 0.9)))), Decision::OlderKept);
        assert_eq!(cost.decide(&evaluated(point(0.60, 1.0), Some(point(0.50, 0.1)))), Decision::Publish);
    }

    #[test]
    fn automatic_waits_for_the_shadow_and_a_person_does_not_have_to() {
        let rule = Rule { in_shadow: true, ..rule(Objective::Quality, 0.02) };
        assert_eq!(rule.decide(&evaluated(point(0.62, 1.0), None)), Decision::InShadow);
        assert_eq!(rule.decide(&evaluated(point(0.61, 1.0), None)), Decision::GainTooSmall);
        assert_eq!(Rule { promoted: Some("new"), ..rule }.decide(&evaluated(point(0.62, 1.0), None)), Decision::Publish);
        assert_eq!(Rule { in_force: Some("new"), ..rule }.decide(&evaluated(point(0.62, 1.0), None)), Decision::Publish);
    }

    #[test]
    fn a_person_has_the_last_word_and_must_name_the_very_bundle() {
        let poor = evaluated(point(0.10, 9.0), None);
        let manual = Rule { mode: PromotionMode::Manual, ..rule(Objective::Quality, 0.0) };
        assert_eq!(manual.decide(&evaluated(point(0.99, 0.1), None)), Decision::AwaitsPromotion);
        assert_eq!(Rule { promoted: Some("other"), ..manual }.decide(&poor), Decision::AwaitsPromotion);
        assert_eq!(Rule { promoted: Some("new"), ..manual }.decide(&poor), Decision::Publish);
        assert_eq!(Rule { promoted: Some("new"), ..rule(Objective::Quality, 0.5) }.decide(&poor), Decision::Publish);
    }
}
