//! The table of words: a step reads and moves only the rows of the words it meets.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView1};

use crate::{
    encoder::weights::{WORDS, Weights},
    neural::optimiser::{Moments, Move},
};

/// The table and the optimiser's memory of it.
#[derive(Debug)]
pub(super) struct Words {
    values: Vec<f32>,
    moments: Moments,
    /// How often each row was moved.
    moved: Vec<usize>,
    hidden: usize,
}

impl Words {
    pub(super) fn new(weights: &Weights) -> Self {
        let values = weights.values(WORDS);
        let moved = vec![0; weights.config.vocabulary];
        Self { moments: Moments::zeros(values.len()), moved, hidden: weights.config.hidden, values }
    }

    /// Row by row.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// The rows of all tokens of texts, one behind the other.
    pub(super) fn gather(&self, ids: &[&[i64]]) -> Array2<f32> {
        let tokens: Vec<i64> = ids.concat();
        let mut out = Array2::zeros((tokens.len(), self.hidden));
        for (mut row, id) in out.rows_mut().into_iter().zip(tokens) {
            row.assign(&ArrayView1::from(&self.values[id as usize * self.hidden..][..self.hidden]));
        }
        out
    }

    /// Gradients of tokens summed by word.
    pub(super) fn gathered(&self, ids: &[&[i64]], gradients: &Array2<f32>) -> BTreeMap<u32, Vec<f32>> {
        let mut sums = BTreeMap::<u32, Vec<f32>>::new();
        for (id, gradient) in ids.concat().into_iter().zip(gradients.rows()) {
            let sum = sums.entry(id as u32).or_insert_with(|| vec![0.0; self.hidden]);
            sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
        }
        sums
    }

    /// Moves the rows that have a gradient.
    pub(super) fn step(&mut self, gradients: &BTreeMap<u32, Vec<f32>>, moved: Move) {
        for (row, gradient) in gradients {
            let range = *row as usize * self.hidden..(*row as usize + 1) * self.hidden;
            let (first, second) = self.moments.slices(range.clone());
            self.moved[*row as usize] += 1;
            moved.at_step(self.moved[*row as usize]).apply(&mut self.values[range], first, second, gradient);
        }
    }
}
