//! An encoder with a layer behind it, on candle, every parameter of it a variable.
//!
//! The table of words is the exception: of its thirty thousand rows a step touches some hundreds. Those are taken out as a variable of
//! their own ([`Words`]), so that neither gradient nor optimiser ever handles the whole table.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use ndarray::{Array1, Array2};

use super::words::Words;
use crate::{
    encoder::{
        graph::MASKED,
        weights::{Config, WORDS, Weights, layer_prefix},
    },
    neural::{
        head::Affine,
        objective::Objective,
        ops::{add_bias, attention_shares, dropout, gelu, layer_norm},
        optimiser::{Gradients, Parameter, gradients},
    },
    random::Random,
};

/// Names of the last layer's parameters.
const HEAD: [&str; 2] = ["head.weight", "head.bias"];

/// Everything that is learnt but the table of words.
#[derive(Debug)]
pub(super) struct Network {
    config: Config,
    variables: BTreeMap<String, Var>,
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
    /// Summed over the shard's rows, over the batch's rows.
    pub(super) loss: f32,
    /// In the order of [`Network::names`].
    pub(super) gradients: Gradients,
    /// Which words, and their gradients row by row.
    pub(super) words: (Vec<u32>, Vec<f32>),
}

impl Network {
    pub(super) fn new(weights: &Weights, objective: &Objective, random: &mut Random) -> Result<Self> {
        let config = weights.config;
        let mut variables = BTreeMap::new();
        for (name, _) in config.tensors() {
            if name != WORDS {
                variables.insert(name.clone(), Var::from_tensor(weights.tensor(&name))?);
            }
        }
        let count = config.hidden * objective.outputs();
        let head: Vec<f32> = (0..count).map(|_| 0.1 * random.normal() / (config.hidden as f32).sqrt()).collect();
        let weight = Tensor::from_vec(head, (config.hidden, objective.outputs()), &Device::Cpu)?;
        variables.insert(HEAD[0].into(), Var::from_tensor(&weight)?);
        let bias = Tensor::from_vec(objective.initial_bias().to_vec(), objective.outputs(), &Device::Cpu)?;
        variables.insert(HEAD[1].into(), Var::from_tensor(&bias)?);
        Ok(Self { config, variables })
    }

    /// With a last layer that was learnt before.
    #[cfg(test)]
    pub(super) fn with_head(weights: &Weights, head: &Affine) -> Result<Self> {
        let mut variables = BTreeMap::new();
        for (name, _) in weights.config.tensors() {
            variables.insert(name.clone(), Var::from_tensor(weights.tensor(&name))?);
        }
        let scale = 1.0 / (weights.config.hidden as f32).sqrt();
        let weight: Vec<f32> = head.weight.iter().map(|value| value * scale).collect();
        variables.insert(HEAD[0].into(), Var::from_tensor(&Tensor::from_vec(weight, head.weight.dim(), &Device::Cpu)?)?);
        variables.insert(HEAD[1].into(), Var::from_tensor(&Tensor::from_vec(head.bias.to_vec(), head.bias.len(), &Device::Cpu)?)?);
        Ok(Self { config: weights.config, variables })
    }

    /// Of all variables, in order.
    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// In order. Biases and scales of normalisations are not drawn to zero; what is new learns faster.
    pub(super) fn parameters(&self, head_rate: f32) -> Vec<Parameter> {
        let parameter = |(name, variable): (&String, &Var)| Parameter {
            variable: variable.clone(),
            rate: if HEAD.contains(&name.as_str()) { head_rate } else { 1.0 },
            decays: variable.rank() > 1,
        };
        self.variables.iter().map(parameter).collect()
    }

    /// Loss and gradients of a shard; the loss is over `batch_rows` rows, of which these are some.
    pub(super) fn learn(
        &self,
        words: &Words,
        shard: &Shard<'_>,
        objective: &Objective,
        batch_rows: usize,
        dropped: (f32, &mut Random),
    ) -> Result<ShardGradients> {
        let (rows, places) = words.rows_of(&shard.ids);
        let table = Var::from_tensor(&words.gather(&rows)?)?;
        let outputs = self.outputs(&table, &places, &shard.ids, Some(dropped))?;
        let share = shard.rows.len() as f32 / batch_rows as f32;
        let (loss, gradient) = objective.loss_and_gradient(shard.rows, &matrix(&outputs)?);
        let gradient: Vec<f32> = gradient.iter().map(|value| value * share).collect();
        let total = (&outputs * Tensor::from_vec(gradient, outputs.shape(), &Device::Cpu)?)?.sum_all()?;
        let mut variables: Vec<Var> = self.variables.values().cloned().collect();
        variables.push(table);
        let mut gradients = gradients(&total, &variables)?;
        let of_words = gradients.pop().flatten().unwrap_or_default();
        Ok(ShardGradients { loss: loss * share, gradients, words: (rows, of_words) })
    }

    /// Outputs without dropout, `rows x outputs`.
    pub(super) fn predict(&self, words: &Words, ids: &[&[i64]]) -> Result<Array2<f32>> {
        let (rows, places) = words.rows_of(ids);
        matrix(&self.outputs(&words.gather(&rows)?, &places, ids, None)?)
    }

    /// The last layer, which reads embeddings of length 1.
    pub(super) fn head(&self) -> Result<Affine> {
        let scale = (self.config.hidden as f32).sqrt();
        let bias = self.variable(HEAD[1]).to_vec1::<f32>()?;
        Ok(Affine { weight: matrix(self.variable(HEAD[0]))? * scale, bias: Array1::from(bias) })
    }

