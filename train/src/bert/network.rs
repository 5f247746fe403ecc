//! An encoder with a layer behind it, forth and back, every parameter of it learnt.
//!
//! The tokens of texts that run together lie one behind the other, without padding: linear layers see them as one matrix, attention
//! looks at each text's rows. The table of words is not here: of its thirty thousand rows a step touches some hundreds ([`Words`]).

use std::{collections::BTreeMap, ops::Range};

use ndarray::{Array1, Array2, ArrayD, Axis, Ix1, Ix2, IxDyn, s};

use super::words::Words;
use crate::{
    encoder::weights::{Config, WORDS, Weights, layer_prefix},
    neural::{
        head::Affine,
        objective::Objective,
        ops::{
            Normalised, affine, affine_back, attention, attention_back, dropout, gelu, gelu_back, layer_norm, layer_norm_back, mean,
            of_length, of_length_back,
        },
        optimiser::Manner,
    },
    random::Random,
};

/// Names of the last layer's parameters.
const HEAD: &str = "head";
const KINDS: &str = "embeddings.token_type_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";

/// Everything that is learnt but the table of words.
#[derive(Debug)]
pub(super) struct Network {
    config: Config,
    /// Place of each name.
    names: BTreeMap<String, usize>,
    /// Vectors as one row.
    pub(super) parameters: Vec<Array2<f32>>,
}

/// Texts that run together.
#[derive(Debug)]
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
    embedded: Normalised,
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
    /// With a last layer that knows nothing yet.
    pub(super) fn new(weights: &Weights, objective: &Objective, random: &mut Random) -> Self {
        let size = 0.1 / (weights.config.hidden as f32).sqrt();
        let weight = Array2::from_shape_simple_fn((weights.config.hidden, objective.outputs()), || size * random.normal());
        Self::with(weights, weight, objective.initial_bias())
    }

    fn with(weights: &Weights, head: Array2<f32>, bias: Array1<f32>) -> Self {
        let mut network = Self { config: weights.config, names: BTreeMap::new(), parameters: Vec::new() };
        for (name, _) in weights.config.tensors() {
            if name != WORDS {
                let values = weights.tensor(&name).clone();
                let matrix = match values.ndim() {
                    1 => values.into_dimensionality::<Ix1>().map(|vector| vector.insert_axis(Axis(0))),
                    _ => values.into_dimensionality::<Ix2>(),
                };
                network.push(name, matrix.expect("encoders have vectors and matrices"));
            }
        }
        network.push(format!("{HEAD}.weight"), head);
        network.push(format!("{HEAD}.bias"), bias.insert_axis(Axis(0)));
        network
    }

    /// With a last layer that was learnt before.
    #[cfg(test)]
    pub(super) fn with_head(weights: &Weights, head: &Affine) -> Self {
        Self::with(weights, &head.weight / (weights.config.hidden as f32).sqrt(), head.bias.clone())
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
        words: &Words,
        shard: &Shard<'_>,
        objective: &Objective,
        batch_rows: usize,
        (share, random): (f32, &mut Random),
    ) -> ShardGradients {
        let dropped = dropout((shard.ids.len(), self.config.hidden), share, random);
        let trace = self.forth(words, &shard.ids, dropped);
        let (loss, mut gradient) = objective.loss_and_gradient(shard.rows, &trace.outputs);
        let part = shard.rows.len() as f32 / batch_rows as f32;
        gradient *= part;
        let (gradients, of_words) = self.back(&trace, &gradient);
        ShardGradients { loss: loss * part, gradients, words: words.gathered(&shard.ids, &of_words) }
    }

    /// Outputs without dropout, `rows x outputs`.
    pub(super) fn predict(&self, words: &Words, ids: &[&[i64]]) -> Array2<f32> {
        self.forth(words, ids, Array2::ones((ids.len(), self.config.hidden))).outputs
    }

    /// The last layer, which reads embeddings of length 1.
    pub(super) fn head(&self) -> Affine {
        let scale = (self.config.hidden as f32).sqrt();
        Affine { weight: self.at(&format!("{HEAD}.weight")) * scale, bias: self.at(&format!("{HEAD}.bias")).row(0).to_owned() }
    }

    /// The encoder as it is now.
    pub(super) fn tensors(&self, words: &Words) -> BTreeMap<String, ArrayD<f32>> {
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let values = if name == WORDS { words.values().to_vec() } else { self.at(&name).iter().copied().collect() };
            (name, ArrayD::from_shape_vec(IxDyn(&shape), values).expect("as many as there were"))
        };
        self.config.tensors().into_iter().map(tensor).collect()
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

    fn forth(&self, words: &Words, ids: &[&[i64]], dropped: Array2<f32>) -> Trace {
        let mut end = 0;
        let texts: Vec<Range<usize>> = ids
            .iter()
            .map(|ids| {
                let start = end;
                end += ids.len();
                start..end
            })
            .collect();
        let mut x = words.gather(ids);
        let (kinds, positions) = (self.at(KINDS), self.at(POSITIONS));
        for text in &texts {
            let mut rows = x.slice_mut(s![text.clone(), ..]);
            rows += &positions.slice(s![..text.len(), ..]);
            rows += &kinds.row(0);
        }
        let (mut x, embedded) = self.normalise("embeddings.LayerNorm", x);
        let mut layers = Vec::with_capacity(self.config.layers);
        for layer in 0..self.config.layers {
            let (out, trace) = self.layer(&layer_prefix(layer), x, &texts);
            x = out;
            layers.push(trace);
        }
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

    /// Gradients by all parameters, and by what was read of the table of words, token by token.
    fn back(&self, trace: &Trace, gradient: &Array2<f32>) -> (Vec<Array2<f32>>, Array2<f32>) {
        let mut back = Back { network: self, gradients: self.parameters.iter().map(|values| Array2::zeros(values.dim())).collect() };
        let of_last = back.affine(HEAD, &trace.last, gradient) * &trace.dropped;
        let tokens = trace.texts.last().map_or(0, |text| text.end);
        let mut x = Array2::zeros((tokens, self.config.hidden));
        for ((text, pooled), of_last) in trace.texts.iter().zip(trace.pooled.rows()).zip(of_last.rows()) {
            let of_mean = of_length_back(pooled, self.length(), of_last) / text.len() as f32;
            let mut rows = x.slice_mut(s![text.clone(), ..]);
            rows += &of_mean;
        }
        for (layer, layer_trace) in trace.layers.iter().enumerate().rev() {
            x = back.layer(&layer_prefix(layer), layer_trace, &trace.texts, x);
        }
        let x = back.normalise("embeddings.LayerNorm", &trace.embedded, x);
        for text in &trace.texts {
            let rows = x.slice(s![text.clone(), ..]);
            let mut positions = back.of(POSITIONS).slice_mut(s![..text.len(), ..]);
            positions += &rows;
            let mut kind = back.of(KINDS).row_mut(0);
            kind += &rows.sum_axis(Axis(0));
        }
        (back.gradients, x)
    }
}

