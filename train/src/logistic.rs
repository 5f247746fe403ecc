//! Multinomial logistic regression with a penalty, by L-BFGS: text features to the probability of each label.

use std::collections::VecDeque;

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::linear;

/// A fitted model.
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    /// `features x classes`.
    pub weights: Array2<f32>,
    /// Of each class; not penalised.
    pub intercept: Array1<f32>,
}

/// Steps remembered.
const MEMORY: usize = 8;
const STEPS: usize = 60;
/// Relative to the start: labels need no more.
const TOLERANCE: f32 = 3e-3;

impl Logistic {
    /// Fits class shares (rows of `targets` sum to 1; a row of zeros counts nothing), with `penalty / 2 * |weights|^2`.
    #[must_use]
    pub fn fit(features: ArrayView2<'_, f32>, targets: ArrayView2<'_, f32>, penalty: f32) -> Self {
        let with_one = ndarray::concatenate(Axis(1), &[features, Array2::ones((features.nrows(), 1)).view()]).expect("as many rows");
        let problem = Problem { features: with_one.view(), targets, weight: targets.sum_axis(Axis(1)), penalty };
        let solved = minimise(&problem, Array2::zeros((with_one.ncols(), targets.ncols())));
        let last = solved.nrows() - 1;
        Self { weights: solved.slice(ndarray::s![..last, ..]).to_owned(), intercept: solved.row(last).to_owned() }
    }

    /// `rows x classes`, each row summing to 1.
    #[must_use]
    pub fn predict(&self, features: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut scores = linear::product(features, self.weights.view()) + &self.intercept;
        softmax_rows(&mut scores);
        scores
    }
}

/// Each row to `exp(row) / sum`.
pub fn softmax_rows(scores: &mut Array2<f32>) {
    for mut row in scores.rows_mut() {
        let most = row.fold(f32::NEG_INFINITY, |most, value| most.max(*value));
        row.mapv_inplace(|value| (value - most).exp());
        let sum = row.sum();
        row /= sum;
    }
}

struct Problem<'a> {
    features: ArrayView2<'a, f32>,
    targets: ArrayView2<'a, f32>,
    weight: Array1<f32>,
    penalty: f32,
}

impl Problem<'_> {
    /// Loss and slope.
    fn at(&self, weights: &Array2<f32>) -> (f64, Array2<f32>) {
        let scores = linear::product(self.features, weights.view());
        let mut shares = scores.clone();
        softmax_rows(&mut shares);
        let mut loss = 0.0_f64;
        for ((share, target), _) in shares.rows().into_iter().zip(self.targets.rows()).zip(scores.rows()) {
            loss -= share
                .iter()
                .zip(target)
                .map(|(share, target)| if *target > 0.0 { f64::from(target * share.max(1e-30).ln()) } else { 0.0 })
                .sum::<f64>();
        }
        let rest = &shares * &self.weight.view().insert_axis(Axis(1)) - self.targets;
        let mut slope = linear::product(self.features.t(), rest.view());
        let penalised = weights.nrows() - 1;
        for row in 0..penalised {
            slope.row_mut(row).scaled_add(self.penalty, &weights.row(row));
            loss += 0.5 * f64::from(self.penalty * weights.row(row).dot(&weights.row(row)));
        }
        (loss, slope)
    }
}