    /// The encoder as it is now.
    pub(super) fn tensors(&self, words: &Words) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::from([(WORDS.to_owned(), words.tensor()?)]);
        for (name, variable) in &self.variables {
            if !HEAD.contains(&name.as_str()) {
                // A copy: the variable may go on changing.
                tensors.insert(name.clone(), variable.as_tensor().copy()?.detach());
            }
        }
        Ok(tensors)
    }

    fn variable(&self, name: &str) -> &Tensor {
        self.variables[name].as_tensor()
    }

    fn outputs(&self, table: &Tensor, places: &Tensor, ids: &[&[i64]], dropped: Option<(f32, &mut Random)>) -> Result<Tensor> {
        let texts = Texts::of(ids)?;
        let mut x = self.embeddings(table, places, &texts)?;
        for layer in 0..self.config.layers {
            x = self.layer(&layer_prefix(layer), &x, &texts)?;
        }
        // Of length 1, as embeddings are everywhere; then brought to a size that layers learn well from.
        let pooled = texts.pool(&x)?;
        let length = (pooled.sqr()?.sum_keepdim(1)? + 1e-12)?.sqrt()?;
        let pooled = (pooled.broadcast_div(&length)? * (self.config.hidden as f64).sqrt())?;
        let pooled = match dropped {
            Some((share, random)) => dropout(&pooled, share, random)?,
            None => pooled,
        };
        add_bias(&pooled.matmul(self.variable(HEAD[0]))?, self.variable(HEAD[1]))
    }

    /// `[texts * width, hidden]`, as all that follows.
    fn embeddings(&self, table: &Tensor, places: &Tensor, texts: &Texts) -> Result<Tensor> {
        let words = table.index_select(places, 0)?;
        let kind = self.variable("embeddings.token_type_embeddings.weight").narrow(0, 0, 1)?;
        let positions = self.variable("embeddings.position_embeddings.weight").narrow(0, 0, texts.width)?;
        let positions = positions.broadcast_add(&kind)?.index_select(&texts.positions()?, 0)?;
        self.layer_norm("embeddings.LayerNorm", &(words + positions)?)
    }

    fn layer(&self, prefix: &str, x: &Tensor, texts: &Texts) -> Result<Tensor> {
        let context = self.attention(&format!("{prefix}.attention.self"), x, texts)?;
        let output = self.linear(&format!("{prefix}.attention.output.dense"), &context)?;
        let x = self.layer_norm(&format!("{prefix}.attention.output.LayerNorm"), &(output + x)?)?;
        let inner = gelu(&self.linear(&format!("{prefix}.intermediate.dense"), &x)?)?;
        let output = self.linear(&format!("{prefix}.output.dense"), &inner)?;
        self.layer_norm(&format!("{prefix}.output.LayerNorm"), &(output + &x)?)
    }

    fn attention(&self, prefix: &str, x: &Tensor, texts: &Texts) -> Result<Tensor> {
        let Config { hidden, heads, .. } = self.config;
        let split = |part: &str| -> Result<Tensor> {
            let flat = self.linear(&format!("{prefix}.{part}"), x)?;
            flat.reshape((texts.count, texts.width, heads, hidden / heads))?.transpose(1, 2)?.contiguous()
        };
        let (query, key, value) = (split("query")?, split("key")?, split("value")?);
        let scale = 1.0 / ((hidden / heads) as f64).sqrt();
        let shares = attention_shares(&query.matmul(&key.t()?)?, &texts.masked, scale)?;
        shares.matmul(&value)?.transpose(1, 2)?.contiguous()?.reshape((texts.count * texts.width, hidden))
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let product = x.matmul(self.variable(&format!("{name}.weight")))?;
        add_bias(&product, self.variable(&format!("{name}.bias")))
    }

    fn layer_norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.variable(&format!("{name}.weight")), self.variable(&format!("{name}.bias")));
        layer_norm(x, weight, bias, self.config.epsilon)
    }
}

/// Lengths of texts that run together.
struct Texts {
    count: usize,
    width: usize,
    /// `[count, width]`, 0 for tokens and [`MASKED`] for padding.
    masked: Tensor,
    /// `[count, 1, width]`, of each token its share of the mean.
    shares: Tensor,
}

impl Texts {
    fn of(ids: &[&[i64]]) -> Result<Self> {
        let (count, width) = (ids.len(), width(ids));
        let (mut masked, mut shares) = (vec![MASKED; count * width], vec![0.0; count * width]);
        for (row, ids) in ids.iter().enumerate() {
            masked[row * width..][..ids.len()].fill(0.0);
            shares[row * width..][..ids.len()].fill(1.0 / ids.len() as f32);
        }
        let masked = Tensor::from_vec(masked, (count, width), &Device::Cpu)?;
        Ok(Self { count, width, masked, shares: Tensor::from_vec(shares, (count, 1, width), &Device::Cpu)? })
    }

    fn positions(&self) -> Result<Tensor> {
        let all: Vec<u32> = (0..self.count).flat_map(|_| 0..self.width as u32).collect();
        Tensor::from_vec(all, self.count * self.width, &Device::Cpu)
    }

    /// The mean over each text's tokens, `[count, hidden]`.
    fn pool(&self, x: &Tensor) -> Result<Tensor> {
        self.shares.matmul(&x.reshape((self.count, self.width, x.dim(1)?))?)?.squeeze(1)
    }
}

/// Of the longest text; at least 1.
pub(super) fn width(ids: &[&[i64]]) -> usize {
    ids.iter().map(|ids| ids.len()).max().unwrap_or_default().max(1)
}

fn matrix(tensor: &Tensor) -> Result<Array2<f32>> {
    let shape = tensor.dims2()?;
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Array2::from_shape_vec(shape, values).map_err(candle_core::Error::wrap)
}

#[cfg(test)]
mod tests;
