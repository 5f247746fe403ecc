//! The last layer of a network, in units of the score: what a part says of every expert, and of its output tokens.

use ndarray::{Array1, Array2, ArrayView2};

use crate::{
    linear,
    onnx::{Constant, GraphBuilder, Value},
};

/// Linear in what the layer before gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Deviations of experts' scores.
    pub deviation: Affine,
    /// Output tokens of experts, where the data has them. Never below 0.
    pub output_tokens: Option<Affine>,
}

/// `x * weight + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// `inputs x outputs`.
    pub weight: Array2<f32>,
    /// Of each output.
    pub bias: Array1<f32>,
}

impl Affine {
    /// `rows x outputs`.
    #[must_use]
    pub fn apply(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        linear::product(x, self.weight.view()) + &self.bias
    }

    /// `[batch, outputs]`.
    pub fn export(&self, graph: &mut GraphBuilder, name: &str, x: &Value) -> Value {
        let weight: Vec<f32> = self.weight.iter().copied().collect();
        let weight = graph.constant(&format!("{name}_weight"), Constant::f32(&[self.weight.nrows(), self.weight.ncols()], &weight));
        let bias = graph.constant(&format!("{name}_bias"), Constant::f32(&[self.bias.len()], &self.bias.to_vec()));
        graph.linear(x, &weight, &bias)
    }
}

impl Head {
    /// Deviations, `rows x experts`.
    #[must_use]
    pub fn deviation(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        self.deviation.apply(x)
    }

    /// Output tokens, `rows x experts`.
    #[must_use]
    pub fn output_tokens(&self, x: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        Some(self.output_tokens.as_ref()?.apply(x).mapv_into(|tokens| tokens.max(0.0)))
    }

    /// Both as nodes.
    pub fn export(&self, graph: &mut GraphBuilder, x: &Value) -> (Value, Option<Value>) {
        let deviation = self.deviation.export(graph, "head", x);
        let tokens = self.output_tokens.as_ref().map(|tokens| {
            let tokens = tokens.export(graph, "output_tokens", x);
            graph.add("Relu", &[&tokens])
        });
        (deviation, tokens)
    }
}
