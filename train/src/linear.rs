//! Dense products in parallel, the eigenvectors of a small symmetric matrix, standardising, and least squares with weights at least zero.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// Rows of a product that one task makes: enough to keep the kernel busy.
pub(crate) const ROWS_PER_TASK: usize = 256;

/// `left * right`, rows in parallel.
#[must_use]
pub fn product(left: ArrayView2<'_, f32>, right: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut out = Array2::zeros((left.nrows(), right.ncols()));
    let tasks: Vec<_> = out.axis_chunks_iter_mut(Axis(0), ROWS_PER_TASK).zip(left.axis_chunks_iter(Axis(0), ROWS_PER_TASK)).collect();
    tasks.into_par_iter().for_each(|(mut out, left)| ndarray::linalg::general_mat_mul(1.0, &left, &right, 0.0, &mut out));
    out
}

/// `matrix^T * matrix`.
#[must_use]
pub fn gram(matrix: ArrayView2<'_, f32>) -> Array2<f32> {
    matrix.t().dot(&matrix)
}

/// Eigenvalues of a symmetric matrix, the largest first, and the eigenvectors as columns: Jacobi's rotations, in 64 bits.
#[must_use]
pub fn symmetric_eigen(matrix: &Array2<f32>) -> (Vec<f32>, Array2<f32>) {
    let size = matrix.nrows();
    let mut a = matrix.mapv(f64::from);
    let mut vectors = Array2::<f64>::eye(size);
    let total: f64 = a.iter().map(|value| value * value).sum();
    for _sweep in 0..30 {
        let off: f64 = a.indexed_iter().filter(|((row, column), _)| row != column).map(|(_, value)| value * value).sum();
        if off <= total * 1e-18 {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut a, &mut vectors, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|one, other| a[[*other, *other]].total_cmp(&a[[*one, *one]]));
    let values = order.iter().map(|at| a[[*at, *at]] as f32).collect();
    // Rotations worked on rows, which lie together in memory: the vectors are the rows.
    (values, vectors.select(Axis(0), &order).mapv(|value| value as f32).reversed_axes())
}

/// Makes `a[p][q]` zero.
fn rotate(a: &mut Array2<f64>, vectors: &mut Array2<f64>, p: usize, q: usize) {
    let off = a[[p, q]];
    if off == 0.0 {
        return;
    }
    let theta = (a[[q, q]] - a[[p, p]]) / (2.0 * off);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for matrix in [&mut *a, vectors] {
        let (mut upper, mut lower) = matrix.multi_slice_mut((ndarray::s![p, ..], ndarray::s![q, ..]));
        ndarray::Zip::from(&mut upper).and(&mut lower).for_each(|x, y| (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y));
    }
    for mut row in a.rows_mut() {
        (row[p], row[q]) = (cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]);
    }
}

/// Mean and spread of every column, to bring columns of different units together.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Of each column.
    pub mean: Array1<f32>,
    /// Of each column; 1 where a column is constant.
    pub deviation: Array1<f32>,
}

impl Scale {
    /// Measures columns.
    #[must_use]
    pub fn of(matrix: ArrayView2<'_, f32>) -> Self {
        let mean = matrix.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(matrix.ncols()));
        let deviation = matrix.std_axis(Axis(0), 0.0).mapv(|value| if value > 1e-6 { value } else { 1.0 });
        Self { mean, deviation }
    }

    /// Columns with mean 0 and spread 1.
    #[must_use]
    pub fn apply(&self, matrix: ArrayView2<'_, f32>) -> Array2<f32> {
        (&matrix - &self.mean) / &self.deviation
    }
}

/// The `w >= 0` that makes `w^T g w - 2 w^T b` least, by coordinates; `g` is a Gram matrix, `b` products with the target.
#[must_use]
pub fn non_negative_least_squares(gram: &Array2<f64>, target: &[f64]) -> Vec<f64> {
    let mut weights = vec![0.0; target.len()];
    for _ in 0..2_000 {
        let mut moved = 0.0_f64;
        for at in 0..weights.len() {
            if gram[[at, at]] <= 0.0 {
                continue;
            }
            let slope: f64 = target[at] - gram.row(at).iter().zip(&weights).map(|(g, w)| g * w).sum::<f64>();
            let new = (weights[at] + slope / gram[[at, at]]).max(0.0);
            moved = moved.max((new - weights[at]).abs());
            weights[at] = new;
        }
        if moved < 1e-9 {
            break;
        }
    }
    weights
}

/// Rows scaled to length 1; a row of zeros stays.
pub fn normalise_rows(matrix: &mut Array2<f32>) {
    for mut row in matrix.rows_mut() {
        let length = row.dot(&row).sqrt().max(1e-9);
        row.mapv_inplace(|value| value / length);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::{Scale, non_negative_least_squares, normalise_rows, product, symmetric_eigen};
    use crate::random::Random;

    #[test]
    fn eigenvectors_rebuild_the_matrix_largest_first() {
        let mut random = Random::new(5, 0);
        let half = Array2::from_shape_simple_fn((9, 9), || random.normal());
        let matrix = half.t().dot(&half);
        let (values, vectors) = symmetric_eigen(&matrix);
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
        let back = (&vectors * &ndarray::Array1::from(values)).dot(&vectors.t());
        assert!((&back - &matrix).iter().all(|error| error.abs() < 1e-4), "{back} {matrix}");
    }

    #[test]
    fn products_in_parallel_are_products() {
        let mut random = Random::new(6, 0);
        let (left, right) = (
            Array2::from_shape_simple_fn((600, 7), || random.normal()),
            Array2::from_shape_simple_fn((7, 5), || Random::new(1, 1).normal()),
        );
        assert!((product(left.view(), right.view()) - left.dot(&right)).iter().all(|error| error.abs() < 1e-5));
    }

    #[test]
    fn weights_below_zero_become_zero_and_the_rest_is_fitted_anew() {
        // The unbounded solution is (2, -1); with the second at 0 the first is 1.5.
        let gram = array![[2.0, 1.0], [1.0, 2.0]];
        assert_eq!(non_negative_least_squares(&gram, &[3.0, 0.0]), [1.5, 0.0]);
        let free = non_negative_least_squares(&gram, &[3.0, 3.0]);
        assert!(free.iter().all(|weight| (weight - 1.0).abs() < 1e-6), "{free:?}");
    }

    #[test]
    fn constant_columns_survive_scaling_and_zero_rows_normalising() {
        let mut matrix = array![[1.0, 5.0], [3.0, 5.0]];
        assert_eq!(Scale::of(matrix.view()).apply(matrix.view()), array![[-1.0, 0.0], [1.0, 0.0]]);
        matrix.row_mut(0).fill(0.0);
        normalise_rows(&mut matrix);
        assert_eq!(matrix.row(0), array![0.0, 0.0]);
    }
}
