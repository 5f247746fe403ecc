//! Predictions to choices, by the very rule that serving uses ([`routing::choose`]).

use std::collections::BTreeMap;

use ndarray::Array2;
use routing::{
    Prices, Request, Scores, Snapshot, Table, TableError,
    snapshot::{Expert, Objective, Placement, Policy, Weights},
};

/// What a router predicts of some rows.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// `rows x experts`.
    pub quality: Array2<f32>,
    /// `rows x experts`; NaN where unknown.
    pub output_tokens: Array2<f32>,
    /// Mean of each expert; NaN where unknown.
    pub seconds: Vec<f32>,
    /// Of each row.
    pub prompt_tokens: Vec<f64>,
}

/// An objective with its setting.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The best predicted score.
    Quality,
    /// The cheapest that loses at most so much.
    Cost {
        /// In units of the score.
        tolerance: f64,
    },
    /// The best `score - weight * 100 * USD`.
    Balanced {
        /// Score given up for a US cent.
        cost_weight: f64,
    },
}

/// A router's experts as far as a choice needs them.
#[derive(Debug, Clone)]
pub struct Chooser {
    snapshot: Snapshot,
}

impl Chooser {
    /// Of experts by name, with what they charge.
    #[must_use]
    pub fn new(experts: &[String], prices: &[Option<Prices>], placements: &BTreeMap<String, Placement>) -> Self {
        let expert = |(name, prices): (&String, &Option<Prices>)| Expert {
            prices: *prices,
            placement: placements.get(name).copied(),
            ..Expert::plain(name)
        };
        let experts = experts.iter().zip(prices).map(expert).collect();
        Self { snapshot: Snapshot::of(experts) }
    }

    /// Of a manifest's snapshot: its prices, limits and instructions. Experts are taken in the order of `names`.
    #[must_use]
    pub fn of_snapshot(snapshot: &Snapshot, names: &[String]) -> Self {
        let mut snapshot = snapshot.clone();
        snapshot.experts = names.iter().filter_map(|name| snapshot.experts.iter().find(|expert| expert.name == *name).cloned()).collect();
        let known = |name: &Option<String>| name.clone().filter(|name| names.contains(name));
        (snapshot.policy.fallback_expert, snapshot.policy.baseline_expert) =
            (known(&snapshot.policy.fallback_expert), known(&snapshot.policy.baseline_expert));
        (snapshot.model, snapshot.session) = (None, None);
        snapshot.budgets.clear();
        Self { snapshot }
    }

    /// Chooses for every row. Where no expert may take a request (its prompt fits none), the first is taken.
    ///
    /// # Errors
    /// Experts or weights that no snapshot may have.
    pub fn choose(&self, predictions: &Predictions, rule: Rule) -> Result<Vec<usize>, TableError> {
        let mut snapshot = self.snapshot.clone();
        snapshot.policy = self.policy(rule);
        let table = Table::compile(snapshot)?;
        let row = |row: usize| {
            let request = Request { prompt_tokens: predictions.prompt_tokens[row].round() as u64, ..Request::default() };
            let scores = Scores {
                quality: predictions.quality.row(row).to_vec(),
                output_tokens: predictions.output_tokens.row(row).to_vec(),
                seconds: predictions.seconds.clone(),
            };
            routing::choose(&table, &request, &[], Ok(&scores)).map_or(0, |decision| decision.expert)
        };
        Ok((0..predictions.quality.nrows()).map(row).collect())
    }

    fn policy(&self, rule: Rule) -> Policy {
        let policy = self.snapshot.policy.clone();
        match rule {
            Rule::Quality => Policy { objective: Objective::Quality, ..policy },
            Rule::Cost { tolerance } => Policy { objective: Objective::Cost, quality_tolerance: tolerance, ..policy },
            Rule::Balanced { cost_weight } => {
                Policy { objective: Objective::Balanced, weights: Weights { quality: 1.0, cost: cost_weight, latency: 0.0 }, ..policy }
            }
        }
    }
}

/// Tolerances of the curve: fine where a little is given up, up to all of it.
#[must_use]
pub fn tolerances() -> Vec<f64> {
    let mut all = vec![0.0];
    all.extend((0..40).map(|step| 0.0025 * 1.165_f64.powi(step)));
    all
}

/// Cost weights of the curve for pools of any price: from one that moves nothing to one that leaves nothing but the cheapest, for costs
/// of `mean_cost` USD a query.
#[must_use]
pub fn cost_weights(mean_cost: f64) -> Vec<f64> {
    let unit = 0.01 / mean_cost.max(1e-12);
    let mut all = vec![0.0];
    // A doubling every four steps, from 0.001 to 30 scores for the mean cost.
    all.extend((0..60).map(|step| 0.001 * 2_f64.powf(f64::from(step) / 4.0) * unit));
    all
}
