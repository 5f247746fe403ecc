//! Predictions to choices, by the very rule that serving uses ([`routing::choose`]).

use std::{collections::BTreeMap, path::Path};

use ndarray::{Array2, Axis};
use rayon::prelude::*;
use routing::{
    Prices, Recommended, Request, Scores, Snapshot, Table, TableError,
    snapshot::{Expert, Objective, Placement, Policy, Weights},
};

use crate::{data::Data, prices};

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

impl Predictions {
    /// Some of the rows.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            quality: self.quality.select(Axis(0), rows),
            output_tokens: self.output_tokens.select(Axis(0), rows),
            seconds: self.seconds.clone(),
            prompt_tokens: rows.iter().map(|row| self.prompt_tokens[*row]).collect(),
        }
    }
}

impl Rule {
    /// The tolerance, or the weight of a cent; 0 where there is none.
    #[must_use]
    pub fn setting(self) -> f64 {
        match self {
            Self::Quality => 0.0,
            Self::Cost { tolerance } => tolerance,
            Self::Balanced { cost_weight } => cost_weight,
        }
    }
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
        // Only places count here, and outcomes have experts under names that no manifest may use ("a+b").
        let expert = |(at, (name, prices)): (usize, (&String, &Option<Prices>))| Expert {
            prices: *prices,
            placement: placements.get(name).copied(),
            ..Expert::plain(&format!("expert-{at}"))
        };
        let experts = experts.iter().zip(prices).enumerate().map(expert).collect();
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
                recommended: Recommended::default(),
            };
            routing::choose(&table, &request, &[], Ok(&scores)).map_or(0, |decision| decision.expert)
        };
        Ok((0..predictions.quality.nrows()).into_par_iter().map(row).collect())
    }

    fn policy(&self, rule: Rule) -> Policy {
        let policy = self.snapshot.policy.clone();
        match rule {
            Rule::Quality => Policy { objective: Objective::Quality, ..policy },
            Rule::Cost { tolerance } => Policy { objective: Objective::Cost, quality_tolerance: Some(tolerance), ..policy },
            Rule::Balanced { cost_weight } => Policy {
                objective: Objective::Balanced,
                weights: Weights { quality: 1.0, cost: Some(cost_weight), latency: 0.0 },
                ..policy
            },
        }
    }
}

/// Where prices, limits and placements come from: a manifest, or the outcomes themselves.
#[derive(Debug, Clone)]
pub struct Market {
    snapshot: Option<Snapshot>,
}

/// Why a manifest is of no use here.
#[derive(Debug, thiserror::Error)]
pub enum MarketError {
    /// The disk says no.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is not as it should be.
    #[error("{path}: {source}")]
    Manifest {
        /// Which file.
        path: String,
        /// Where and why.
        source: api::ManifestError,
    },
    /// Experts bind by name.
    #[error("the manifest has no expert {}; it has {}", missing.join(", "), known.join(", "))]
    MissingExperts {
        /// In the outcomes.
        missing: Vec<String>,
        /// In the manifest.
        known: Vec<String>,
    },
}

/// A manifest's snapshot for decisions without calls: no expert is asked here, so neither its Secrets nor its address need be at hand.
fn read_prices(yaml: &str, path: &Path) -> Result<Snapshot, api::ManifestError> {
    let objects = api::read_objects(yaml)?;
    let experts = objects.routers.iter().flat_map(|router| &router.spec.experts);
    let nowhere = |name: &String| (name.clone(), Expert::plain(name).base_url);
    let standalone = api::Standalone {
        base_directory: path.parent().map(Path::to_path_buf).unwrap_or_default(),
        secrets_directory: Some("secrets".into()),
        expert_urls: experts.filter(|expert| expert.deployment.is_some()).map(|expert| nowhere(&expert.name)).collect(),
    };
    api::read_manifest(yaml, &standalone)
}

impl Market {
    /// Of a manifest, or of none.
    ///
    /// # Errors
    /// The file and what is wrong with it.
    pub fn read(manifest: Option<&Path>) -> Result<Self, MarketError> {
        let Some(path) = manifest else { return Ok(Self { snapshot: None }) };
        let name = path.display().to_string();
        let yaml = std::fs::read_to_string(path).map_err(|source| MarketError::Read { path: name.clone(), source })?;
        let snapshot = read_prices(&yaml, path).map_err(|source| MarketError::Manifest { path: name, source })?;
        Ok(Self { snapshot: Some(snapshot) })
    }

    /// Makes the cost of outcomes that of the manifest's prices, where tokens are known; without a manifest all stays as it was paid.
    ///
    /// # Errors
    /// The manifest lacks an expert.
    pub fn reprice(&self, data: &mut Data) -> Result<(), MarketError> {
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        let known: Vec<String> = snapshot.experts.iter().map(|expert| expert.name.clone()).collect();
        let missing: Vec<String> = data.experts.iter().filter(|name| !known.contains(name)).cloned().collect();
        if !missing.is_empty() {
            return Err(MarketError::MissingExperts { missing, known });
        }
        let of = |name: &String| snapshot.experts.iter().find(|expert| expert.name == *name).and_then(|expert| expert.prices);
        let prices: Vec<Option<Prices>> = data.experts.iter().map(of).collect();
        prices::reprice(data, &prices);
        Ok(())
    }

    /// What chooses between the data's experts: by the manifest's prices and limits, else by prices read off these rows.
    #[must_use]
    pub fn chooser(&self, data: &Data) -> Chooser {
        match &self.snapshot {
            Some(snapshot) => Chooser::of_snapshot(snapshot, &data.experts),
            None => Chooser::new(&data.experts, &prices::prices(data), &BTreeMap::new()),
        }
    }

    /// `edge` or `cloud` by expert, where a manifest says so.
    #[must_use]
    pub fn placements(&self) -> BTreeMap<String, String> {
        let name = |placement: Placement| match placement {
            Placement::Edge => "edge".to_owned(),
            Placement::Cloud => "cloud".to_owned(),
        };
        let experts = self.snapshot.iter().flat_map(|snapshot| &snapshot.experts);
        experts.filter_map(|expert| Some((expert.name.clone(), name(expert.placement?)))).collect()
    }
}

/// Tolerances of the curve: fine where a little is given up, up to all of it.
#[must_use]
pub fn tolerances() -> Vec<f64> {
    let mut all = vec![0.0];
    all.extend((0..40).map(|step| 0.0025 * 1.165_f64.powi(step)));
    all
}

/// No policy may weigh a cent more.
const MOST_COST_WEIGHT: f64 = 1e9;

/// Cost weights of the curve for pools of any price: from one that moves nothing to one that leaves nothing but the cheapest, for costs
/// of `mean_cost` USD a query. Beside free answers a cent weighs as much as it may.
#[must_use]
pub fn cost_weights(mean_cost: f64) -> Vec<f64> {
    let unit = 0.01 / mean_cost.max(1e-12);
    let mut all = vec![0.0];
    // A doubling every four steps, from 0.001 to 30 scores for the mean cost.
    all.extend((0..60).map(|step| 0.001 * 2_f64.powf(f64::from(step) / 4.0) * unit).take_while(|weight| *weight <= MOST_COST_WEIGHT));
    all
}

#[cfg(test)]
mod tests;
