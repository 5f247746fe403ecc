//! The passes over the rows: batches of like length, split among the cores, until the rows held out say that no more is gained.

use std::collections::{BTreeMap, btree_map::Entry};

use ndarray::{Array2, ArrayD};
use rayon::prelude::*;

use super::{
    BertOptions, BertProgress,
    ground::Ground,
    network::{Network, Shard, ShardGradients},
};
use crate::{
    encoder::weights::Weights,
    folds::{folds, held_out},
    neural::{
        head::Affine,
        objective::Objective,
        optimiser::{AdamW, Schedule},
    },
    random::Random,
};

/// A batch is split into so many parts, whose gradients are added in order: the result does not depend on the number of cores.
const SHARDS: usize = 4;
/// Batches among whose rows like lengths are sought; more would make batches too much alike.
const BATCHES_SORTED: usize = 16;
/// Fewer rows than these say too little about when to stop.
const LEAST_HELD: usize = 50;
/// Rows that stand for all where none are held out.
const ROWS_CHECKED: usize = 300;
/// Rows that run together where nothing is learnt.
const ROWS_AT_ONCE: usize = 16;

/// What was learnt.
#[derive(Debug)]
pub(super) struct Learnt {
    pub(super) weights: Weights,
    /// Of embeddings of length 1, still in the units of the objective.
    pub(super) head: Affine,
    /// Of the rows held out, after each pass.
    pub(super) losses: Vec<f32>,
    /// Rows by which another form of the network is compared with this one: those held out, else some of all.
    pub(super) checked: Vec<usize>,
    /// Of the network as it was learnt, on those rows.
    pub(super) checked_loss: f32,
}

struct Trainer<'a> {
    ids: &'a [Vec<i64>],
    objective: &'a Objective,
    options: &'a BertOptions,
    network: Network,
    ground: Ground,
}

pub(super) fn train(
    weights: &Weights,
    ids: &[Vec<i64>],
    objective: &Objective,
    groups: &[String],
    options: &BertOptions,
    progress: &(dyn Fn(BertProgress) + Sync),
) -> Learnt {
    let (held, rows) = held_rows(groups, options);
    let first = weights.config.layers.saturating_sub(options.layers);
    let network = Network::new(weights, first, objective, &mut Random::new(options.seed, 1));
    let mut trainer = Trainer { ids, objective, options, network, ground: Ground::new(weights, first, ids) };
    let batches = rows.len().div_ceil(options.batch.max(1));
    let steps = batches * options.epochs;
    let schedule = Schedule { peak: options.learning_rate, warm_up: steps / 10, steps };
    let mut optimiser = AdamW::new(trainer.network.manners(options.head_rate), &trainer.network.parameters, schedule, options.weight_decay);
    let mut best = None;
    let mut losses: Vec<f32> = Vec::new();
    let mut since = 0;
    for epoch in 0..options.epochs {
        for (at, batch) in shuffled(&rows, ids, options.batch.max(1), options.seed, epoch).iter().enumerate() {
            let step = epoch * batches + at;
            let loss = trainer.step(batch, step, &mut optimiser);
            progress(BertProgress { step: step + 1, steps, epoch: epoch + 1, loss, held_out_loss: losses.last().copied() });
        }
        if held.is_empty() {
            continue;
        }
        let loss = trainer.loss_of(&held);
        if losses.iter().all(|least| loss < *least) {
            best = Some(trainer.snapshot());
            since = 0;
        } else {
            since += 1;
        }
        losses.push(loss);
        if since >= options.patience.max(1) {
            break;
        }
    }
    let checked: Vec<usize> = if held.is_empty() { rows.into_iter().take(ROWS_CHECKED).collect() } else { held };
    let least = losses.iter().copied().fold(f32::INFINITY, f32::min);
    let checked_loss = if losses.is_empty() { trainer.loss_of(&checked) } else { least };
    let (tensors, head) = best.unwrap_or_else(|| trainer.snapshot());
    let weights = weights.replaced(tensors).expect("the same tensors, with other numbers");
    Learnt { weights, head, losses, checked, checked_loss }
}

