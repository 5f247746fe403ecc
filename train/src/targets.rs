//! What parts learn: how far an expert's score lies from what expert and query would have by themselves.
//!
//! `score = expert's mean + query's ease + deviation`. The ease moves no choice and the means are known, so parts predict the deviation:
//! a part that sees no signal predicts 0, and the choice is then the best single expert.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView1, Axis};

use crate::{data::Data, score::soft_label};

/// A label with fewer training rows is joined to its family (what stands before the first `:`), or dropped.
const MIN_LABEL_ROWS: usize = 12;
/// Rounds of the two-way means; with nothing missing the second changes nothing.
const ROUNDS: usize = 20;
/// With so many scored rows an expert's mean stands for itself.
const SURE_ROWS: usize = 100;

/// Learnt from, row by row.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Of each expert, freed of the ease of the queries it happened to be scored on, and drawn in where those are few.
    pub expert_means: Array1<f32>,
    /// NaN where missing.
    pub deviation: Array2<f32>,
    /// Deviations of experts that are not to be chosen, 0 where missing: what kind of query it is.
    pub others: Array2<f32>,
    /// One column a label; a row of zeros has none.
    pub labels: Array2<f32>,
    /// Names of the labels.
    pub label_names: Vec<String>,
    /// NaN where missing.
    pub output_tokens: Array2<f32>,
}

impl Targets {
    /// Scores of all rows of the data.
    #[must_use]
    pub fn of(data: &Data) -> Self {
        Self::around(data, two_way(&data.score))
    }

    /// Instead of scores, the soft labels `softmax(temperature * score)` of the paper: means and deviations are then of an expert's share.
    /// Parts that average (trees, neighbours, linear ones) learn the share that is to be expected, which is also what cross-entropy against
    /// the labels would have them learn.
    #[must_use]
    pub fn of_shares(data: &Data, temperature: f32) -> Self {
        Self::around(data, around_means(&soft_labels(&data.score, temperature)))
    }

    /// Deviations of another router's predicted scores, as [`Self::of`] has those of scores.
    #[must_use]
    pub fn deviations(quality: &Array2<f32>) -> Array2<f32> {
        two_way(quality).1
    }

    /// The same as [`Self::of_shares`] has them.
    #[must_use]
    pub fn deviations_of_shares(quality: &Array2<f32>, temperature: f32) -> Array2<f32> {
        around_means(&soft_labels(quality, temperature)).1
    }

    fn around(data: &Data, (means, deviation): (Array1<f32>, Array2<f32>)) -> Self {
        let expert_means = drawn_in(means, &deviation);
        let others = two_way(&data.others).1.mapv(|value| if value.is_nan() { 0.0 } else { value });
        let (labels, label_names) = labels(&data.datasets);
        Self { expert_means, deviation, others, labels, label_names, output_tokens: clipped(&data.output_tokens) }
    }

    /// Some of the rows.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            expert_means: self.expert_means.clone(),
            deviation: self.deviation.select(Axis(0), rows),
            others: self.others.select(Axis(0), rows),
            labels: self.labels.select(Axis(0), rows),
            label_names: self.label_names.clone(),
            output_tokens: self.output_tokens.select(Axis(0), rows),
        }
    }

    /// Deviations with 0 for what is missing.
    #[must_use]
    pub fn filled(&self) -> Array2<f32> {
        self.deviation.mapv(|value| if value.is_nan() { 0.0 } else { value })
    }
}

/// The expert with the best mean; of equal ones the first. Choices are compared with it on the rows it has a score in: one scored on fewer
/// than half of the rows that make others sure is none to rest all on, however good it may be.
#[must_use]
pub fn best_single(score: &Array2<f32>) -> Option<usize> {
    let (means, deviation) = two_way(score);
    let (means, counts) = (drawn_in(means, &deviation), scored_rows(score));
    let sure = counts.iter().copied().max().unwrap_or(0);
    let known = |expert: &usize| counts[*expert] > 0 && 2 * counts[*expert] >= sure;
    (0..means.len()).filter(known).reduce(|best, at| if means[at] > means[best] { at } else { best })
}

/// Rows in which each expert has a score, as far as more of them make its mean any surer.
fn scored_rows(score: &Array2<f32>) -> Vec<usize> {
    let of = |column: ArrayView1<'_, f32>| column.iter().filter(|value| !value.is_nan()).count().min(SURE_ROWS);
    score.columns().into_iter().map(of).collect()
}

