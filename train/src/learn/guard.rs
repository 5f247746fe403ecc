//! No router may do worse than the best single expert: where cross-validation shows no gain, that expert is favoured by as much as it
//! takes for it to answer everything. Its lead does not hide what experts are predicted to lose against it, so that choices by cost still
//! have something to go by.

use ndarray::{Array1, Array2};
use routing::TableError;
use serde::Serialize;

use crate::{
    decide::{Chooser, Predictions, Rule},
    settings::{Trial, mean, standard_error},
};

/// A gain below this much of its standard error is none.
const NEEDED: f64 = 0.5;
/// How much further than the largest lead seen out of fold the best single expert is put in front.
const MARGIN: f32 = 1.25;

/// What cross-validation says of the gain, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Guard {
    /// Mean gain of score over the best single expert, out of fold.
    pub gain: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// By how much the best single expert's predicted score is raised; 0: the router has earned its place.
    pub favour: f32,
}

impl Guard {
    pub(super) fn of(trial: &Trial<'_>, chooser: &Chooser, predictions: &Predictions, best_single: usize) -> Result<Self, TableError> {
        let predictions = trial.predictions(predictions);
        let scores = trial.scores(&chooser.choose(&predictions, Rule::Quality)?);
        let gains: Vec<f64> = scores.iter().zip(trial.scores(&trial.single())).map(|(score, single)| score - single).collect();
        let (gain, standard_error) = (mean(&gains), standard_error(&gains));
        let earned = gain > 0.0 && gain > NEEDED * standard_error;
        let favour = if earned { 0.0 } else { MARGIN * largest_lead(&predictions.quality, best_single) + 0.01 };
        Ok(Self { gain, standard_error, favour })
    }

    /// What is added to each expert's prediction.
    pub(super) fn favour(self, best_single: usize, experts: usize) -> Array1<f32> {
        Array1::from_shape_fn(experts, |expert| if expert == best_single { self.favour } else { 0.0 })
    }

    pub(super) fn line(self, best_single: &str) -> String {
        let Self { gain, standard_error, favour } = self;
        if favour > 0.0 {
            format!("no gain over {best_single} out of fold ({gain:+.4} ± {standard_error:.4}): {best_single} answers unless cost decides")
        } else {
            format!("gain over {best_single} out of fold: {gain:+.4} ± {standard_error:.4}")
        }
    }
}

/// Adds to each expert's prediction.
pub(super) fn added(quality: &mut Array2<f32>, favour: &Array1<f32>) {
    *quality += favour;
}

/// By how much another expert is ever predicted to be better.
fn largest_lead(quality: &Array2<f32>, best_single: usize) -> f32 {
    let lead = |row: ndarray::ArrayView1<'_, f32>| row.iter().map(|quality| quality - row[best_single]).fold(0.0, f32::max);
    quality.rows().into_iter().map(lead).fold(0.0, f32::max)
}
