//! A sparse matrix by rows, and the products the linear parts need. Rows are worked on in parallel; the sums of one row are made by one
//! thread in one order, so that results do not depend on the number of threads.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// Compressed sparse rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sparse {
    columns: usize,
    starts: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl Sparse {
    /// From rows of ascending columns and their values.
    #[must_use]
    pub fn from_rows<'a>(columns: usize, rows: impl Iterator<Item = (&'a [u32], &'a [f32])>) -> Self {
        let mut sparse = Self { columns, starts: vec![0], indices: Vec::new(), values: Vec::new() };
        for (indices, values) in rows {
            sparse.indices.extend_from_slice(indices);
            sparse.values.extend_from_slice(values);
            sparse.starts.push(sparse.indices.len());
        }
        sparse
    }

    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// How many columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The columns and values of a row.
    #[must_use]
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.starts[row]..self.starts[row + 1];
        (&self.indices[range.clone()], &self.values[range])
    }

    /// Columns become rows.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let mut starts = vec![0; self.columns + 1];
        for column in &self.indices {
            starts[*column as usize + 1] += 1;
        }
        for at in 0..self.columns {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let (mut indices, mut values) = (vec![0; self.indices.len()], vec![0.0; self.values.len()]);
        for row in 0..self.rows() {
            let (columns, weights) = self.row(row);
            for (column, weight) in columns.iter().zip(weights) {
                let place = &mut next[*column as usize];
                indices[*place] = row as u32;
                values[*place] = *weight;
                *place += 1;
            }
        }
        Self { columns: self.rows(), starts, indices, values }
    }

    /// Some of the rows, in the order asked for.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        Self::from_rows(self.columns, rows.iter().map(|row| self.row(*row)))
    }

    /// `self * dense`.
    #[must_use]
    pub fn dot(&self, dense: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut out = Array2::zeros((self.rows(), dense.ncols()));
        let rows: Vec<_> = out.axis_iter_mut(Axis(0)).enumerate().collect();
        rows.into_par_iter().for_each(|(row, mut sum)| {
            let (columns, values) = self.row(row);
            for (column, value) in columns.iter().zip(values) {
                sum.scaled_add(*value, &dense.row(*column as usize));
            }
        });
        out
    }

    /// The mean of every column.
    #[must_use]
    pub fn column_means(&self) -> Vec<f32> {
        let mut sums = vec![0.0_f64; self.columns];
        for (column, value) in self.indices.iter().zip(&self.values) {
            sums[*column as usize] += f64::from(*value);
        }
        sums.iter().map(|sum| (sum / self.rows().max(1) as f64) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::Sparse;

    #[test]
    fn products_transposes_and_means_are_those_of_the_dense_matrix() {
        // 1 0 2 / 0 3 0
        let sparse = Sparse::from_rows(3, [(&[0_u32, 2][..], &[1.0_f32, 2.0][..]), (&[1], &[3.0])].into_iter());
        let dense = array![[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]];
        assert_eq!(sparse.dot(dense.view()), array![[7.0, 70.0], [6.0, 60.0]]);
        assert_eq!(sparse.transposed().dot(array![[1.0], [2.0]].view()), array![[1.0], [6.0], [2.0]]);
        assert_eq!(sparse.transposed().transposed(), sparse);
        assert_eq!(sparse.column_means(), [0.5, 1.5, 1.0]);
        assert_eq!(sparse.select(&[1, 1]).dot(dense.view()), array![[6.0, 60.0], [6.0, 60.0]]);
    }
}
