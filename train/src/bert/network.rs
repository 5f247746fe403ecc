//! An encoder with a layer behind it, forth and back, every parameter of it learnt.
//!
//! The tokens of texts that run together lie one behind the other, without padding: linear layers see them as one matrix, attention
//! looks at each text's rows. The lowest layers may be left as they were published; what they make of a text is then computed once
//! ([`Ground`]), and a step costs no more than the layers that learn. The table of words is not here either: of its thirty thousand rows
//! a step touches some hundreds.

mod back;

use std::{collections::BTreeMap, ops::Range};

use ndarray::{Array1, Array2, ArrayD, Axis, Ix1, Ix2, IxDyn, s};

use super::ground::Ground;
use crate::{
    encoder::weights::{Config, WORDS, Weights, layer_of, layer_prefix},
    neural::{
        head::Affine,
        objective::Objective,
        ops::{Normalised, affine, attention, dropout, gelu, layer_norm, mean, of_length},
        optimiser::Manner,
    },
    random::Random,
};
use back::Back;

/// Names of the last layer's parameters.
const HEAD: &str = "head";
const KINDS: &str = "embeddings.token_type_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";

/// Everything that is learnt but the table of words.
#[derive(Debug)]
pub(super) struct Network {
    config: Config,
    /// Those of the encoder's that are here; with the first come the embeddings.
    layers: Range<usize>,
    /// Place of each name.
    names: BTreeMap<String, usize>,
    /// Vectors as one row.
    pub(super) parameters: Vec<Array2<f32>>,
}

/// Texts that run together.
#[derive(Debug, Clone)]
pub(super) struct Shard<'a> {
    /// Rows of the objective.
    pub(super) rows: &'a [usize],
    /// Token ids of each.
    pub(super) ids: Vec<&'a [i64]>,
}

/// What a shard has to say of every parameter.
#[derive(Debug)]
pub(super) struct ShardGradients {
    /// Of the shard's rows, over the batch's rows.
    pub(super) loss: f32,
    /// In the order of the parameters.
    pub(super) gradients: Vec<Array2<f32>>,
    /// By word.
    pub(super) words: BTreeMap<u32, Vec<f32>>,
}

/// What the way back needs of the way forth.
struct Trace {
    texts: Vec<Range<usize>>,
    embedded: Option<Normalised>,
    layers: Vec<LayerTrace>,
    pooled: Array2<f32>,
    dropped: Array2<f32>,
    /// What the last layer read.
    last: Array2<f32>,
    outputs: Array2<f32>,
}

struct LayerTrace {
    input: Array2<f32>,
    /// Query, key and value.
    three: [Array2<f32>; 3],
    /// Of each text, of each head.
    shares: Vec<Array2<f32>>,
    context: Array2<f32>,
    attended: Normalised,
    middle: Array2<f32>,
    inner: Array2<f32>,
    activated: Array2<f32>,
    done: Normalised,
}

/// Parts of a layer's names.
const THREE: [&str; 3] = ["attention.self.query", "attention.self.key", "attention.self.value"];
const CONTEXT: &str = "attention.output.dense";
const ATTENDED: &str = "attention.output.LayerNorm";
const INNER: &str = "intermediate.dense";
const OUTPUT: &str = "output.dense";
const DONE: &str = "output.LayerNorm";

impl Network {
    /// The layers from `first` on, with a last layer that knows nothing yet.
    pub(super) fn new(weights: &Weights, first: usize, objective: &Objective, random: &mut Random) -> Self {
        let size = 0.1 / (weights.config.hidden as f32).sqrt();
        let weight = Array2::from_shape_simple_fn((weights.config.hidden, objective.outputs()), || size * random.normal());
        Self::of_layers(weights, first..weights.config.layers).with_last(weight, objective.initial_bias())
    }

    /// The layers below `first` alone, which nothing is learnt of.
    pub(super) fn below(weights: &Weights, first: usize) -> Self {
        Self::of_layers(weights, 0..first)
    }

    fn of_layers(weights: &Weights, layers: Range<usize>) -> Self {
        let mut network = Self { config: weights.config, layers: layers.clone(), names: BTreeMap::new(), parameters: Vec::new() };
        let is_here = |name: &str| layer_of(name).map_or(layers.start == 0, |layer| layers.contains(&layer));
        for (name, _) in weights.config.tensors() {
            if name != WORDS && is_here(&name) {
                let values = weights.tensor(&name).clone();
                let matrix = match values.ndim() {
                    1 => values.into_dimensionality::<Ix1>().map(|vector| vector.insert_axis(Axis(0))),
                    _ => values.into_dimensionality::<Ix2>(),
                };
                network.push(name, matrix.expect("encoders have vectors and matrices"));
            }
        }
        network
    }

