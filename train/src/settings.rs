//! What training recommends to those who serve, found on rows that no part had seen: how much a cent is worth under `Balanced`, and what
//! `Cost` may give up. With these, both objectives are good without hindsight.

use ndarray::Array2;
use routing::TableError;
use serde::{Deserialize, Serialize};

use crate::{
    data::Data,
    decide::{Chooser, Predictions, Rule, cost_weights, tolerances},
};

/// A tolerance is recommended only if the score it keeps is above the best single expert's by this much of the standard error.
const SPARE: f64 = 1.0;
/// Where nothing is known of costs.
const DEFAULT_COST_WEIGHT: f64 = 0.5;
/// Likewise.
const DEFAULT_TOLERANCE: f64 = 0.02;

/// What a choice came to, over some rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Mean score.
    pub score: f64,
    /// USD per 1,000 queries; null where nothing is known of costs.
    pub cost_per_1k_usd: Option<f64>,
}

/// One objective's setting, with what it came to out of fold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recommended {
    /// The weight of a cent (`Balanced`), or the tolerance (`Cost`).
    pub setting: f64,
    /// Out of fold.
    pub out_of_fold: Option<Outcome>,
}

/// For `bundle.json`, `evaluate`, and a manifest's policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `policy.weights.cost`, where quality weighs 1: the best score at no more than the best single expert's cost.
    pub balanced: Recommended,
    /// `policy.qualityTolerance`: the least cost at no less than the best single expert's score.
    pub cost: Recommended,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            balanced: Recommended { setting: DEFAULT_COST_WEIGHT, out_of_fold: None },
            cost: Recommended { setting: DEFAULT_TOLERANCE, out_of_fold: None },
        }
    }
}

/// Rows on which choices can be compared with the best single expert: those in which it has a score and so has another. Experts without
/// a score there cannot be chosen.
pub struct Trial<'a> {
    data: &'a Data,
    best_single: usize,
    rows: Vec<usize>,
}

impl<'a> Trial<'a> {
    /// All rows of the data that can be used.
    #[must_use]
    pub fn new(data: &'a Data, best_single: usize) -> Self {
        let usable = |row: &usize| {
            let scores = data.score.row(*row);
            !scores[best_single].is_nan() && scores.iter().filter(|score| !score.is_nan()).count() > 1
        };
        Self { data, best_single, rows: (0..data.rows()).filter(usable).collect() }
    }

    /// Only those of the rows that are among these.
    #[must_use]
    pub fn only(mut self, these: &[usize]) -> Self {
        let mut kept = vec![false; self.data.rows()];
        these.iter().for_each(|row| kept[*row] = true);
        self.rows.retain(|row| kept[*row]);
        self
    }

    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Predictions for the trial's rows, of predictions for all.
    #[must_use]
    pub fn predictions(&self, all: &Predictions) -> Predictions {
        let mut some = all.select(&self.rows);
        for (mut quality, row) in some.quality.rows_mut().into_iter().zip(&self.rows) {
            quality
                .iter_mut()
                .zip(self.data.score.row(*row))
                .filter(|(_, score)| score.is_nan())
                .for_each(|(quality, _)| *quality = f32::NAN);
        }
        some
    }

    /// Row and expert of each answer. An expert without a score is chosen only where limits leave none that has one: nothing can be said of
    /// that choice, and the row counts as the best single expert's, so that it speaks neither for the router nor against it.
    fn answers(&self, choices: &[usize]) -> impl Iterator<Item = [usize; 2]> {
        self.rows.iter().zip(choices).map(move |(row, expert)| {
            let unknown = self.data.score[[*row, *expert]].is_nan();
            [*row, if unknown { self.best_single } else { *expert }]
        })
    }

    /// The scores of choices, row by row.
    #[must_use]
    pub fn scores(&self, choices: &[usize]) -> Vec<f64> {
        self.answers(choices).map(|answer| f64::from(self.data.score[answer])).collect()
    }

    /// The best single expert everywhere.
    #[must_use]
    pub fn single(&self) -> Vec<usize> {
        vec![self.best_single; self.rows.len()]
    }

    /// What choices come to.
    #[must_use]
    pub fn outcome(&self, choices: &[usize]) -> Outcome {
        let scores = self.scores(choices);
        let known: Vec<f64> = self.answers(choices).map(|answer| f64::from(self.data.cost[answer])).filter(|cost| !cost.is_nan()).collect();
        Outcome { score: mean(&scores), cost_per_1k_usd: (!known.is_empty()).then(|| 1e3 * mean(&known)) }
    }

