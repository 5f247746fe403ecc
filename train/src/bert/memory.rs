//! Beside the layer behind a fine-tuned encoder: the scores of the training texts nearest to a text by the encoder's own embedding.
//!
//! Fine-tuning brings texts together on which the same experts do well, so that neighbours say more than they do by the published
//! embedding, and other things than the layer. How far they are trusted is found on the rows held out.

use ndarray::{Array2, Axis, Zip};

use crate::{
    onnx::{GraphBuilder, Value},
    parts::Neighbours,
    targets::Targets,
};

/// How many nearest texts.
const NEAREST: usize = 80;
/// Texts kept at most: bounds the bundle, and the time of a decision.
const MOST_KEPT: usize = 20_000;
/// A smaller share is not worth the bytes.
const LEAST_SHARE: f32 = 0.1;

/// Training texts with their scores.
#[derive(Debug)]
pub(super) struct Memory {
    /// Of the answer; the rest is the layer's.
    pub(super) share: f32,
    pub(super) neighbours: Neighbours,
}

impl Memory {
    /// Keeps texts by their embeddings if that helps on the rows held out, of which `layer` is what the layer says.
    pub(super) fn of(embeddings: &Array2<f32>, targets: &Targets, held: &[usize], layer: &Array2<f32>) -> Option<Self> {
        let mut is_held = vec![false; embeddings.nrows()];
        held.iter().for_each(|row| is_held[*row] = true);
        let seen: Vec<usize> = (0..embeddings.nrows()).filter(|row| !is_held[*row]).collect();
        let said = neighbours(embeddings, targets, &seen).predict(embeddings.select(Axis(0), held).view());
        let share = share(layer, &said, &targets.deviation.select(Axis(0), held));
        let all: Vec<usize> = (0..embeddings.nrows()).collect();
        (share >= LEAST_SHARE).then(|| Self { share, neighbours: neighbours(embeddings, targets, &all) })
    }

    /// Layer and neighbours together.
    pub(super) fn mixed(&self, layer: Array2<f32>, embeddings: &Array2<f32>) -> Array2<f32> {
        layer * (1.0 - self.share) + self.neighbours.predict(embeddings.view()) * self.share
    }

    /// As nodes.
    pub(super) fn export(&self, graph: &mut GraphBuilder, layer: &Value, embedding: &Value) -> Value {
        let said = self.neighbours.export(graph, embedding);
        let (share, rest) = (graph.scalar(self.share), graph.scalar(1.0 - self.share));
        let (said, layer) = (graph.add("Mul", &[&said, &share]), graph.add("Mul", &[layer, &rest]));
        graph.add("Add", &[&layer, &said])
    }
}

fn neighbours(embeddings: &Array2<f32>, targets: &Targets, rows: &[usize]) -> Neighbours {
    let kept: Vec<usize> = rows.iter().copied().step_by(rows.len().div_ceil(MOST_KEPT).max(1)).collect();
    let values = targets.filled().select(Axis(0), &kept);
    Neighbours::new(embeddings.select(Axis(0), &kept).view(), values, NEAREST)
}

/// The share of neighbours that comes nearest to what was observed.
fn share(layer: &Array2<f32>, neighbours: &Array2<f32>, observed: &Array2<f32>) -> f32 {
    let (mut product, mut squares) = (0.0_f64, 0.0_f64);
    Zip::from(layer).and(neighbours).and(observed).for_each(|layer, said, observed| {
        if !observed.is_nan() {
            let apart = f64::from(said - layer);
            product += f64::from(observed - layer) * apart;
            squares += apart * apart;
        }
    });
    if squares > 0.0 { (product / squares).clamp(0.0, 1.0) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::{Memory, share};
    use crate::{linear, random::Random, targets::Targets};

    #[test]
    fn the_share_is_what_comes_nearest_and_never_below_none_or_above_all() {
        let (layer, said) = (array![[0.0, 1.0], [2.0, 0.0]], array![[1.0, 3.0], [0.0, 1.0]]);
        let between = &layer * 0.75 + &said * 0.25;
        assert!((share(&layer, &said, &between) - 0.25).abs() < 1e-6);
        assert_eq!((share(&layer, &said, &(&layer * 2.0 - &said)), share(&layer, &said, &(&said * 2.0 - &layer))), (0.0, 1.0));
        assert_eq!(share(&layer, &layer, &said), 0.0);
        let holes = array![[f32::NAN, 3.0], [f32::NAN, f32::NAN]];
        assert_eq!(share(&layer, &said, &holes), 1.0);
    }

    #[test]
    fn neighbours_are_kept_where_they_know_more_than_the_layer_and_not_where_they_know_nothing() {
        let mut random = Random::new(2, 0);
        let mut embeddings = Array2::from_shape_simple_fn((1_000, 3), || random.normal());
        linear::normalise_rows(&mut embeddings);
        let nothing = Array2::zeros((100, 2));
        let held: Vec<usize> = (0..100).collect();
        let mut remembered = |known: bool| {
            let deviation = Array2::from_shape_fn((1_000, 2), |(row, expert)| {
                let sign = if known { embeddings[[row, 0]] } else { random.normal() };
                if expert == 0 { sign } else { -sign }
            });
            let targets = Targets {
                expert_means: array![0.5, 0.5],
                deviation,
                others: Array2::zeros((1_000, 0)),
                labels: Array2::zeros((1_000, 0)),
                label_names: Vec::new(),
                output_tokens: Array2::from_elem((1_000, 2), f32::NAN),
            };
            Memory::of(&embeddings, &targets, &held, &nothing)
        };
        assert!(remembered(true).unwrap().share > 0.8);
        assert!(remembered(false).is_none_or(|memory| memory.share < 0.8), "chance may favour a little, not all");
    }
}