/// Rows held out and rows learnt from; too few to spare are none.
fn held_rows(groups: &[String], options: &BertOptions) -> (Vec<usize>, Vec<usize>) {
    let all = || (0..groups.len()).collect::<Vec<_>>();
    let share = options.held_out.clamp(0.0, 0.5);
    if (groups.len() as f32 * share) < LEAST_HELD as f32 {
        return (Vec::new(), all());
    }
    let parts = (1.0 / share).round() as usize;
    held_out(&folds(groups, parts, options.seed), 0)
}

/// The rows in batches: random, but rows of a batch of like length, so that little is padded.
fn shuffled(rows: &[usize], ids: &[Vec<i64>], batch: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut random = Random::new(seed, 1_000 + epoch as u64);
    let mut rows = rows.to_vec();
    random.shuffle(&mut rows);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for some in rows.chunks_mut(batch * BATCHES_SORTED) {
        some.sort_by_key(|row| ids[*row].len());
        batches.extend(some.chunks(batch).map(<[usize]>::to_vec));
    }
    random.shuffle(&mut batches);
    batches
}

impl Trainer<'_> {
    /// One step; the loss of its rows.
    fn step(&mut self, batch: &[usize], step: usize, optimiser: &mut AdamW) -> f32 {
        let shards: Vec<&[usize]> = batch.chunks(batch.len().div_ceil(SHARDS)).collect();
        let learn = |(at, rows): (usize, &&[usize])| {
            let mut random = Random::new(self.options.seed, (2_000_000 + step * SHARDS + at) as u64);
            self.network.learn(&self.ground, &self.shard(rows), self.objective, batch.len(), (self.options.dropout, &mut random))
        };
        let found: Vec<ShardGradients> = shards.par_iter().enumerate().map(learn).collect();
        let loss = found.iter().map(|shard| shard.loss).sum();
        let (gradients, words) = added(found);
        let moved = optimiser.step(&mut self.network.parameters, &gradients);
        if let Ground::Words(table) = &mut self.ground {
            table.step(&words, moved);
        }
        loss
    }

    fn shard<'s>(&'s self, rows: &'s [usize]) -> Shard<'s> {
        Shard { rows, ids: rows.iter().map(|row| self.ids[*row].as_slice()).collect() }
    }

    fn loss_of(&self, some: &[usize]) -> f32 {
        let mut rows = some.to_vec();
        rows.sort_by_key(|row| std::cmp::Reverse(self.ids[*row].len()));
        let loss = |rows: &[usize]| {
            let outputs = self.network.predict(&self.ground, &self.shard(rows));
            f64::from(self.objective.score_loss(rows, &outputs)) * rows.len() as f64
        };
        let losses: Vec<f64> = rows.par_chunks(ROWS_AT_ONCE).map(loss).collect();
        (losses.iter().sum::<f64>() / some.len().max(1) as f64) as f32
    }

    fn snapshot(&self) -> (BTreeMap<String, ArrayD<f32>>, Affine) {
        (self.network.tensors(&self.ground), self.network.head())
    }
}

/// Gradients of shards, in order.
fn added(shards: Vec<ShardGradients>) -> (Vec<Array2<f32>>, BTreeMap<u32, Vec<f32>>) {
    let mut shards = shards.into_iter();
    let (mut gradients, mut words) = shards.next().map_or_else(Default::default, |first| (first.gradients, first.words));
    for shard in shards {
        gradients.par_iter_mut().zip(&shard.gradients).for_each(|(sum, gradient)| *sum += gradient);
        for (word, gradient) in shard.words {
            match words.entry(word) {
                Entry::Vacant(place) => {
                    place.insert(gradient);
                }
                Entry::Occupied(mut sum) => sum.get_mut().iter_mut().zip(&gradient).for_each(|(sum, value)| *sum += value),
            }
        }
    }
    (gradients, words)
}

#[cfg(test)]
mod tests;
