//! A trained mixture made into a bundle: one graph, one `bundle.json`, checked against the trainer before anybody may have it.

mod export;

use model::{
    Bundle, Engine, EngineOptions,
    bundle::{ExpertEntry, Output},
};
use ndarray::{Array1, Array2};

use crate::{
    data::Data,
    mix::Mixture,
    views::{Views, WordSpace},
};

/// How far an exported score may lie from the trainer's. Sums in another order differ by some 1e-6; a text whose direction lies within
/// that of a tree's threshold may fall to the other side, which moves the score by a two-hundredth of a leaf.
pub const EXPORT_TOLERANCE: f32 = 0.01;
/// Sums of parts may pass below any share an expert can have; no logarithm is taken of less than this.
const LEAST_SHARE: f32 = 1e-3;
/// On average, where single trees that fell to the other side no longer matter.
pub const EXPORT_MEAN_TOLERANCE: f32 = 1e-4;

/// A router, fitted.
pub struct Router {
    /// `lexical`, `knn` or `mixture`.
    pub kind: String,
    /// In the order of the output's columns.
    pub experts: Vec<ExpertEntry>,
    /// Where a part sees words.
    pub space: WordSpace,
    /// What the sum of the mixture means.
    pub meaning: Meaning,
    /// Added to each expert's predicted score: less for dearer experts where that does better, more for the best single expert where nothing
    /// else gains.
    pub favour: Array1<f32>,
    /// What predicts.
    pub mixture: Mixture,
}

/// What the sum of a mixture's means and deviations is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning {
    /// Predicted scores.
    Scores,
    /// Predicted shares of the soft label, by parts that average shares.
    Shares {
        /// T of the soft label.
        temperature: f32,
    },
    /// In units of the score, by a network trained so that `softmax(T * sum)` is the soft label.
    Logits {
        /// T of the soft label.
        temperature: f32,
    },
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The bundle does not hold together, or cannot be run.
    #[error("the exported router cannot be used")]
    Bundle(#[from] model::BundleError),
    /// It could not be asked.
    #[error("the exported router does not answer")]
    Score(#[from] model::ScoreError),
    /// It says something else than the trainer.
    #[error("the exported router differs from the trainer by {most:.5} at most and {mean:.6} on average")]
    Differs {
        /// Largest difference of a score.
        most: f32,
        /// Mean difference.
        mean: f32,
    },
}

/// How near an exported router is to its trainer.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Agreement {
    /// Texts compared.
    pub texts: usize,
    /// Largest difference of a score.
    pub most: f32,
    /// Mean difference.
    pub mean: f32,
}

impl Router {
    /// Whether it reads tokens.
    #[must_use]
    pub fn needs_encoder(&self) -> bool {
        self.mixture.parts.iter().any(|(spec, _, _)| spec.needs_embedding())
    }

    /// A router without parts reads the surface, for the number of rows.
    fn needs_words(&self) -> bool {
        self.mixture.parts.is_empty() || self.mixture.parts.iter().any(|(spec, _, _)| spec.needs_words())
    }

    /// Predicted quality in units of the score, `rows x experts`; only differences within a row count.
    #[must_use]
    pub fn predict(&self, views: &Views) -> Array2<f32> {
        self.meaning.quality(self.mixture.predict(views)) + &self.favour
    }

    /// Runs the bundle as a server would and compares.
    ///
    /// # Errors
    /// It cannot be run, or differs by more than the tolerance.
    pub fn agreement(&self, bundle: &Bundle, texts: &[String], views: &Views) -> Result<Agreement, ExportError> {
        agreement(bundle, texts, &self.predict(views))
    }
}

impl Meaning {
    /// A sum in units of the score: a share becomes `ln p / T`.
    #[must_use]
    pub fn quality(self, sum: Array2<f32>) -> Array2<f32> {
        match self {
            Self::Scores | Self::Logits { .. } => sum,
            Self::Shares { temperature } => sum.mapv_into(|share| share.max(LEAST_SHARE).ln() / temperature),
        }
    }

    /// For people and `bundle.json`.
    #[must_use]
    pub fn loss(self) -> String {
        match self {
            Self::Scores => "score".into(),
            Self::Shares { temperature } | Self::Logits { temperature } => format!("soft-label:{temperature}"),
        }
    }

    fn output(self) -> Output {
        match self {
            Self::Scores => Output::Scores,
            Self::Shares { temperature } | Self::Logits { temperature } => Output::LogProbs { temperature: f64::from(temperature) },
        }
    }
}

/// Runs a bundle as a server would, and compares what it says with what the trainer said.
///
/// # Errors
/// It cannot be run, or differs by more than the tolerance.
pub fn agreement(bundle: &Bundle, texts: &[String], expected: &Array2<f32>) -> Result<Agreement, ExportError> {
    let engine = load(bundle.clone())?;
    let (mut most, mut total) = (0.0_f32, 0.0_f64);
    for (found, expected) in engine.score_all(texts)?.iter().zip(expected.rows()) {
        // Only differences between experts count.
        let shift = found.quality.iter().zip(expected).map(|(found, expected)| found - expected).sum::<f32>() / expected.len() as f32;
        for (found, expected) in found.quality.iter().zip(expected) {
            let error = (found - expected - shift).abs();
            most = if error.is_nan() { f32::INFINITY } else { most.max(error) };
            total += f64::from(error);
        }
    }
    let mean = (total / expected.len().max(1) as f64) as f32;
    if most <= EXPORT_TOLERANCE && mean <= EXPORT_MEAN_TOLERANCE {
        Ok(Agreement { texts: texts.len(), most, mean })
    } else {
        Err(ExportError::Differs { most, mean })
    }
}

/// A bundle ready to be asked, without a memory of prompts: every answer is computed.
///
/// # Errors
/// What is wrong with the library or the bundle.
pub fn load(bundle: Bundle) -> Result<Engine, ExportError> {
    let options = EngineOptions { cache_entries: 0, ..EngineOptions::default() };
    Ok(Engine::load(bundle, &options)?)
}

/// What training knows of the experts, for the bundle.
#[must_use]
pub fn expert_entries(data: &Data) -> Vec<ExpertEntry> {
    let mean = |matrix: &Array2<f32>, expert: usize| {
        let present: Vec<f64> = matrix.column(expert).iter().filter(|value| !value.is_nan()).map(|value| f64::from(*value)).collect();
        (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64)
    };
    let entry = |(at, name): (usize, &String)| ExpertEntry {
        name: name.clone(),
        mean_score: mean(&data.score, at),
        mean_output_tokens: mean(&data.output_tokens, at),
        mean_seconds: mean(&data.seconds, at),
    };
    data.experts.iter().enumerate().map(entry).collect()
}
