//! The paper's MLP: one hidden layer on frozen embeddings, or on what needs no encoder, or on both.
//!
//! Several small networks are trained, each stopped by another group-aware part of the rows that it does not see; together they have
//! seen all. Their mean is again one network with a hidden layer as wide as theirs together, and that is what is kept and exported.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};
use rayon::prelude::*;

use crate::{
    linear::Scale,
    neural::{
        Head, Loss,
        head::Affine,
        objective::{Guides, Objective},
    },
    onnx::{GraphBuilder, Value, int},
    parts::{GraphViews, Part},
    targets::Targets,
    views::Views,
};

mod member;

/// What the network reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct MlpInputs {
    /// The encoder's embedding.
    pub embedding: bool,
    /// The text's surface.
    pub surface: bool,
    /// Directions of words.
    pub directions: bool,
}

/// How it is trained.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct MlpOptions {
    /// What the network reads.
    pub inputs: MlpInputs,
    /// What it is trained for.
    pub loss: Loss,
    /// Networks, each with another part of the rows held out.
    pub members: usize,
    /// Hidden units of each.
    pub hidden: usize,
    /// Passes over the rows at most.
    pub epochs: usize,
    /// Passes without gain on the rows held out, after which training ends.
    pub patience: usize,
    /// Rows of a step.
    pub batch: usize,
    /// The highest; it rises for a tenth of the steps and falls to 0.
    pub learning_rate: f32,
    /// Draws weights to zero.
    pub weight_decay: f32,
    /// Share of hidden units that a step leaves out.
    pub dropout: f32,
    /// How much labels guide training, against scores.
    pub label_weight: f32,
    /// How much experts that are not to be chosen guide it.
    pub others_weight: f32,
    /// Repeats all of it.
    pub seed: u64,
}

impl Default for MlpOptions {
    fn default() -> Self {
        Self {
            inputs: MlpInputs { embedding: true, surface: false, directions: false },
            loss: Loss::Score,
            members: 5,
            hidden: 96,
            epochs: 30,
            patience: 5,
            batch: 64,
            learning_rate: 2e-3,
            weight_decay: 0.05,
            dropout: 0.3,
            label_weight: 0.3,
            others_weight: 0.3,
            seed: 0,
        }
    }
}

/// A fitted network.
#[derive(Debug, Clone)]
pub struct MlpPart {
    inputs: MlpInputs,
    hidden: Affine,
    head: Head,
}

impl MlpPart {
    /// Trains on every row. `groups`: rows that are held out together; none: each row by itself.
    ///
    /// # Panics
    /// Where the views lack what the options ask for, or there are no rows.
    #[must_use]
    pub fn fit(views: &Views, targets: &Targets, groups: &[String], options: &MlpOptions) -> Self {
        let columns = columns(views, options.inputs);
        let scale = Scale::of(columns.view());
        let x = scale.apply(columns.view());
        let guides = Guides { labels: options.label_weight, others: options.others_weight };
        let objective = Objective::new(targets, options.loss, guides);
        let own: Vec<String>;
        let groups = if groups.is_empty() {
            own = (0..x.nrows()).map(|row| row.to_string()).collect();
            &own
        } else {
            groups
        };
        let members: Vec<member::Layers> =
            member::held_out_rows(groups, options).into_par_iter().map(|held| member::train(&x, &objective, &held, options)).collect();
        Self::joined(&members, &scale, &objective, options.inputs)
    }

    /// The mean of networks as one, which reads columns as they are.
    fn joined(members: &[member::Layers], scale: &Scale, objective: &Objective, inputs: MlpInputs) -> Self {
        let side_by_side = |weights: Vec<ArrayView2<'_, f32>>| concatenate(Axis(1), &weights).expect("all read the same columns");
        let mut hidden = side_by_side(members.iter().map(|member| member.hidden.weight.view()).collect());
        let mut bias = Array1::from_iter(members.iter().flat_map(|member| member.hidden.bias.iter().copied()));
        hidden /= &scale.deviation.view().insert_axis(Axis(1));
        bias -= &scale.mean.dot(&hidden);
        let share = 1.0 / members.len().max(1) as f32;
        let last: Vec<ArrayView2<'_, f32>> = members.iter().map(|member| member.last.weight.view()).collect();
        let last = concatenate(Axis(0), &last).expect("all have the same outputs") * share;
        let last_bias = members.iter().fold(Array1::zeros(last.ncols()), |sum, member| sum + &member.last.bias) * share;
        Self { inputs, hidden: Affine { weight: hidden, bias }, head: objective.head(&last, &last_bias) }
    }

    fn hidden(&self, views: &Views) -> Array2<f32> {
        self.hidden.apply(columns(views, self.inputs).view()).mapv_into(|value| value.max(0.0))
    }
}

/// What the network reads, side by side.
fn columns(views: &Views, inputs: MlpInputs) -> Array2<f32> {
    let mut all: Vec<ArrayView2<'_, f32>> = Vec::new();
    if inputs.embedding {
        all.push(views.embedding.as_ref().expect("the caller gives an embedding to parts that need one").view());
    }
    if inputs.surface {
        all.push(views.surface.view());
    }
    if inputs.directions {
        all.push(views.directions.view());
    }
    concatenate(Axis(1), &all).expect("views have as many rows, and something is read")
}

impl Part for MlpPart {
    fn predict(&self, views: &Views) -> Array2<f32> {
        self.head.deviation(self.hidden(views).view())
    }

    fn output_tokens(&self, views: &Views) -> Option<Array2<f32>> {
        self.head.output_tokens.as_ref()?;
        self.head.output_tokens(self.hidden(views).view())
    }

    fn export(&self, graph: &mut GraphBuilder, inputs: &GraphViews) -> (Value, Option<Value>) {
        let MlpInputs { embedding, surface, directions } = self.inputs;
        let read = [(embedding, &inputs.embedding), (surface, &inputs.surface), (directions, &inputs.directions)];
        let read: Vec<&Value> = read
            .into_iter()
            .filter(|(read, _)| *read)
            .map(|(_, value)| value.as_ref().expect("the caller gives what the part was fitted on"))
            .collect();
        let x = match read.as_slice() {
            [one] => (*one).clone(),
            several => graph.add_with("Concat", several, vec![int("axis", 1)]),
        };
        let hidden = self.hidden.export(graph, "hidden", &x);
        let hidden = graph.add("Relu", &[&hidden]);
        self.head.export(graph, &hidden)
    }
}

#[cfg(test)]
mod tests;