/// Means of experts with few scored rows drawn to what all experts have in common, by the share of rows that they lack: one that was lucky
/// on the few queries it was asked is not thereby good. Few is less than [`SURE_ROWS`], and less than others have.
fn drawn_in(means: Array1<f32>, deviation: &Array2<f32>) -> Array1<f32> {
    let counts = scored_rows(deviation);
    let (sure, all) = (counts.iter().copied().max().unwrap_or(0), counts.iter().sum::<usize>());
    let sum: f64 = means.iter().zip(&counts).map(|(mean, count)| f64::from(*mean) * *count as f64).sum();
    let common = (sum / all.max(1) as f64) as f32;
    let drawn = |(mean, count): (&f32, &usize)| {
        if *count == sure { *mean } else { common + (mean - common) * (*count as f32 / sure as f32) }
    };
    means.iter().zip(&counts).map(drawn).collect()
}

/// Each row's soft label over the experts that have a score; NaN for the others. The shares sum to 1 where all have one, and to as much less
/// as there are fewer: else an expert would gain by being asked beside few others. A row with a single score says nothing of who is best.
fn soft_labels(score: &Array2<f32>, temperature: f32) -> Array2<f32> {
    let mut out = Array2::from_elem(score.dim(), f32::NAN);
    for (mut label, scores) in out.rows_mut().into_iter().zip(score.rows()) {
        let there = scores.iter().filter(|score| !score.is_nan()).count();
        if there > 1 {
            let shares = soft_label(scores, temperature) * (there as f32 / scores.len() as f32);
            ndarray::Zip::from(&mut label).and(&shares).and(scores).for_each(|label, share, score| {
                if !score.is_nan() {
                    *label = *share;
                }
            });
        }
    }
    out
}

/// Column means, and what is left.
fn around_means(values: &Array2<f32>) -> (Array1<f32>, Array2<f32>) {
    let columns = means(values, Axis(0), |row, column| values[[row, column]]);
    let deviation = values - &columns;
    (columns, deviation)
}

/// Column means freed of row effects, and what is left.
fn two_way(score: &Array2<f32>) -> (Array1<f32>, Array2<f32>) {
    let mut columns = Array1::<f32>::zeros(score.ncols());
    let mut rows = Array1::<f32>::zeros(score.nrows());
    for _ in 0..ROUNDS {
        columns = means(score, Axis(0), |row, column| score[[row, column]] - rows[row]);
        rows = means(score, Axis(1), |row, column| score[[row, column]] - columns[column]);
    }
    // What all rows have in common belongs to the experts: their means are then in units of the score.
    let common = rows.mean().unwrap_or(0.0);
    let deviation = Array2::from_shape_fn(score.dim(), |(row, column)| score[[row, column]] - columns[column] - rows[row]);
    (columns + common, deviation)
}

fn means(score: &Array2<f32>, axis: Axis, value: impl Fn(usize, usize) -> f32) -> Array1<f32> {
    let length = if axis.0 == 0 { score.ncols() } else { score.nrows() };
    let (mut sums, mut counts) = (vec![0.0_f64; length], vec![0_u32; length]);
    for ((row, column), present) in score.indexed_iter() {
        if !present.is_nan() {
            let at = if axis.0 == 0 { column } else { row };
            sums[at] += f64::from(value(row, column));
            counts[at] += 1;
        }
    }
    sums.iter().zip(&counts).map(|(sum, count)| (sum / f64::from((*count).max(1))) as f32).collect()
}

fn labels(datasets: &[String]) -> (Array2<f32>, Vec<String>) {
    let family = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
    let mut counts = BTreeMap::<String, usize>::new();
    datasets.iter().for_each(|name| *counts.entry(name.clone()).or_default() += 1);
    let joined: Vec<String> =
        datasets.iter().map(|name| if counts[name] >= MIN_LABEL_ROWS { name.clone() } else { family(name) }).collect();
    let mut counts = BTreeMap::<&str, usize>::new();
    joined.iter().for_each(|name| *counts.entry(name).or_default() += 1);
    let names: Vec<String> =
        counts.iter().filter(|(name, count)| !name.is_empty() && **count >= MIN_LABEL_ROWS).map(|(name, _)| (*name).to_owned()).collect();
    // One label for all says nothing.
    let names = if names.len() < 2 { Vec::new() } else { names };
    let matrix = Array2::from_shape_fn((datasets.len(), names.len()), |(row, label)| f32::from(u8::from(joined[row] == names[label])));
    (matrix, names)
}

/// Token counts cut at the 99.5th percentile of each expert: one answer that ran into its limit must not decide a leaf.
fn clipped(tokens: &Array2<f32>) -> Array2<f32> {
    let mut out = tokens.clone();
    for mut column in out.columns_mut() {
        let mut present: Vec<f32> = column.iter().copied().filter(|value| !value.is_nan()).collect();
        if present.is_empty() {
            continue;
        }
        present.sort_by(f32::total_cmp);
        let limit = present[(present.len() - 1) * 995 / 1000];
        column.mapv_inplace(|value| if value > limit { limit } else { value });
    }
    out
}

#[cfg(test)]
mod tests;