    fn with_last(mut self, weight: Array2<f32>, bias: Array1<f32>) -> Self {
        self.push(format!("{HEAD}.weight"), weight);
        self.push(format!("{HEAD}.bias"), bias.insert_axis(Axis(0)));
        self
    }

    /// The whole encoder, with a last layer that was learnt before.
    #[cfg(test)]
    pub(super) fn with_head(weights: &Weights, head: &Affine) -> Self {
        let weight = &head.weight / (weights.config.hidden as f32).sqrt();
        Self::of_layers(weights, 0..weights.config.layers).with_last(weight, head.bias.clone())
    }

    fn push(&mut self, name: String, values: Array2<f32>) {
        self.names.insert(name, self.parameters.len());
        self.parameters.push(values);
    }

    /// Places of all parameters, by name.
    #[cfg(test)]
    pub(super) fn names(&self) -> &BTreeMap<String, usize> {
        &self.names
    }

    /// How each parameter is learnt: biases and scales of normalisations are not drawn to zero; what is new learns faster.
    pub(super) fn manners(&self, head_rate: f32) -> Vec<Manner> {
        let mut manners = vec![Manner { rate: 1.0, decays: true }; self.parameters.len()];
        for (name, at) in &self.names {
            manners[*at] = Manner {
                rate: if name.starts_with(HEAD) { head_rate } else { 1.0 },
                decays: !(name.ends_with(".bias") || name.ends_with("LayerNorm.weight")),
            };
        }
        manners
    }

    /// Loss and gradients of a shard; the loss is over `batch_rows` rows, of which these are some. `dropped`: the share of an embedding
    /// that is left out, and by what chance.
    pub(super) fn learn(
        &self,
        ground: &Ground,
        shard: &Shard<'_>,
        objective: &Objective,
        batch_rows: usize,
        (share, random): (f32, &mut Random),
    ) -> ShardGradients {
        let dropped = dropout((shard.ids.len(), self.config.hidden), share, random);
        let trace = self.forth(ground, shard, dropped);
        let (loss, mut gradient) = objective.loss_and_gradient(shard.rows, &trace.outputs);
        let part = shard.rows.len() as f32 / batch_rows as f32;
        gradient *= part;
        let (gradients, of_ground) = Back::through(self, &trace, &gradient);
        ShardGradients { loss: loss * part, gradients, words: of_ground.map_or_else(BTreeMap::new, |found| ground.gathered(shard, &found)) }
    }

    /// Outputs without dropout, `rows x outputs`.
    pub(super) fn predict(&self, ground: &Ground, shard: &Shard<'_>) -> Array2<f32> {
        self.forth(ground, shard, Array2::ones((shard.ids.len(), self.config.hidden))).outputs
    }

    /// What the layers make of every token, one text behind the other.
    pub(super) fn states(&self, ground: &Ground, shard: &Shard<'_>) -> Array2<f32> {
        self.through_layers(ground, shard).0
    }

    /// The last layer, which reads embeddings of length 1.
    pub(super) fn head(&self) -> Affine {
        let scale = (self.config.hidden as f32).sqrt();
        Affine { weight: self.at(&format!("{HEAD}.weight")) * scale, bias: self.at(&format!("{HEAD}.bias")).row(0).to_owned() }
    }

