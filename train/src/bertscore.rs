//! BERTScore: how near an answer is in meaning to a reference, token by token.
//!
//! In: an encoder's folder, answers, a reference. Out: F1 of each answer. Every token of the answer is matched with the token of the
//! reference whose contextual embedding is nearest (precision), every one of the reference with the nearest of the answer (recall).
//! As in the original implementation with its defaults: all tokens weigh the same (no idf), `[CLS]` and `[SEP]` are left out of both
//! means but may be matched with, and the result is not rescaled. Deliberately absent: whole words, several references.

mod matching;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, anyhow, bail};
use model::tokens::Tokens;
use ndarray::{Array2, Axis, s};
use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use crate::{
    encoder::{
        graph::{self, ATTENTION_MASK, INPUT_IDS},
        weights::Weights,
    },
    onnx::{Dimension, Element, GraphBuilder},
};
use matching::{Embedded, f1};

/// Of a longer text the first so many tokens count, special ones included; fewer where the encoder has fewer positions.
pub const MAX_TOKENS: usize = 512;

/// Tokens, padding included, that run at once: what fits the nearer caches.
const BATCH_TOKENS: usize = 2048;

/// The graph's output.
const STATES: &str = "token_states";

/// Scores answers by similarity of meaning.
#[derive(Debug)]
pub struct BertScore {
    /// One for each core, each of one thread.
    sessions: Vec<Mutex<Session>>,
    tokens: Tokens,
    /// Ids of the tokens that every text has.
    specials: Vec<i64>,
    vocabulary: usize,
    name: String,
}

/// The layer whose states are compared: behind five sixths of the network, the 5th of 6. Published comparisons of layers with what
/// people judge find the best a little before the end, where states are not yet bent to the task the network was trained on.
#[must_use]
pub fn layer_of(layers: usize) -> usize {
    (layers * 5).div_ceil(6).max(1)
}

impl BertScore {
    /// Reads an encoder's folder and loads its network as often as there are cores.
    ///
    /// # Errors
    /// The file that is missing or wrong, or ONNX Runtime's complaint.
    pub fn load(folder: &Path) -> Result<Self> {
        let weights = Weights::open(folder)?;
        let path = folder.join("tokenizer.json");
        let json = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let tokens = Tokens::new(&json, MAX_TOKENS.min(weights.config.positions), 100)
            .map_err(|problem| anyhow!("{}: {problem}", path.display()))?;
        let specials = tokens.encode("").map_err(|problem| anyhow!("{}: {problem}", path.display()))?;
        let layer = layer_of(weights.config.layers);
        let bytes = network(&weights, layer);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let sessions = (0..cores).map(|_| session(&bytes).map(Mutex::new)).collect::<Result<_>>()?;
        let file = folder.file_name().map_or_else(|| "encoder".into(), |name| name.to_string_lossy().into_owned());
        let name = format!("{file}, sha256 {}, layer {layer} of {}, no idf, not rescaled", weights.sha256, weights.config.layers);
        Ok(Self { sessions, tokens, specials, vocabulary: weights.config.vocabulary, name })
    }

    /// Names all that the numbers depend on: the encoder and its hash, the layer, the choices.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// F1 of each answer; 0 for one without a token. The reference is embedded once, equal answers too. May be called from several
    /// threads at once.
    ///
    /// # Errors
    /// The tokenizer's or ONNX Runtime's complaint.
    pub fn f1(&self, answers: &[&str], reference: &str) -> Result<Vec<f64>> {
        let mut at = HashMap::new();
        let mut texts: Vec<&str> = Vec::new();
        for text in std::iter::once(&reference).chain(answers) {
            at.entry(*text).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            });
        }
        let embedded = self.embed(&texts)?;
        Ok(answers.iter().map(|answer| f1(&embedded[at[answer]], &embedded[at[reference]])).collect())
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedded>> {
        let ids: Vec<Vec<i64>> = texts.iter().map(|text| self.ids(text)).collect::<Result<_>>()?;
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(ids[*at].len()));
        let mut embedded: Vec<Embedded> = vec![Embedded::default(); ids.len()];
        // A pool's threads have numbers, as many as there are sessions: then nobody waits.
        let turn = rayon::current_thread_index().unwrap_or(0) % self.sessions.len();
        let mut session = self.sessions[turn].lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = order.as_slice();
        while let Some(longest) = rest.first() {
            let (batch, others) = rest.split_at((BATCH_TOKENS / ids[*longest].len()).clamp(1, rest.len()));
            self.run(&mut session, &ids, batch, &mut embedded)?;
            rest = others;
        }
        Ok(embedded)
    }

    fn ids(&self, text: &str) -> Result<Vec<i64>> {
        let ids = self.tokens.encode(text).map_err(|problem| anyhow!("the encoder's tokenizer: {problem}"))?;
        match ids.iter().find(|id| !(0..self.vocabulary as i64).contains(id)) {
            None => Ok(ids),
            Some(id) => bail!("the tokenizer gives {id}, but the encoder knows {} tokens only", self.vocabulary),
        }
    }

    fn run(&self, session: &mut Session, ids: &[Vec<i64>], batch: &[usize], embedded: &mut [Embedded]) -> Result<()> {
        let width = ids[batch[0]].len();
        let mut input = Array2::<i64>::zeros((batch.len(), width));
        let mut mask = Array2::<i64>::zeros((batch.len(), width));
        for (row, at) in batch.iter().enumerate() {
            for (column, id) in ids[*at].iter().enumerate() {
                input[[row, column]] = *id;
                mask[[row, column]] = 1;
            }
        }
        let inputs = ort::inputs![
            INPUT_IDS => TensorRef::from_array_view(&input)?,
            ATTENTION_MASK => TensorRef::from_array_view(&mask)?,
        ];
        let outputs = session.run(inputs).context("running the encoder")?;
        let states = outputs.get(STATES).context("the encoder has no output")?.try_extract_array::<f32>()?;
        let states = states.into_dimensionality::<ndarray::Ix3>().context("the encoder's output has another shape")?;
        for (states, at) in states.axis_iter(Axis(0)).zip(batch) {
            let counts = ids[*at].iter().map(|id| !self.specials.contains(id)).collect();
            embedded[*at] = Embedded::new(states.slice(s![..ids[*at].len(), ..]), counts);
        }
        Ok(())
    }
}

/// The encoder up to a layer, as a file.
fn network(weights: &Weights, layer: usize) -> Vec<u8> {
    let mut builder = GraphBuilder::new("token_states");
    let states = graph::token_states(&mut builder, weights, layer);
    let shape = [Dimension::Named("batch"), Dimension::Named("sequence"), Dimension::Fixed(weights.config.hidden)];
    builder.output(STATES, &states, Element::F32, &shape);
    builder.to_bytes()
}

fn session(bytes: &[u8]) -> Result<Session> {
    let environment = model::session::load_runtime(None).map_err(|problem| anyhow!(problem))?;
    let builder = Session::builder(&environment).map_err(complaint)?;
    let builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(complaint)?;
    let mut builder = builder.with_intra_threads(1).map_err(complaint)?.with_memory_pattern(false).map_err(complaint)?;
    builder.commit_from_memory(bytes).map_err(complaint)
}

/// ONNX Runtime's errors of a builder carry the builder, which does not travel between threads.
fn complaint(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the encoder cannot be run: {error}")
}

#[cfg(test)]
mod tests {
    use super::layer_of;

    #[test]
    fn the_layer_is_a_little_before_the_end() {
        assert_eq!([1, 2, 6, 12, 24].map(layer_of), [1, 2, 5, 10, 20]);
    }
}
