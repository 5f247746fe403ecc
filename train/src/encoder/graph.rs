//! An encoder as nodes of an ONNX graph: token ids and mask in, one vector a text out.
//!
//! The same nodes serve the published encoder and a fine-tuned one, in 32-bit floats or in 8-bit integers (see [`super::quantise`]).

use super::{
    quantise::{Quantised, Site},
    weights::{WORDS, Weights, layer_prefix},
};
use crate::onnx::{Constant, Dimension, Element, GraphBuilder, Value, float, int, ints};

/// Names of the graph's inputs, which `bundle.json` repeats.
pub const INPUT_IDS: &str = "input_ids";
/// See [`INPUT_IDS`].
pub const ATTENTION_MASK: &str = "attention_mask";

/// What a masked position gets added before the softmax: enough that nothing is left of it, little enough for 16-bit floats.
pub const MASKED: f32 = -10_000.0;

/// How the numbers of a graph are kept and multiplied.
#[derive(Debug, Clone, Copy)]
pub enum Precision<'a> {
    /// 32-bit floats.
    Full,
    /// 8-bit integers with the scales found by calibration.
    Int8(&'a Quantised),
}

/// What the encoder's nodes make.
#[derive(Debug)]
pub struct Encoded {
    /// `[batch, hidden]`: the mean of the tokens.
    pub pooled: Value,
    /// What goes into the linear layers, by place; calibration looks at them.
    pub taps: Vec<(Site, Value)>,
}

/// Adds the encoder to a graph.
pub fn add(builder: &mut GraphBuilder, weights: &Weights, precision: Precision<'_>) -> Encoded {
    let mut writer = Writer { builder, weights, precision, taps: Vec::new() };
    let (x, mask) = writer.states(weights.config.layers);
    let taps = std::mem::take(&mut writer.taps);
    let pooled = writer.mean(&x, &mask);
    Encoded { pooled, taps }
}

/// Adds the first `layers` layers to a graph, in 32-bit floats: `[batch, sequence, hidden]`, the state of every token behind them.
pub fn token_states(builder: &mut GraphBuilder, weights: &Weights, layers: usize) -> Value {
    let mut writer = Writer { builder, weights, precision: Precision::Full, taps: Vec::new() };
    writer.states(layers.min(weights.config.layers)).0
}

/// A vector scaled to length 1.
pub fn normalised(builder: &mut GraphBuilder, pooled: &Value) -> Value {
    let length = builder.add_with("ReduceL2", &[pooled], vec![ints("axes", &[1]), int("keepdims", 1)]);
    builder.add("Div", &[pooled, &length])
}

struct Writer<'a> {
    builder: &'a mut GraphBuilder,
    weights: &'a Weights,
    precision: Precision<'a>,
    taps: Vec<(Site, Value)>,
}

/// What a linear layer reads: floats, or the integers they were rounded to.
enum Operand<'a> {
    Floats(Value),
    Integers { values: Value, site: &'a super::quantise::SiteScale, scale: Value, zero: Value },
}

impl<'a> Writer<'a> {
    /// The inputs, and so many layers over them: every token's state, and the mask in floats.
    fn states(&mut self, layers: usize) -> (Value, Value) {
        let shape = [Dimension::Named("batch"), Dimension::Named("sequence")];
        let ids = self.builder.input(INPUT_IDS, Element::I64, &shape);
        let mask = self.builder.input(ATTENTION_MASK, Element::I64, &shape);
        let mask = self.builder.cast(&mask, Element::F32);
        let mut x = self.embeddings(&ids);
        let bias = self.mask_bias(&mask);
        for layer in 0..layers {
            x = self.layer(layer, &x, &bias);
        }
        (x, mask)
    }

    fn constant(&mut self, name: &str) -> Value {
        let constant = Constant::f32(self.weights.tensor(name).shape(), &self.weights.values(name));
        self.builder.constant(name, constant)
    }

