//! The paper's BERT router: a published encoder with a linear layer behind it, all of it trained end to end.
//!
//! In: an [`Encoder`], texts and [`Targets`]. Out: another encoder, fine-tuned, and the layer behind it. The fine-tuned encoder is an
//! encoder like any other: it embeds, it goes into graphs, it has an 8-bit form; other parts can stand on its embeddings.

mod ground;
mod memory;
mod network;
mod part;
mod training;
mod words;

use std::sync::Arc;

use model::{
    Bundle, Manifest, TextRules,
    bundle::{ExpertEntry, FORMAT_VERSION},
};
use ndarray::{Array1, Array2, Axis};

use memory::Memory;
pub use part::BertPart;
use training::Learnt;

use crate::{
    encoder::{Encoder, EncoderError, EncoderOptions},
    neural::{
        Loss,
        objective::{Guides, Objective},
    },
    onnx::{Constant, Dimension, Element, GraphBuilder, Value, int},
    router::ExportError,
    targets::Targets,
};

/// How much the loss may grow where an encoder is rounded to 8-bit integers.
const INT8_TOLERANCE: f32 = 1.01;

/// How it is trained.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct BertOptions {
    /// What it is trained for.
    pub loss: Loss,
    /// Layers that learn, from the last; all, with the table of words, if there are no more. Those below stay as published.
    pub layers: usize,
    /// Passes over the rows at most.
    pub epochs: usize,
    /// Passes without gain on the rows held out, after which training ends.
    pub patience: usize,
    /// Rows of a step.
    pub batch: usize,
    /// The highest, of the encoder; it rises for a tenth of the steps and falls to 0.
    pub learning_rate: f32,
    /// How much faster the new layer learns.
    pub head_rate: f32,
    /// Draws weights to zero.
    pub weight_decay: f32,
    /// Share of an embedding's numbers that a step leaves out.
    pub dropout: f32,
    /// Share of the rows that is held out, by groups, and says when to stop. 0: none, all epochs are run.
    pub held_out: f32,
    /// How much labels guide training, against scores.
    pub label_weight: f32,
    /// How much experts that are not to be chosen guide it.
    pub others_weight: f32,
    /// Repeats all of it.
    pub seed: u64,
}

impl Default for BertOptions {
    fn default() -> Self {
        Self {
            loss: Loss::Score,
            layers: usize::MAX,
            epochs: 3,
            patience: 2,
            batch: 32,
            learning_rate: 1e-4,
            head_rate: 10.0,
            weight_decay: 0.01,
            dropout: 0.1,
            held_out: 0.1,
            label_weight: 0.3,
            others_weight: 0.3,
            seed: 0,
        }
    }
}

/// Where training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BertProgress {
    /// Steps done.
    pub step: usize,
    /// Steps there will be at most.
    pub steps: usize,
    /// From 1.
    pub epoch: usize,
    /// Of the last rows seen.
    pub loss: f32,
    /// Of the rows held out, after the last pass.
    pub held_out_loss: Option<f32>,
}

/// Why there is no fine-tuned encoder.
pub type BertError = EncoderError;

/// A fine-tuned encoder and the layer behind it.
#[derive(Debug)]
pub struct Bert {
    encoder: Encoder,
    part: BertPart,
    expert_means: Array1<f32>,
    loss: Loss,
    held_out_losses: Vec<f32>,
}

impl Bert {
    /// Fine-tunes an encoder. `groups`: rows that are held out together. An encoder in 8-bit integers gives one in 8-bit integers, unless
    /// the loss grows by more than a hundredth by that.
    ///
    /// # Errors
    /// The tokenizer's or ONNX Runtime's complaint.
    pub fn fit(
        encoder: &Encoder,
        texts: &[String],
        targets: &Targets,
        groups: &[String],
        options: &BertOptions,
        progress: &(dyn Fn(BertProgress) + Sync),
    ) -> Result<Self, BertError> {
        let guides = Guides { labels: options.label_weight, others: options.others_weight };
        let objective = Objective::new(targets, options.loss, guides);
        let ids = encoder.token_ids(texts)?;
        let learnt = training::train(encoder.weights(), &ids, &objective, groups, options, progress);
        let name = format!("{}, fine-tuned", encoder.name());
        let head = objective.head(&learnt.head.weight, &learnt.head.bias);
        let (losses, checked) = (learnt.losses.clone(), learnt.checked.clone());
        let encoder = Self::encoder_of(encoder, &name, learnt, texts, &objective)?;
        let mut part = BertPart { head, memory: None };
        // Neighbours speak of scores; what a soft label's logits would gain from them was not measured.
        if options.loss == Loss::Score && !losses.is_empty() {
            let embeddings = encoder.embed(texts, &|_, _| {})?;
            let layer = part.head.deviation(embeddings.select(Axis(0), &checked).view());
            part.memory = Memory::of(&embeddings, targets, &checked, &layer).map(Arc::new);
        }
        Ok(Self { encoder, part, expert_means: targets.expert_means.clone(), loss: options.loss, held_out_losses: losses })
    }