/// The way back, with the gradients found so far.
struct Back<'a> {
    network: &'a Network,
    gradients: Vec<Array2<f32>>,
}

impl Back<'_> {
    fn of(&mut self, name: &str) -> &mut Array2<f32> {
        &mut self.gradients[self.network.names[name]]
    }

    /// Gradients by weight and bias.
    fn pair(&mut self, name: &str) -> [&mut Array2<f32>; 2] {
        let places = ["weight", "bias"].map(|part| self.network.names[&format!("{name}.{part}")]);
        self.gradients.get_disjoint_mut(places).expect("weight and bias are two")
    }

    fn affine(&mut self, name: &str, x: &Array2<f32>, gradient: &Array2<f32>) -> Array2<f32> {
        let weight = self.network.pair(name)[0];
        let [of_weight, of_bias] = self.pair(name);
        affine_back(x, weight, gradient, of_weight, of_bias)
    }

    fn normalise(&mut self, name: &str, normalised: &Normalised, gradient: Array2<f32>) -> Array2<f32> {
        let scale = self.network.pair(name)[0];
        let [of_scale, of_shift] = self.pair(name);
        layer_norm_back(normalised, scale, gradient, of_scale, of_shift)
    }

    fn layer(&mut self, prefix: &str, trace: &LayerTrace, texts: &[Range<usize>], gradient: Array2<f32>) -> Array2<f32> {
        let of_sum = self.normalise(&format!("{prefix}.{DONE}"), &trace.done, gradient);
        let of_activated = self.affine(&format!("{prefix}.{OUTPUT}"), &trace.activated, &of_sum);
        let of_inner = gelu_back(&trace.inner, of_activated);
        let of_middle = self.affine(&format!("{prefix}.{INNER}"), &trace.middle, &of_inner) + &of_sum;
        let of_sum = self.normalise(&format!("{prefix}.{ATTENDED}"), &trace.attended, of_middle);
        let of_context = self.affine(&format!("{prefix}.{CONTEXT}"), &trace.context, &of_sum);
        let of_three = self.attention(trace, texts, &of_context);
        THREE
            .iter()
            .zip(&of_three)
            .fold(of_sum, |sum, (part, gradient)| sum + self.affine(&format!("{prefix}.{part}"), &trace.input, gradient))
    }

    fn attention(&self, trace: &LayerTrace, texts: &[Range<usize>], of_context: &Array2<f32>) -> [Array2<f32>; 3] {
        let mut found = [0; 3].map(|_| Array2::zeros(of_context.dim()));
        let heads = self.network.config.heads;
        for (at, text) in texts.iter().enumerate() {
            for head in 0..heads {
                let place = s![text.clone(), self.network.columns(head)];
                let three = trace.three.each_ref().map(|all| all.slice(place));
                let gradients = found.each_mut().map(|all| all.slice_mut(place));
                attention_back(three, &trace.shares[at * heads + head], self.network.scale(), of_context.slice(place), gradients);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