    fn embeddings(&mut self, ids: &Value) -> Value {
        let hidden = self.weights.config.hidden;
        let words = self.words(ids);
        let (zero, one) = (self.builder.integer(0), self.builder.integer(1));
        let shape = self.builder.add("Shape", &[ids]);
        let length = self.builder.add("Gather", &[&shape, &one]);
        let range = self.builder.add("Range", &[&zero, &length, &one]);
        // Every text has the first token type, so its row is part of every position.
        let types = self.weights.values("embeddings.token_type_embeddings.weight");
        let mut positions = self.weights.values("embeddings.position_embeddings.weight");
        for row in positions.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&types).for_each(|(position, kind)| *position += kind);
        }
        let table = Constant::f32(&[self.weights.config.positions, hidden], &positions);
        let table = self.builder.constant("embeddings.positions", table);
        let positions = self.builder.add("Gather", &[&table, &range]);
        let sum = self.builder.add("Add", &[&words, &positions]);
        self.layer_norm("embeddings.LayerNorm", &sum)
    }

    fn words(&mut self, ids: &Value) -> Value {
        let name = WORDS;
        let Precision::Int8(quantised) = self.precision else {
            let table = self.constant(name);
            return self.builder.add("Gather", &[&table, ids]);
        };
        let rows = &quantised.words;
        let table = Constant::i8(&[self.weights.config.vocabulary, self.weights.config.hidden], &rows.values);
        let table = self.builder.constant(name, table);
        let scales = self.builder.constant("embeddings.scales", Constant::f32(&[rows.scales.len(), 1], &rows.scales));
        let integers = self.builder.add("Gather", &[&table, ids]);
        let floats = self.builder.cast(&integers, Element::F32);
        let scale = self.builder.add("Gather", &[&scales, ids]);
        self.builder.add("Mul", &[&floats, &scale])
    }

    /// `[batch, 1, 1, sequence]`, 0 for tokens and [`MASKED`] for padding.
    fn mask_bias(&mut self, mask: &Value) -> Value {
        let axes = self.builder.integers(&[1, 2]);
        let wide = self.builder.add("Unsqueeze", &[mask, &axes]);
        let (one, masked) = (self.builder.scalar(1.0), self.builder.scalar(MASKED));
        let inverse = self.builder.add("Sub", &[&one, &wide]);
        self.builder.add("Mul", &[&inverse, &masked])
    }

    fn layer(&mut self, layer: usize, x: &Value, bias: &Value) -> Value {
        let prefix = layer_prefix(layer);
        let operand = self.operand(Site::Attention(layer), x);
        let context = self.attention(&prefix, &operand, bias);
        let operand = self.operand(Site::Context(layer), &context);
        let output = self.linear(&format!("{prefix}.attention.output.dense"), &operand);
        let sum = self.builder.add("Add", &[&output, x]);
        let x = self.layer_norm(&format!("{prefix}.attention.output.LayerNorm"), &sum);
        let operand = self.operand(Site::Intermediate(layer), &x);
        let inner = self.linear(&format!("{prefix}.intermediate.dense"), &operand);
        let inner = self.gelu(&inner);
        let operand = self.operand(Site::Output(layer), &inner);
        let output = self.linear(&format!("{prefix}.output.dense"), &operand);
        let sum = self.builder.add("Add", &[&output, &x]);
        self.layer_norm(&format!("{prefix}.output.LayerNorm"), &sum)
    }

    fn attention(&mut self, prefix: &str, operand: &Operand<'_>, bias: &Value) -> Value {
        let config = self.weights.config;
        let width = config.hidden / config.heads;
        let split = self.builder.integers(&[0, 0, config.heads as i64, width as i64]);
        let mut heads = |part: &str, order: &[i64]| {
            let flat = self.linear(&format!("{prefix}.attention.self.{part}"), operand);
            let split = self.builder.add("Reshape", &[&flat, &split]);
            self.builder.add_with("Transpose", &[&split], vec![ints("perm", order)])
        };
        let query = heads("query", &[0, 2, 1, 3]);
        let key = heads("key", &[0, 2, 3, 1]);
        let value = heads("value", &[0, 2, 1, 3]);
        let scores = self.builder.add("MatMul", &[&query, &key]);
        let scale = self.builder.scalar(1.0 / (width as f32).sqrt());
        let scores = self.builder.add("Mul", &[&scores, &scale]);
        let scores = self.builder.add("Add", &[&scores, bias]);
        let shares = self.builder.add_with("Softmax", &[&scores], vec![int("axis", -1)]);
        let context = self.builder.add("MatMul", &[&shares, &value]);
        let context = self.builder.add_with("Transpose", &[&context], vec![ints("perm", &[0, 2, 1, 3])]);
        let joined = self.builder.integers(&[0, 0, config.hidden as i64]);
        self.builder.add("Reshape", &[&context, &joined])
    }

    fn operand(&mut self, site: Site, x: &Value) -> Operand<'a> {
        self.taps.push((site, x.clone()));
        let Precision::Int8(quantised) = self.precision else {
            return Operand::Floats(x.clone());
        };
        let scale = quantised.site(site);
        let smooth: Vec<f32> = scale.smooth.iter().map(|smooth| 1.0 / smooth).collect();
        let smooth = self.builder.constant("smooth", Constant::f32(&[smooth.len()], &smooth));
        let even = self.builder.add("Mul", &[x, &smooth]);
        let (step, zero) = (self.builder.scalar(scale.step), self.builder.constant("zero", Constant::u8(&[], &[scale.zero])));
        let values = self.builder.add("QuantizeLinear", &[&even, &step, &zero]);
        Operand::Integers { values, site: scale, scale: step, zero }
    }

    fn linear(&mut self, name: &str, operand: &Operand<'_>) -> Value {
        let (weight_name, bias) = (format!("{name}.weight"), self.constant(&format!("{name}.bias")));
        match operand {
            Operand::Floats(x) => {
                let weight = self.constant(&weight_name);
                self.builder.linear(x, &weight, &bias)
            }
            Operand::Integers { values, site, scale, zero } => {
                let tensor = self.weights.tensor(&weight_name);
                let columns = super::quantise::columns(&self.weights.values(&weight_name), &site.smooth);
                let weight = self.builder.constant(&weight_name, Constant::i8(tensor.shape(), &columns.values));
                let scales = self.builder.constant("scales", Constant::f32(&[columns.scales.len()], &columns.scales));
                let inputs = [values, &weight, scale, &scales, zero, &Value::absent(), &bias];
                self.builder.add("com.microsoft.MatMulIntegerToFloat", &inputs)
            }
        }
    }

    /// Written as the standard has it; ONNX Runtime knows the pattern and runs it as one operation.
    fn gelu(&mut self, x: &Value) -> Value {
        let (root, one, half) = (self.builder.scalar(std::f32::consts::SQRT_2), self.builder.scalar(1.0), self.builder.scalar(0.5));
        let error = self.builder.add("Div", &[x, &root]);
        let error = self.builder.add("Erf", &[&error]);
        let error = self.builder.add("Add", &[&error, &one]);
        let product = self.builder.add("Mul", &[x, &error]);
        self.builder.add("Mul", &[&product, &half])
    }

    fn layer_norm(&mut self, name: &str, x: &Value) -> Value {
        let (weight, bias) = (self.constant(&format!("{name}.weight")), self.constant(&format!("{name}.bias")));
        let attributes = vec![int("axis", -1), float("epsilon", self.weights.config.epsilon as f32)];
        self.builder.add_with("LayerNormalization", &[x, &weight, &bias], attributes)
    }

    fn mean(&mut self, x: &Value, mask: &Value) -> Value {
        let (last, sequence) = (self.builder.integers(&[2]), self.builder.integers(&[1]));
        let mask = self.builder.add("Unsqueeze", &[mask, &last]);
        let kept = self.builder.add("Mul", &[x, &mask]);
        let sum = self.builder.add_with("ReduceSum", &[&kept, &sequence], vec![int("keepdims", 0)]);
        let count = self.builder.add_with("ReduceSum", &[&mask, &sequence], vec![int("keepdims", 0)]);
        self.builder.add("Div", &[&sum, &count])
    }
}
