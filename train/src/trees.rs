//! Extremely randomised trees with many outputs (Geurts, Ernst, Wehenkel 2006): every tree sees all rows; a node tries a few columns,
//! each at one random threshold, and takes the split that explains most of the outputs' variance together.
//!
//! Outputs come in two kinds: those that guide the splits (scores, and labels known in training only), and those that leaves report.

mod grow;

use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;

use grow::{Grower, padded};

/// How trees are grown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TreeOptions {
    /// How many.
    pub trees: usize,
    /// Rows a leaf has at least.
    pub min_leaf: usize,
    /// Share of the columns a node tries.
    pub try_share: f32,
    /// Repeats the forest.
    pub seed: u64,
}

/// What a forest learns from, row by row.
#[derive(Debug, Clone, Copy)]
pub struct TreeTargets<'a> {
    /// Guide the splits; a missing value is 0, as if it were like the mean.
    pub guide: ArrayView2<'a, f32>,
    /// Reported by leaves: means over the rows that have a value. NaN where missing.
    pub report: ArrayView2<'a, f32>,
    /// What a leaf without any value reports, and what one with few is drawn to.
    pub fallback: ArrayView1<'a, f32>,
}

/// A grown forest: its answer is the mean of its trees' leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// One after the other.
    pub trees: Vec<Tree>,
}

/// One tree. Node 0 is the root; children follow their parents.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Splits and leaves.
    pub nodes: Vec<Node>,
    /// `leaves x outputs`.
    pub leaves: Array2<f32>,
}

/// A split or a leaf.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Node {
    /// Left where the column's value is at most the threshold.
    Split {
        /// Which column.
        column: u32,
        /// At most this: left.
        threshold: f32,
        /// Node number.
        left: u32,
        /// Node number.
        right: u32,
    },
    /// A row of [`Tree::leaves`].
    Leaf(u32),
}

impl Forest {
    /// Grows a forest, trees in parallel; the same for any number of threads.
    #[must_use]
    pub fn fit(matrix: ArrayView2<'_, f32>, targets: &TreeTargets<'_>, options: &TreeOptions) -> Self {
        let columns = matrix.reversed_axes().as_standard_layout().into_owned();
        let guide = padded(targets.guide);
        let trees =
            (0..options.trees).into_par_iter().map(|tree| Grower::new(&columns, &guide, options, tree as u64).grow(targets)).collect();
        Self { trees }
    }

    /// `rows x outputs`.
    #[must_use]
    pub fn predict(&self, matrix: ArrayView2<'_, f32>) -> Array2<f32> {
        let outputs = self.trees.first().map_or(0, |tree| tree.leaves.ncols());
        let mut out = Array2::zeros((matrix.nrows(), outputs));
        let rows: Vec<_> = out.rows_mut().into_iter().zip(matrix.rows()).collect();
        rows.into_par_iter().for_each(|(mut sum, row)| {
            for tree in &self.trees {
                sum += &tree.leaves.row(tree.leaf(row));
            }
            sum /= self.trees.len() as f32;
        });
        out
    }
}

impl Tree {
    /// The leaf a row falls into.
    #[must_use]
    pub fn leaf(&self, row: ArrayView1<'_, f32>) -> usize {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                Node::Leaf(leaf) => return leaf as usize,
                Node::Split { column, threshold, left, right } => {
                    at = if row[column as usize] <= threshold { left as usize } else { right as usize };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, array};

    use super::{Forest, Node, TreeOptions, TreeTargets};
    use crate::random::Random;

    const OPTIONS: TreeOptions = TreeOptions { trees: 30, min_leaf: 5, try_share: 0.7, seed: 1 };

    fn rows(count: usize) -> Array2<f32> {
        let mut random = Random::new(9, 0);
        Array2::from_shape_simple_fn((count, 4), || random.uniform())
    }

    fn fit(matrix: &Array2<f32>, report: &Array2<f32>, options: &TreeOptions) -> Forest {
        let guide = report.mapv(|value| if value.is_nan() { 0.0 } else { value });
        let fallback = Array1::from_elem(report.ncols(), 0.25);
        Forest::fit(matrix.view(), &TreeTargets { guide: guide.view(), report: report.view(), fallback: fallback.view() }, options)
    }

    #[test]
    fn a_step_in_one_column_is_learnt() {
        let matrix = rows(600);
        let step = |at: usize| if matrix[[at, 2]] > 0.5 { 1.0 } else { -1.0 };
        let report = Array2::from_shape_fn((600, 2), |(row, output)| if output == 0 { step(row) } else { 0.5 });
        let forest = fit(&matrix, &report, &OPTIONS);
        let found = forest.predict(array![[0.5, 0.5, 0.1, 0.5], [0.5, 0.5, 0.9, 0.5]].view());
        assert!(found[[0, 0]] < -0.8 && found[[1, 0]] > 0.8, "{found}");
        assert!((found[[0, 1]] - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_seed_repeats_the_forest_and_another_does_not() {
        let matrix = rows(200);
        let report = matrix.slice(ndarray::s![.., ..1]).to_owned();
        let one = fit(&matrix, &report, &OPTIONS);
        assert_eq!(one, rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| fit(&matrix, &report, &OPTIONS)));
        assert_ne!(one, fit(&matrix, &report, &TreeOptions { seed: 2, ..OPTIONS }));
    }

    #[test]
    fn leaves_have_enough_rows_and_constant_columns_are_no_trouble() {
        let mut matrix = rows(100);
        matrix.column_mut(0).fill(3.0);
        let report = Array2::from_elem((100, 1), 1.0);
        let forest = fit(&matrix, &report, &OPTIONS);
        assert!(forest.trees.iter().all(|tree| tree.nodes == [Node::Leaf(0)]), "nothing to explain, nothing to split");
        let report = matrix.slice(ndarray::s![.., 1..2]).to_owned();
        for tree in fit(&matrix, &report, &OPTIONS).trees {
            let mut counts = vec![0; tree.leaves.nrows()];
            matrix.rows().into_iter().for_each(|row| counts[tree.leaf(row)] += 1);
            assert!(counts.iter().all(|count| *count >= OPTIONS.min_leaf), "{counts:?}");
        }
    }

    #[test]
    fn missing_values_are_left_out_and_few_are_drawn_to_the_fallback() {
        let matrix = Array2::zeros((20, 1));
        let mut report = Array2::from_elem((20, 2), f32::NAN);
        report[[3, 0]] = 1.0;
        let forest = fit(&matrix, &report, &OPTIONS);
        let found = forest.predict(matrix.slice(ndarray::s![..1, ..]));
        assert!((found[[0, 0]] - (1.0 + 4.0 * 0.25) / 5.0).abs() < 1e-6, "{found}");
        assert!((found[[0, 1]] - 0.25).abs() < 1e-6, "{found}");
    }
}
