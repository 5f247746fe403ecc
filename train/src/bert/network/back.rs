//! The way back through the network: from the loss's gradient by the outputs to that by every parameter.

use std::ops::Range;

use ndarray::{Array2, Axis, s};

use super::{ATTENDED, CONTEXT, DONE, HEAD, INNER, KINDS, LayerTrace, Network, OUTPUT, POSITIONS, THREE, Trace};
use crate::{
    encoder::weights::layer_prefix,
    neural::ops::{Normalised, affine_back, attention_back, gelu_back, layer_norm_back, of_length_back},
};

/// The way back, with the gradients found so far.
pub(super) struct Back<'a> {
    network: &'a Network,
    gradients: Vec<Array2<f32>>,
}

impl<'a> Back<'a> {
    /// Gradients by all parameters, and by what was read of the table of words, token by token; none where the lowest layers do not learn.
    pub(super) fn through(network: &'a Network, trace: &Trace, gradient: &Array2<f32>) -> (Vec<Array2<f32>>, Option<Array2<f32>>) {
        let mut back = Self { network, gradients: network.parameters.iter().map(|values| Array2::zeros(values.dim())).collect() };
        let of_last = back.affine(HEAD, &trace.last, gradient) * &trace.dropped;
        let tokens = trace.texts.last().map_or(0, |text| text.end);
        let mut x = Array2::zeros((tokens, network.config.hidden));
        for ((text, pooled), of_last) in trace.texts.iter().zip(trace.pooled.rows()).zip(of_last.rows()) {
            let of_mean = of_length_back(pooled, network.length(), of_last) / text.len() as f32;
            let mut rows = x.slice_mut(s![text.clone(), ..]);
            rows += &of_mean;
        }
        for (layer, layer_trace) in network.layers.clone().zip(&trace.layers).rev() {
            x = back.layer(&layer_prefix(layer), layer_trace, &trace.texts, x);
        }
        let of_words = trace.embedded.as_ref().map(|embedded| back.embedding(embedded, &trace.texts, x));
        (back.gradients, of_words)
    }

    fn embedding(&mut self, embedded: &Normalised, texts: &[Range<usize>], gradient: Array2<f32>) -> Array2<f32> {
        let x = self.normalise("embeddings.LayerNorm", embedded, gradient);
        for text in texts {
            let rows = x.slice(s![text.clone(), ..]);
            let mut positions = self.of(POSITIONS).slice_mut(s![..text.len(), ..]);
            positions += &rows;
            let mut kind = self.of(KINDS).row_mut(0);
            kind += &rows.sum_axis(Axis(0));
        }
        x
    }

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