    /// The settings that do best on these rows.
    ///
    /// # Errors
    /// Experts or prices that no table may have.
    pub fn settings(&self, chooser: &Chooser, predictions: &Predictions) -> Result<Settings, TableError> {
        let single = self.outcome(&self.single());
        let Some(cost) = single.cost_per_1k_usd.filter(|_| !self.rows.is_empty()) else { return Ok(Settings::default()) };
        let try_all = |rules: Vec<Rule>| -> Result<Vec<(Rule, Outcome)>, TableError> {
            rules.into_iter().map(|rule| Ok((rule, self.outcome(&chooser.choose(predictions, rule)?)))).collect()
        };
        let weights = try_all(cost_weights(cost / 1e3).into_iter().map(|cost_weight| Rule::Balanced { cost_weight }).collect())?;
        let tolerances = try_all(tolerances().into_iter().map(|tolerance| Rule::Cost { tolerance }).collect())?;
        let costs = |outcome: &Outcome| outcome.cost_per_1k_usd.unwrap_or(f64::INFINITY);
        // Of equal scores the cheaper: the later one, whose weight is larger.
        let balanced =
            weights.iter().filter(|(_, outcome)| costs(outcome) <= cost).max_by(|one, other| one.1.score.total_cmp(&other.1.score));
        // Up to where the score holds with something to spare: a lucky one far out is none to rely on, nor one that just holds here.
        let single_scores = self.scores(&self.single());
        let held = |(rule, _): &&(Rule, Outcome)| -> bool {
            let Ok(choices) = chooser.choose(predictions, *rule) else { return false };
            let gains: Vec<f64> = self.scores(&choices).iter().zip(&single_scores).map(|(score, single)| score - single).collect();
            mean(&gains) >= SPARE * standard_error(&gains)
        };
        let cheapest = tolerances.iter().take_while(held).min_by(|one, other| costs(&one.1).total_cmp(&costs(&other.1)));
        Ok(Settings {
            balanced: recommended(balanced.or(weights.last()), DEFAULT_COST_WEIGHT),
            cost: recommended(cheapest.or(tolerances.first()), DEFAULT_TOLERANCE),
        })
    }
}

fn recommended(found: Option<&(Rule, Outcome)>, default: f64) -> Recommended {
    let Some((rule, outcome)) = found else { return Recommended { setting: default, out_of_fold: None } };
    Recommended { setting: rule.setting(), out_of_fold: Some(*outcome) }
}

/// 0 of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Of the mean; 0 of fewer than two.
#[must_use]
pub fn standard_error(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64 / values.len() as f64).sqrt()
}

/// Output tokens to predict costs with: a trained head's, else each expert's mean; NaN where nothing is known. Heads say something of every
/// expert, and of one whose answers nobody counted it means nothing.
#[must_use]
pub fn expected_tokens(data: &Data, rows: usize, predicted: Option<Array2<f32>>) -> Array2<f32> {
    let means: Vec<f32> = data.output_tokens.columns().into_iter().map(|column| present_mean(column.iter().copied())).collect();
    let mut expected = predicted.unwrap_or_else(|| Array2::from_shape_fn((rows, means.len()), |(_, expert)| means[expert]));
    for (mut column, mean) in expected.columns_mut().into_iter().zip(means) {
        if mean.is_nan() {
            column.fill(f32::NAN);
        }
    }
    expected
}

/// NaN where nothing is present.
#[must_use]
pub fn present_mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) =
        values.filter(|value| !value.is_nan()).fold((0.0_f64, 0_u32), |(sum, count), value| (sum + f64::from(value), count + 1));
    if count == 0 { f32::NAN } else { (sum / f64::from(count)) as f32 }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use routing::{Snapshot, snapshot::Expert};

    use super::Trial;
    use crate::{
        decide::{Chooser, Predictions, Rule},
        learn::tests::data,
    };

    /// `cheap` alone takes the long prompt of row 3, and has no score there.
    #[test]
    fn a_row_whose_only_permitted_expert_has_no_score_counts_as_the_best_single_experts() {
        let mut data = data(60, 1.0);
        let at = |name: &str| data.experts.iter().position(|expert| expert == name).unwrap();
        let (cheap, sums) = (at("cheap"), at("sums"));
        data.score[[3, cheap]] = f32::NAN;
        let limited = |name: &String| Expert { context_tokens: (name != "cheap").then_some(100), ..Expert::plain(name) };
        let chooser = Chooser::of_snapshot(&Snapshot::of(data.experts.iter().map(limited).collect()), &data.experts);
        let predictions = Predictions {
            quality: Array2::from_shape_fn(data.score.dim(), |(_, expert)| f32::from(u8::from(expert == cheap))),
            output_tokens: Array2::from_elem(data.score.dim(), f32::NAN),
            seconds: vec![f32::NAN; 3],
            prompt_tokens: (0..data.rows()).map(|row| if row == 3 { 1_000.0 } else { 1.0 }).collect(),
        };
        let trial = Trial::new(&data, sums);
        let choices = chooser.choose(&trial.predictions(&predictions), Rule::Quality).unwrap();
        assert_eq!(choices, [cheap; 60]);
        let scores = trial.scores(&choices);
        for (row, score) in scores.iter().enumerate() {
            assert_eq!(*score, f64::from(data.score[[row, if row == 3 { sums } else { cheap }]]), "{row}");
        }
        let outcome = trial.outcome(&choices);
        assert!((outcome.score - scores.iter().sum::<f64>() / 60.0).abs() < 1e-9);
        // 59 at 0.0001 USD and one at 0.002.
        assert!((outcome.cost_per_1k_usd.unwrap() - (59.0 * 0.1 + 2.0) / 60.0).abs() < 1e-6, "{outcome:?}");
    }

    #[test]
    fn a_trial_of_some_rows_has_only_those_of_them_that_can_be_used() {
        let mut data = data(10, 1.0);
        data.score[[4, 0]] = f32::NAN;
        let trial = Trial::new(&data, 0).only(&[7, 4, 2]);
        assert_eq!(trial.rows, [2, 7]);
    }
}