fn minimise(problem: &Problem<'_>, mut weights: Array2<f32>) -> Array2<f32> {
    let (mut loss, mut slope) = problem.at(&weights);
    let start = norm(&slope);
    let mut memory: VecDeque<(Array2<f32>, Array2<f32>)> = VecDeque::new();
    for _ in 0..STEPS {
        if norm(&slope) <= start * TOLERANCE {
            break;
        }
        let mut direction = quasi_newton(&memory, &slope);
        if memory.is_empty() {
            direction /= norm(&slope);
        }
        let descent = inner(&direction, &slope);
        let mut step = 1.0;
        let (new, new_loss, new_slope) = loop {
            let new = &weights - &(&direction * step);
            let (new_loss, new_slope) = problem.at(&new);
            // Armijo's condition; steps below this size mean that 32 bits see no further.
            if new_loss <= loss - 1e-4 * f64::from(step * descent) || step < 1e-4 {
                break (new, new_loss, new_slope);
            }
            step *= 0.5;
        };
        if new_loss >= loss {
            break;
        }
        let (moved, turned) = (&new - &weights, &new_slope - &slope);
        if inner(&moved, &turned) > 1e-10 {
            memory.push_back((moved, turned));
            if memory.len() > MEMORY {
                memory.pop_front();
            }
        }
        (weights, loss, slope) = (new, new_loss, new_slope);
    }
    weights
}

/// The two loops of L-BFGS: the slope multiplied by an estimate of the inverse curvature.
fn quasi_newton(memory: &VecDeque<(Array2<f32>, Array2<f32>)>, slope: &Array2<f32>) -> Array2<f32> {
    let mut direction = slope.clone();
    let mut factors = Vec::with_capacity(memory.len());
    for (moved, turned) in memory.iter().rev() {
        let factor = inner(moved, &direction) / inner(moved, turned);
        direction.scaled_add(-factor, turned);
        factors.push(factor);
    }
    if let Some((moved, turned)) = memory.back() {
        direction *= inner(moved, turned) / inner(turned, turned);
    }
    for ((moved, turned), factor) in memory.iter().zip(factors.into_iter().rev()) {
        let back = inner(turned, &direction) / inner(moved, turned);
        direction.scaled_add(factor - back, moved);
    }
    direction
}

fn inner(one: &Array2<f32>, other: &Array2<f32>) -> f32 {
    one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

fn norm(matrix: &Array2<f32>) -> f32 {
    inner(matrix, matrix).sqrt()
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::{Logistic, Problem, norm};
    use crate::random::Random;

    #[test]
    fn the_slope_vanishes_at_the_solution_and_classes_are_told_apart() {
        let mut random = Random::new(2, 0);
        let features = Array2::from_shape_simple_fn((300, 5), || random.normal());
        let class = |row: usize| if features[[row, 0]] > 0.5 { 0 } else { 1 + usize::from(features[[row, 1]] > 0.0) };
        let targets = Array2::from_shape_fn((300, 3), |(row, column)| f32::from(u8::from(class(row) == column)));
        let fit = Logistic::fit(features.view(), targets.view(), 1.0);
        let ones = Array2::ones((300, 1));
        let with_one = ndarray::concatenate![ndarray::Axis(1), features, ones];
        let problem = Problem { features: with_one.view(), targets: targets.view(), weight: ndarray::Array1::ones(300), penalty: 1.0 };
        let solved = ndarray::concatenate![ndarray::Axis(0), fit.weights, fit.intercept.clone().insert_axis(ndarray::Axis(0))];
        let start = norm(&problem.at(&Array2::zeros(solved.dim())).1);
        assert!(norm(&problem.at(&solved).1) < start * 1e-2);
        let found = fit.predict(features.view());
        let right = (0..300).filter(|row| (0..3).all(|other| found[[*row, other]] <= found[[*row, class(*row)]])).count();
        assert!(right > 275, "{right}");
        assert!(found.rows().into_iter().all(|row| (row.sum() - 1.0).abs() < 1e-5));
    }

    #[test]
    fn without_features_the_shares_of_the_labels_come_out() {
        let features = Array2::zeros((10, 1));
        let targets = Array2::from_shape_fn((10, 2), |(row, column)| f32::from(u8::from((row < 3) == (column == 0))));
        let found = Logistic::fit(features.view(), targets.view(), 1.0).predict(features.view());
        assert!((found[[0, 0]] - 0.3).abs() < 1e-2, "{found}");
    }
}
