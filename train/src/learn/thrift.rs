//! What a choice by predicted score alone should still think of money: where two experts are predicted to do nearly as well, cross-validation
//! cannot tell them apart, and the cheaper one often does better, since an expert that is chosen for a small lead owes it to chance. So each
//! expert's predicted score is lowered in proportion to its mean cost, by as much as gives the best score out of fold; nothing if that gains
//! nothing.

use ndarray::Array1;
use routing::TableError;
use serde::Serialize;

use super::guard::added;
use crate::{
    data::Data,
    decide::{Chooser, Predictions, Rule},
    settings::{Trial, mean, present_mean, standard_error},
};

/// Scores that an expert of mean cost is lowered by. Few and far apart, so that none is best by chance.
const TRIED: [f32; 4] = [0.01, 0.02, 0.03, 0.045];
/// A gain below this much of its standard error is none.
const NEEDED: f64 = 0.5;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Thrift {
    /// By how much an expert of mean cost is lowered.
    pub lowered: f32,
    /// Mean gain of score, out of fold.
    pub gain: f64,
    /// Its standard error.
    pub standard_error: f64,
}

impl Thrift {
    pub(super) fn of(trial: &Trial<'_>, chooser: &Chooser, predictions: &Predictions, data: &Data) -> Result<Self, TableError> {
        let Some(costs) = relative_costs(data) else { return Ok(Self::default()) };
        let scores = |lowered: f32| -> Result<Vec<f64>, TableError> {
            let mut moved = predictions.clone();
            added(&mut moved.quality, &(&costs * -lowered));
            Ok(trial.scores(&chooser.choose(&trial.predictions(&moved), Rule::Quality)?))
        };
        let plain = scores(0.0)?;
        let mut best = Self::default();
        for lowered in TRIED {
            let gains: Vec<f64> = scores(lowered)?.iter().zip(&plain).map(|(score, plain)| score - plain).collect();
            let (gain, standard_error) = (mean(&gains), standard_error(&gains));
            if gain > best.gain && gain > NEEDED * standard_error {
                best = Self { lowered, gain, standard_error };
            }
        }
        Ok(best)
    }

    /// What is added to each expert's prediction.
    pub(super) fn favour(self, data: &Data) -> Array1<f32> {
        match relative_costs(data) {
            Some(costs) if self.lowered > 0.0 => costs * -self.lowered,
            _ => Array1::zeros(data.experts.len()),
        }
    }

    pub(super) fn line(self) -> Option<String> {
        let Self { lowered, gain, standard_error } = self;
        (lowered > 0.0).then(|| {
            format!("of nearly equal experts the cheaper one: {lowered} off the predicted score for mean cost ({gain:+.4} ± {standard_error:.4})")
        })
    }
}

/// Mean cost of each expert in units of their mean; none where the cost of one is not known at all, or nothing costs anything.
fn relative_costs(data: &Data) -> Option<Array1<f32>> {
    let costs: Array1<f32> = data.cost.columns().into_iter().map(|column| present_mean(column.iter().copied())).collect();
    let mean = costs.mean().filter(|mean| mean.is_finite() && *mean > 0.0)?;
    Some(costs / mean)
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::Thrift;
    use crate::{
        decide::{Market, Predictions},
        learn::tests::data,
        settings::Trial,
    };

    /// `sums` and `words` cost 20 and 10 times what `cheap` does.
    #[test]
    fn a_lead_that_is_none_is_not_paid_for_and_one_that_is_real_is() {
        for (right, lead, thrifty) in [("cheap", 0.005, true), ("words", 0.3, false)] {
            let mut data = data(200, 1.0);
            let at = |name: &str| data.experts.iter().position(|expert| expert == name).unwrap();
            let (right, words) = (at(right), at("words"));
            data.score.fill(0.4);
            data.score.column_mut(right).fill(0.6);
            let mut quality = Array2::zeros(data.score.dim());
            quality.column_mut(words).fill(lead);
            let predictions = Predictions {
                output_tokens: Array2::from_elem(quality.dim(), f32::NAN),
                quality,
                seconds: vec![f32::NAN; 3],
                prompt_tokens: vec![1.0; data.rows()],
            };
            let chooser = Market::read(None).unwrap().chooser(&data);
            let found = Thrift::of(&Trial::new(&data, words), &chooser, &predictions, &data).unwrap();
            assert_eq!(found.lowered > 0.0, thrifty, "{found:?}");
            let favour = found.favour(&data);
            assert_eq!(favour[words] < favour[right], thrifty, "{favour}");
            data.cost.fill(f32::NAN);
            assert_eq!(
                Thrift::of(&Trial::new(&data, words), &chooser, &predictions, &data).unwrap().lowered,
                0.0,
                "nothing is known of costs"
            );
        }
    }
}
