//! Score against cost, over all settings of the two objectives that weigh them, and two points people ask for.

use routing::TableError;

use super::compare::Rows;
use crate::{
    decide::{Chooser, Predictions, Rule, cost_weights, tolerances},
    evaluation::{CurvePoint, Measures, NamedPoints},
    settings::present_mean,
};

/// Both curves.
pub(super) struct Curves {
    pub(super) tolerances: Vec<CurvePoint>,
    pub(super) cost_weights: Vec<CurvePoint>,
}

impl Curves {
    pub(super) fn of(chooser: &Chooser, predictions: &Predictions, rows: &Rows<'_>) -> Result<Self, TableError> {
        let all: Vec<usize> = (0..rows.data.rows()).collect();
        let point = |rule: Rule| -> Result<Option<CurvePoint>, TableError> {
            let Measures { score, cost_per_1k_usd, edge_share, .. } = rows.measures(&all, &chooser.choose(predictions, rule)?);
            Ok(score.map(|score| CurvePoint { setting: rule.setting(), score, cost_per_1k_usd, edge_share }))
        };
        let points = |rules: Vec<Rule>| rules.into_iter().filter_map(|rule| point(rule).transpose()).collect::<Result<Vec<_>, _>>();
        let mean_cost = f64::from(present_mean(rows.data.cost.iter().copied()));
        let weights = if mean_cost.is_nan() { vec![0.0] } else { cost_weights(mean_cost) };
        Ok(Self {
            tolerances: points(tolerances().into_iter().map(|tolerance| Rule::Cost { tolerance }).collect())?,
            cost_weights: points(weights.into_iter().map(|cost_weight| Rule::Balanced { cost_weight }).collect())?,
        })
    }

    /// Read off both curves.
    pub(super) fn named(&self, best_single: &Measures) -> NamedPoints {
        let (Some(score), Some(cost)) = (best_single.score, best_single.cost_per_1k_usd) else { return NamedPoints::default() };
        let points = || {
            let labelled = |curve: &'static str| move |point: &CurvePoint| (curve, point.clone());
            self.tolerances.iter().map(labelled("tolerance")).chain(self.cost_weights.iter().map(labelled("cost_weight")))
        };
        let costs = |point: &CurvePoint| point.cost_per_1k_usd.unwrap_or(f64::INFINITY);
        // Sums of the same rows in another order differ in the last digits.
        let slack = 1.0 + 1e-9;
        let best = points().filter(|(_, point)| costs(point) <= cost * slack).reduce(|best, point| {
            let better = point.1.score > best.1.score || (point.1.score == best.1.score && costs(&point.1) < costs(&best.1));
            if better { point } else { best }
        });
        let cheapest = points().filter(|(_, point)| point.score * slack >= score).reduce(|best, point| {
            let better = costs(&point.1) < costs(&best.1) || (costs(&point.1) == costs(&best.1) && point.1.score > best.1.score);
            if better { point } else { best }
        });
        NamedPoints { best_score_within_cost: best.map(|(_, point)| point), least_cost_at_score: cheapest.map(|(_, point)| point) }
    }
}
