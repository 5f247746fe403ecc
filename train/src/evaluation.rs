//! What an evaluation found: a stable format, written as JSON by `evaluate --json`, drawn by the report. See docs/evaluation.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// `train`, `val` or `test`.
    pub split: String,
    /// Rows that were compared: those of the split in which every expert has a score.
    pub rows: usize,
    /// Rows of the split left out because an expert has no score there.
    #[serde(default)]
    pub rows_left_out: usize,
    /// The experts a router could choose from.
    pub experts: Vec<String>,
    /// Which field is the score: `score`, `bertsim`, or a weighted sum.
    pub score_field: String,
    /// The kind of router: `knn`, `mlp`, `bert`, `lexical`, `mixture`.
    pub router_kind: String,
    /// The expert with the best mean score on the training rows.
    #[serde(default)]
    pub best_single: String,
    /// The expert with the least mean cost on the training rows.
    #[serde(default)]
    pub cheapest: String,
    /// What `router.balanced` and `router.cost` were made with.
    #[serde(default)]
    pub settings: Settings,
    /// `edge` or `cloud` by expert, where a manifest says so.
    #[serde(default)]
    pub placements: BTreeMap<String, String>,
    /// Over all data sets.
    pub overall: Comparison,
    /// By data set.
    pub datasets: BTreeMap<String, Comparison>,
    /// Score against cost, from the cheapest expert within ever larger tolerances.
    pub tolerance_curve: Vec<CurvePoint>,
    /// Score against cost, from the largest weighted sum of score and cost with ever larger weights of cost.
    pub cost_weight_curve: Vec<CurvePoint>,
    /// Two points on the curves.
    pub named_points: NamedPoints,
    /// `(router - best single) / (oracle - best single)` of the score; null where the oracle is no better than the best single.
    pub oracle_gap_share: Option<f64>,
    /// The gain of the router over the best single expert, query by query.
    pub gain_over_best_single: Gain,
}

/// Everything compared on one set of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// How many rows.
    pub rows: usize,
    /// What needs no router.
    pub baselines: Baselines,
    /// The router under each objective.
    pub router: RouterResults,
}

/// What needs no router, or could not be had by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// Each expert with the same probability: its expectation, not a sample.
    pub random: Measures,
    /// The expert with the least mean cost on the training rows.
    pub cheapest: Measures,
    /// The expert with the best mean score on the training rows.
    pub best_single: Measures,
    /// For each data set the expert with the best mean score on its training rows: a router that is told the data set.
    pub label_given: Measures,
    /// The cheapest of the best experts of each query: what no router can pass.
    pub oracle: Measures,
    /// Each expert by itself.
    pub experts: BTreeMap<String, Measures>,
}

/// The router under each objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterResults {
    /// The best predicted score.
    pub quality: Measures,
    /// The best weighted sum of score and cost, weights as the bundle recommends or as told.
    pub balanced: Measures,
    /// The cheapest within a tolerance, as the bundle recommends or as told.
    pub cost: Measures,
}

/// Means over the chosen experts' outcomes. Null where the data has none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Of the field named as the score.
    pub score: Option<f64>,
    /// BERTScore F1 against the reference.
    pub bertsim: Option<f64>,
    /// Negative log-likelihood per token, nats.
    pub nll: Option<f64>,
    /// USD per 1,000 queries.
    pub cost_per_1k_usd: Option<f64>,
    /// Completion tokens by seconds, each summed over the rows that have both.
    pub tokens_per_second: Option<f64>,
    /// Of the mean score.
    pub standard_error: Option<f64>,
    /// Share of the queries that went to an expert at the edge; null without placements.
    #[serde(default)]
    pub edge_share: Option<f64>,
    /// USD per 1,000 queries spent at the edge, counted over all queries.
    #[serde(default)]
    pub edge_cost_per_1k_usd: Option<f64>,
    /// Share of the queries by expert. Empty for `random`.
    #[serde(default)]
    pub shares: BTreeMap<String, f64>,
}

/// One setting of a router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The tolerance, or the score given up for a US cent.
    pub setting: f64,
    /// Mean score.
    pub score: f64,
    /// USD per 1,000 queries.
    pub cost_per_1k_usd: Option<f64>,
    /// Share of the queries that went to an expert at the edge.
    #[serde(default)]
    pub edge_share: Option<f64>,
}

/// The two settings people ask for, read off the curves with hindsight (what is attainable); what the bundle recommends without
/// hindsight is `router.balanced` and `router.cost`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedPoints {
    /// Best score at no more than the best single expert's cost.
    pub best_score_within_cost: Option<CurvePoint>,
    /// Least cost at no less than the best single expert's score.
    pub least_cost_at_score: Option<CurvePoint>,
}

/// A paired difference.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// Mean difference of score.
    pub score: f64,
    /// Its standard error, from the differences themselves.
    pub standard_error: f64,
    /// Share of the best single's cost saved.
    pub cost_saved: Option<f64>,
}