    /// What was learnt of the encoder, as it is now.
    pub(super) fn tensors(&self, ground: &Ground) -> BTreeMap<String, ArrayD<f32>> {
        let values = |name: &str| match ground {
            Ground::Words(words) if name == WORDS => Some(words.values().to_vec()),
            _ => self.names.get(name).map(|at| self.parameters[*at].iter().copied().collect()),
        };
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let values = values(&name)?;
            Some((name, ArrayD::from_shape_vec(IxDyn(&shape), values).expect("as many as there were")))
        };
        self.config.tensors().into_iter().filter_map(tensor).collect()
    }

    fn at(&self, name: &str) -> &Array2<f32> {
        &self.parameters[self.names[name]]
    }

    /// Weight and bias.
    fn pair(&self, name: &str) -> [&Array2<f32>; 2] {
        [self.at(&format!("{name}.weight")), self.at(&format!("{name}.bias"))]
    }

    fn affine(&self, name: &str, x: &Array2<f32>) -> Array2<f32> {
        let [weight, bias] = self.pair(name);
        affine(x, weight, bias)
    }

    fn normalise(&self, name: &str, x: Array2<f32>) -> (Array2<f32>, Normalised) {
        let [scale, shift] = self.pair(name);
        layer_norm(x, scale, shift, self.config.epsilon as f32)
    }

    fn forth(&self, ground: &Ground, shard: &Shard<'_>, dropped: Array2<f32>) -> Trace {
        let (x, texts, embedded, layers) = self.through_layers(ground, shard);
        let mut pooled = Array2::zeros((texts.len(), self.config.hidden));
        let mut last = dropped.clone();
        for ((text, mut pooled), mut last) in texts.iter().zip(pooled.rows_mut()).zip(last.rows_mut()) {
            pooled.assign(&mean(x.slice(s![text.clone(), ..])));
            // Of length 1, as embeddings are everywhere; then brought to a size that layers learn well from.
            last *= &of_length(pooled.view(), self.length());
        }
        let outputs = self.affine(HEAD, &last);
        Trace { texts, embedded, layers, pooled, dropped, last, outputs }
    }

    fn through_layers(&self, ground: &Ground, shard: &Shard<'_>) -> (Array2<f32>, Vec<Range<usize>>, Option<Normalised>, Vec<LayerTrace>) {
        let texts = shard.places();
        let (mut x, embedded) = match ground {
            Ground::Words(words) => {
                let (x, normalised) = self.embed(words.gather(&shard.ids), &texts);
                (x, Some(normalised))
            }
            Ground::States(states) => (states.gather(shard.rows), None),
        };
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in self.layers.clone() {
            let (out, trace) = self.layer(&layer_prefix(layer), x, &texts);
            x = out;
            layers.push(trace);
        }
        (x, texts, embedded, layers)
    }

    fn embed(&self, mut x: Array2<f32>, texts: &[Range<usize>]) -> (Array2<f32>, Normalised) {
        let (kinds, positions) = (self.at(KINDS), self.at(POSITIONS));
        for text in texts {
            let mut rows = x.slice_mut(s![text.clone(), ..]);
            rows += &positions.slice(s![..text.len(), ..]);
            rows += &kinds.row(0);
        }
        self.normalise("embeddings.LayerNorm", x)
    }

    fn length(&self) -> f32 {
        (self.config.hidden as f32).sqrt()
    }

    /// Columns of a head.
    fn columns(&self, head: usize) -> Range<usize> {
        let width = self.config.hidden / self.config.heads;
        head * width..(head + 1) * width
    }

    fn scale(&self) -> f32 {
        1.0 / ((self.config.hidden / self.config.heads) as f32).sqrt()
    }

    fn layer(&self, prefix: &str, input: Array2<f32>, texts: &[Range<usize>]) -> (Array2<f32>, LayerTrace) {
        let three = THREE.map(|part| self.affine(&format!("{prefix}.{part}"), &input));
        let mut context = Array2::zeros(input.dim());
        let mut shares = Vec::with_capacity(texts.len() * self.config.heads);
        for text in texts {
            for head in 0..self.config.heads {
                let place = s![text.clone(), self.columns(head)];
                let [query, key, value] = three.each_ref().map(|all| all.slice(place));
                shares.push(attention(query, key, value, self.scale(), context.slice_mut(place)));
            }
        }
        let (middle, attended) =
            self.normalise(&format!("{prefix}.{ATTENDED}"), self.affine(&format!("{prefix}.{CONTEXT}"), &context) + &input);
        let inner = self.affine(&format!("{prefix}.{INNER}"), &middle);
        let activated = gelu(&inner);
        let (out, done) = self.normalise(&format!("{prefix}.{DONE}"), self.affine(&format!("{prefix}.{OUTPUT}"), &activated) + &middle);
        (out, LayerTrace { input, three, shares, context, attended, middle, inner, activated, done })
    }
}

impl Shard<'_> {
    /// Where each text's tokens are.
    fn places(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let place = |ids: &&[i64]| {
            let start = end;
            end += ids.len();
            start..end
        };
        self.ids.iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests;
