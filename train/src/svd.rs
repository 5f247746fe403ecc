//! The leading right singular vectors of a sparse matrix, by randomised subspace iteration (Halko, Martinsson, Tropp 2011).

use ndarray::{Array1, Array2, Axis};

use crate::{linear, random::Random, sparse::Sparse};

/// Beyond those asked for: makes the last of them sharp.
const OVERSAMPLING: usize = 10;
/// Each sharpens the gap between wanted and unwanted directions.
const ITERATIONS: usize = 3;

/// `columns x rank` (or less, where the matrix has less): multiplied from the right, a row of the matrix becomes its coordinates.
#[must_use]
pub fn right_vectors(matrix: &Sparse, rank: usize, seed: u64) -> Array2<f32> {
    let width = (rank + OVERSAMPLING).min(matrix.rows()).min(matrix.columns());
    let mut random = Random::new(seed, 0);
    let start = Array2::from_shape_simple_fn((matrix.columns(), width), || random.normal());
    let transposed = matrix.transposed();
    let mut basis = orthonormal(matrix.dot(start.view()));
    for _ in 0..ITERATIONS {
        basis = orthonormal(matrix.dot(transposed.dot(basis.view()).view()));
    }
    let projected = transposed.dot(basis.view());
    let (values, vectors) = linear::symmetric_eigen(&linear::gram(projected.view()));
    let kept = values.iter().take(rank).take_while(|value| **value > values[0].max(1e-12) * 1e-7).count();
    let scale = Array1::from_iter(values.iter().take(kept).map(|value| 1.0 / value.sqrt()));
    let rotation = &vectors.slice(ndarray::s![.., ..kept]) * &scale;
    linear::product(projected.view(), rotation.view())
}

/// Columns made orthonormal by Gram and Schmidt, twice over, since once leaves errors in 32 bits. Dependent columns become zero.
fn orthonormal(matrix: Array2<f32>) -> Array2<f32> {
    let mut columns = matrix.reversed_axes().as_standard_layout().into_owned();
    for at in 0..columns.nrows() {
        let before = norm(columns.row(at));
        for _ in 0..2 {
            let (done, mut rest) = columns.view_mut().split_at(Axis(0), at);
            let mut this = rest.row_mut(0);
            for earlier in done.rows() {
                let overlap = earlier.dot(&this);
                this.scaled_add(-overlap, &earlier);
            }
        }
        let length = norm(columns.row(at));
        let scale = if length > before * 1e-6 { 1.0 / length } else { 0.0 };
        columns.row_mut(at).mapv_inplace(|value| value * scale);
    }
    columns.reversed_axes().as_standard_layout().into_owned()
}

fn norm(vector: ndarray::ArrayView1<'_, f32>) -> f32 {
    vector.dot(&vector).sqrt()
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::{Random, Sparse, right_vectors};
    use crate::linear;

    /// A matrix of rank 3 with singular values far apart.
    fn matrix() -> (Sparse, Array2<f32>) {
        let mut random = Random::new(3, 3);
        let left = Array2::from_shape_simple_fn((60, 3), || random.normal());
        let right = Array2::from_shape_simple_fn((3, 40), || random.normal());
        let dense = (&left * &ndarray::array![9.0, 3.0, 1.0]).dot(&right);
        let indices: Vec<u32> = (0..40).collect();
        let sparse = Sparse::from_rows(40, dense.rows().into_iter().map(|row| (&indices[..], row.to_slice().unwrap())));
        (sparse, dense)
    }

    #[test]
    fn a_matrix_of_low_rank_is_kept_whole() {
        let (sparse, dense) = matrix();
        let vectors = right_vectors(&sparse, 20, 0);
        assert_eq!(vectors.dim(), (40, 3), "no directions that are not there");
        let gram = linear::gram(vectors.view());
        assert!((&gram - &Array2::<f32>::eye(3)).iter().all(|error| error.abs() < 1e-4), "{gram}");
        let back = dense.dot(&vectors).dot(&vectors.t());
        assert!((&back - &dense).iter().all(|error| error.abs() < 1e-2));
    }

    #[test]
    fn leading_directions_come_first_and_the_seed_repeats() {
        let (sparse, dense) = matrix();
        let vectors = right_vectors(&sparse, 3, 5);
        let lengths: Vec<f32> = dense.dot(&vectors).columns().into_iter().map(|column| column.dot(&column)).collect();
        assert!(lengths.windows(2).all(|pair| pair[0] > pair[1]), "{lengths:?}");
        assert_eq!(vectors, right_vectors(&sparse, 3, 5));
    }
}
