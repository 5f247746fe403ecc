//! The table of words: a step reads and moves only the rows of the words it meets.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use super::network::width;
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

    /// The words that texts have, each once, and for every position, padding included, its place among them.
    pub(super) fn rows_of(&self, ids: &[&[i64]]) -> (Vec<u32>, Tensor) {
        let width = width(ids);
        // Padding reads the first word, and is masked.
        let padded = || ids.iter().flat_map(|ids| (0..width).map(|at| ids.get(at).map_or(0, |id| *id as u32)));
        let mut found = BTreeMap::new();
        padded().for_each(|id| {
            found.entry(id).or_insert(0);
        });
        found.values_mut().enumerate().for_each(|(at, place)| *place = at as u32);
        let places: Vec<u32> = padded().map(|id| found[&id]).collect();
        let count = places.len();
        let places = Tensor::from_vec(places, count, &Device::Cpu).expect("as many as there are");
        (found.into_keys().collect(), places)
    }

    /// Rows of the table.
    pub(super) fn gather(&self, rows: &[u32]) -> Result<Tensor> {
        let values: Vec<f32> = rows.iter().flat_map(|row| self.row(*row)).copied().collect();
        Tensor::from_vec(values, (rows.len(), self.hidden), &Device::Cpu)
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

    pub(super) fn tensor(&self) -> Result<Tensor> {
        let rows = self.values.len() / self.hidden;
        Tensor::from_vec(self.values.clone(), (rows, self.hidden), &Device::Cpu)
    }

    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    fn row(&self, row: u32) -> &[f32] {
        &self.values[row as usize * self.hidden..][..self.hidden]
    }
}