    /// The share of the answer that comes from the nearest training texts by the fine-tuned embedding; the rest is the layer's.
    #[must_use]
    pub fn neighbours_share(&self) -> f32 {
        self.part.memory.as_ref().map_or(0.0, |memory| memory.share)
    }

    /// The fine-tuned encoder, in 8-bit integers where that was asked for and the loss does not suffer.
    fn encoder_of(base: &Encoder, name: &str, learnt: Learnt, texts: &[String], objective: &Objective) -> Result<Encoder, BertError> {
        if base.options().int8 {
            let encoder = base.with(name, learnt.weights.clone(), base.options())?;
            let checked: Vec<String> = learnt.checked.iter().map(|row| texts[*row].clone()).collect();
            let outputs = learnt.head.apply(encoder.embed(&checked, &|_, _| {})?.view());
            let loss = objective.score_loss(&learnt.checked, &outputs);
            if loss <= learnt.checked_loss * INT8_TOLERANCE {
                return Ok(encoder);
            }
            tracing::info!(loss, full = learnt.checked_loss, "integers of 8 bits lose too much: the encoder is kept in 32-bit floats");
        }
        base.with(name, learnt.weights, EncoderOptions { int8: false, ..base.options() })
    }

    /// Loss of the rows held out after each pass.
    #[must_use]
    pub fn held_out_losses(&self) -> &[f32] {
        &self.held_out_losses
    }

    /// The fine-tuned encoder.
    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The fine-tuned encoder, when its layer is in a mixture already.
    #[must_use]
    pub fn into_encoder(self) -> Encoder {
        self.encoder
    }

    /// The layer behind the encoder, as a part of mixtures that stand on [`Self::embeddings`].
    #[must_use]
    pub fn part(&self) -> BertPart {
        self.part.clone()
    }

    /// Embeddings of the fine-tuned encoder, rows of length 1. Of rows it was trained on they say more than they will of others.
    ///
    /// # Errors
    /// The tokenizer's or ONNX Runtime's complaint.
    pub fn embeddings(&self, texts: &[String]) -> Result<Array2<f32>, BertError> {
        self.encoder.embed(texts, &|_, _| {})
    }

    /// Predicted scores, `texts x experts`; only differences within a row count.
    ///
    /// # Errors
    /// The tokenizer's or ONNX Runtime's complaint.
    pub fn predict(&self, texts: &[String]) -> Result<Array2<f32>, BertError> {
        Ok(self.part.deviation(&self.embeddings(texts)?) + &self.expert_means)
    }

    /// Expected output tokens, `texts x experts`, where the data had them.
    ///
    /// # Errors
    /// The tokenizer's or ONNX Runtime's complaint.
    pub fn output_tokens(&self, texts: &[String]) -> Result<Option<Array2<f32>>, BertError> {
        Ok(self.part.head.output_tokens(self.embeddings(texts)?.view()))
    }

    /// A bundle of this router alone. `training` and `evaluation` are for people.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn bundle(
        &self,
        experts: &[ExpertEntry],
        text: &TextRules,
        training: serde_json::Value,
        evaluation: serde_json::Value,
    ) -> Result<Bundle, ExportError> {
        let mut graph = GraphBuilder::new("router");
        let embedding = self.encoder.graph(&mut graph);
        self.outputs(&mut graph, &embedding);
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            router: "bert".into(),
            experts: experts.to_vec(),
            output: self.loss.output(),
            text: text.clone(),
            inputs: self.encoder.inputs(),
            encoder: Some(self.encoder.identity()),
            files: Default::default(),
            training,
            evaluation,
        };
        Ok(Bundle::assemble(manifest, graph.to_bytes(), Some(self.encoder.tokenizer().to_vec()))?)
    }

    /// `scores`, or `log_probs` of the softmax of `T * score`.
    fn outputs(&self, graph: &mut GraphBuilder, embedding: &Value) {
        let shape = [Dimension::Named("batch"), Dimension::Fixed(self.expert_means.len())];
        let (deviation, tokens) = self.part.nodes(graph, embedding);
        let means = graph.constant("expert_means", Constant::f32(&[1, self.expert_means.len()], &self.expert_means.to_vec()));
        let scores = graph.add("Add", &[&deviation, &means]);
        match self.loss {
            Loss::Score => graph.output("scores", &scores, Element::F32, &shape),
            Loss::SoftLabel { temperature } => {
                let temperature = graph.scalar(temperature);
                let logits = graph.add("Mul", &[&scores, &temperature]);
                let shares = graph.add_with("LogSoftmax", &[&logits], vec![int("axis", -1)]);
                graph.output("log_probs", &shares, Element::F32, &shape);
            }
        }
        if let Some(tokens) = tokens {
            graph.output("output_tokens", &tokens, Element::F32, &shape);
        }
    }
}

#[cfg(test)]
mod tests;
