//! Least squares with a penalty on a wide sparse matrix, by conjugate gradients; many outputs at once, each with its own mask.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};

use crate::sparse::Sparse;

/// A fitted linear map.
#[derive(Debug, Clone, PartialEq)]
pub struct Ridge {
    /// `columns x outputs`.
    pub weights: Array2<f32>,
    /// Of each output.
    pub intercept: Array1<f32>,
}

/// Further steps change nothing that matters at the penalties in use.
const STEPS: usize = 25;

impl Ridge {
    /// Fits `targets` (NaN where missing: those rows count for the other outputs only). The intercept is not penalised.
    #[must_use]
    pub fn fit(matrix: &Sparse, targets: ArrayView2<'_, f32>, penalty: f32) -> Self {
        let mask = targets.mapv(|value| if value.is_nan() { 0.0 } else { 1.0 });
        let counts = mask.sum_axis(Axis(0)).mapv(|count: f32| count.max(1.0));
        let filled = targets.mapv(|value| if value.is_nan() { 0.0 } else { value });
        let mean = filled.sum_axis(Axis(0)) / &counts;
        let system = System { matrix, transposed: matrix.transposed(), mask, counts, penalty };
        let centred = (&filled - &mean) * &system.mask;
        let weights = system.solve(system.transposed.dot(centred.view()));
        let column_means = system.transposed.dot(system.mask.view()) / &system.counts;
        let intercept = &mean - &(&column_means * &weights).sum_axis(Axis(0));
        Self { weights, intercept }
    }

    /// `rows x outputs`.
    #[must_use]
    pub fn predict(&self, matrix: &Sparse) -> Array2<f32> {
        matrix.dot(self.weights.view()) + &self.intercept
    }
}

/// `A = X^T M (X - mean) + penalty`, for each output with its mask `M`.
struct System<'a> {
    matrix: &'a Sparse,
    transposed: Sparse,
    mask: Array2<f32>,
    counts: Array1<f32>,
    penalty: f32,
}

impl System<'_> {
    fn apply(&self, weights: &Array2<f32>) -> Array2<f32> {
        let mut fitted = self.matrix.dot(weights.view()) * &self.mask;
        let mean = fitted.sum_axis(Axis(0)) / &self.counts;
        fitted = (fitted - &mean) * &self.mask;
        let mut out = self.transposed.dot(fitted.view());
        out.scaled_add(self.penalty, weights);
        out
    }

    fn solve(&self, right: Array2<f32>) -> Array2<f32> {
        let mut weights = Array2::zeros(right.dim());
        let mut rest = right.clone();
        let mut direction = right;
        let mut lengths = column_squares(&rest);
        let start = lengths.mapv(|length| length + 1e-12);
        for _ in 0..STEPS {
            let image = self.apply(&direction);
            let curvature = (&direction * &image).sum_axis(Axis(0)).mapv(|value| value.max(1e-20));
            let step = &lengths / &curvature;
            weights += &(&direction * &step);
            rest -= &(&image * &step);
            let new = column_squares(&rest);
            if Zip::from(&new).and(&start).all(|new, start| new / start < 1e-6) {
                break;
            }
            let keep = &new / &lengths.mapv(|length| length.max(1e-20));
            direction = &rest + &(&direction * &keep);
            lengths = new;
        }
        weights
    }
}

fn column_squares(matrix: &Array2<f32>) -> Array1<f32> {
    matrix.map_axis(Axis(0), |column| column.dot(&column))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis};

    use super::Ridge;
    use crate::{random::Random, sparse::Sparse};

    fn sparse(dense: &Array2<f32>) -> Sparse {
        let indices: Vec<u32> = (0..dense.ncols() as u32).collect();
        Sparse::from_rows(dense.ncols(), dense.rows().into_iter().map(|row| (&indices[..], row.to_slice().unwrap())))
    }

    #[test]
    fn the_normal_equations_hold_also_where_targets_are_missing() {
        let mut random = Random::new(4, 0);
        let dense = Array2::from_shape_simple_fn((80, 6), || random.normal());
        let mut targets = Array2::from_shape_simple_fn((80, 2), || random.normal() + 3.0);
        (0..30).for_each(|row| targets[[row, 1]] = f32::NAN);
        let penalty = 2.0;
        let fit = Ridge::fit(&sparse(&dense), targets.view(), penalty);
        for output in 0..2 {
            let rows: Vec<usize> = (0..80).filter(|row| !targets[[*row, output]].is_nan()).collect();
            let (x, y) = (dense.select(Axis(0), &rows), targets.select(Axis(0), &rows));
            let weights = fit.weights.column(output);
            let rest = &y.column(output) - &(x.dot(&weights) + fit.intercept[output]);
            assert!(rest.sum().abs() < 1e-2, "the intercept leaves no mean");
            let slope = x.t().dot(&rest) - &weights * penalty;
            assert!(slope.iter().all(|value| value.abs() < 2e-2), "{slope}");
        }
    }
}
