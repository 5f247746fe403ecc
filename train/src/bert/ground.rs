//! What the lowest layer that learns reads of a text: rows of the table of words, where everything learns, or what the layers below made
//! of every token, once and for all.

use std::collections::BTreeMap;

use half::f16;
use ndarray::Array2;
use rayon::prelude::*;

use super::{
    network::{Network, Shard},
    words::Words,
};
use crate::encoder::weights::Weights;

/// Texts that run together while states are made.
const TEXTS_AT_ONCE: usize = 16;

/// Under the layers that learn.
#[derive(Debug)]
pub(super) enum Ground {
    /// Everything learns.
    Words(Words),
    /// The lowest layers do not.
    States(States),
}

/// What layers that do not learn made of every text; in 16 bits, which is finer than what training adds by chance.
#[derive(Debug)]
pub(super) struct States {
    texts: Vec<Vec<f16>>,
    hidden: usize,
}

impl Ground {
    /// Under the layers from `first` on, for these texts.
    pub(super) fn new(weights: &Weights, first: usize, ids: &[Vec<i64>]) -> Self {
        let words = Words::new(weights);
        if first == 0 { Self::Words(words) } else { Self::States(States::of(weights, first, ids, words)) }
    }

    /// Gradients of tokens, summed by word.
    pub(super) fn gathered(&self, shard: &Shard<'_>, gradients: &Array2<f32>) -> BTreeMap<u32, Vec<f32>> {
        match self {
            Self::Words(words) => words.gathered(&shard.ids, gradients),
            Self::States(_) => BTreeMap::new(),
        }
    }
}

impl States {
    fn of(weights: &Weights, first: usize, ids: &[Vec<i64>], words: Words) -> Self {
        let (below, ground, hidden) = (Network::below(weights, first), Ground::Words(words), weights.config.hidden);
        let rows: Vec<usize> = (0..ids.len()).collect();
        let some = |rows: &[usize]| {
            let shard = Shard { rows, ids: rows.iter().map(|row| ids[*row].as_slice()).collect() };
            let states: Vec<f16> = below.states(&ground, &shard).iter().map(|value| f16::from_f32(*value)).collect();
            let mut rest = states.as_slice();
            let mut take = |ids: &&[i64]| {
                let (text, after) = rest.split_at(ids.len() * hidden);
                rest = after;
                text.to_vec()
            };
            shard.ids.iter().map(&mut take).collect::<Vec<_>>()
        };
        Self { texts: rows.par_chunks(TEXTS_AT_ONCE).flat_map_iter(some).collect(), hidden }
    }

    /// Of these texts, one behind the other.
    pub(super) fn gather(&self, rows: &[usize]) -> Array2<f32> {
        let values: Vec<f32> = rows.iter().flat_map(|row| &self.texts[*row]).map(|value| value.to_f32()).collect();
        Array2::from_shape_vec((values.len() / self.hidden, self.hidden), values).expect("every token has as many numbers")
    }
}
