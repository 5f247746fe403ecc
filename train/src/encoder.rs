//! The sentence encoder: texts to vectors for training, and the same network as part of a router's graph.
//!
//! In: a folder with `model.safetensors`, `config.json` and `tokenizer.json` (all-MiniLM-L6-v2 or another encoder of BERT's form). Out:
//! embeddings of length 1, and nodes that compute them from `input_ids` and `attention_mask`. What is trained on is what is served: the
//! very graph that a bundle carries makes the embeddings. Deliberately absent: fine-tuning (`bert.rs`) and pooling other than the mean.

mod cache;
mod calibrate;
pub mod graph;
pub mod quantise;
mod run;
pub mod weights;

use std::path::{Path, PathBuf};

use model::{
    bundle::{self, Input},
    tokens::Tokens,
};
use ndarray::Array2;
use sha2::{Digest, Sha256};

use crate::onnx::{Dimension, Element, GraphBuilder, Value};
use graph::{ATTENTION_MASK, INPUT_IDS};
use weights::Weights;

pub use calibrate::{TEXTS as CALIBRATION_TEXTS, calibrate};
pub use graph::Precision;
pub use quantise::Quantised;
pub use run::TokenNetwork;

/// Why there is no encoder, or no embedding.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// ONNX Runtime is not there, or cannot run the graph.
    #[error("the encoder cannot be run: {0}")]
    Run(String),
}

/// How texts are encoded. Part of a bundle, since serving must do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderOptions {
    /// Longer texts keep this many tokens, special ones included.
    pub max_tokens: usize,
    /// Of the tokens kept, the share in hundredths that is head; the rest is tail.
    pub head_percent: u8,
    /// 8-bit integers instead of 32-bit floats.
    pub int8: bool,
}

impl Default for EncoderOptions {
    /// 64 tokens take 4 ms of a core with instructions for 8-bit products, about 14 ms of one without. More tokens gained nothing on the
    /// outcomes that were tried.
    fn default() -> Self {
        Self { max_tokens: 64, head_percent: 50, int8: true }
    }
}

/// An encoder ready to embed texts and to be written into graphs.
#[derive(Debug)]
pub struct Encoder {
    name: String,
    weights: Weights,
    tokenizer: Vec<u8>,
    tokens: Tokens,
    options: EncoderOptions,
    quantised: Option<Quantised>,
    /// Whether embeddings are kept on disk: those of a published encoder are asked for again, those of one just trained are not.
    kept: bool,
}

impl Encoder {
    /// Reads an encoder's folder. With `int8` its scales are found here, which runs the network on a few texts.
    ///
    /// # Errors
    /// The file that is missing or wrong; for `int8` also ONNX Runtime's complaint.
    pub fn open(folder: &Path, options: EncoderOptions) -> Result<Self, EncoderError> {
        let weights = Weights::open(folder)?;
        let path = folder.join("tokenizer.json");
        let tokenizer = read(&path)?;
        let name = folder.file_name().map_or_else(|| "encoder".into(), |name| name.to_string_lossy().into_owned());
        Ok(Self { kept: true, ..Self::new(name, weights, tokenizer, &path, options)? })
    }

    /// The same tokens read by other weights, or in another precision.
    ///
    /// # Errors
    /// For `int8` ONNX Runtime's complaint.
    pub fn with(&self, name: &str, weights: Weights, options: EncoderOptions) -> Result<Self, EncoderError> {
        Self::new(name.into(), weights, self.tokenizer.clone(), Path::new("tokenizer.json"), options)
    }

    fn new(name: String, weights: Weights, tokenizer: Vec<u8>, path: &Path, options: EncoderOptions) -> Result<Self, EncoderError> {
        let tokens = Tokens::new(&tokenizer, options.max_tokens.min(weights.config.positions), options.head_percent)
            .map_err(|problem| EncoderError::Invalid { path: path.to_owned(), problem })?;
        let quantised = if options.int8 {
            let texts = tokenised(&tokens, &weights, CALIBRATION_TEXTS.iter().copied())?;
            Some(calibrate(&weights, &texts)?)
        } else {
            None
        };
        Ok(Self { name, weights, tokenizer, tokens, options, quantised, kept: false })
    }

    /// For people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The encoder's entry of `bundle.json`.
    #[must_use]
    pub fn identity(&self) -> bundle::Encoder {
        bundle::Encoder { name: self.name.clone(), sha256: self.weights.sha256.clone(), dimensions: self.weights.config.hidden }
    }

    /// The graph's inputs as `bundle.json` names them.
    #[must_use]
    pub fn inputs(&self) -> Vec<Input> {
        inputs(self.options.max_tokens)
    }

    /// How texts are encoded.
    #[must_use]
    pub fn options(&self) -> EncoderOptions {
        self.options
    }

    /// `tokenizer.json`, for the bundle.
    #[must_use]
    pub fn tokenizer(&self) -> &[u8] {
        &self.tokenizer
    }

    /// Its weights, to start fine-tuning from.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The token ids of texts.
    ///
    /// # Errors
    /// The tokenizer's complaint.
    pub fn token_ids(&self, texts: &[String]) -> Result<Vec<Vec<i64>>, EncoderError> {
        tokenised(&self.tokens, &self.weights, texts.iter().map(String::as_str))
    }

    /// Adds the encoder to a graph; `[batch, dimensions]`, of length 1.
    pub fn graph(&self, builder: &mut GraphBuilder) -> Value {
        let precision = self.quantised.as_ref().map_or(Precision::Full, Precision::Int8);
        let pooled = graph::add(builder, &self.weights, precision).pooled;
        graph::normalised(builder, &pooled)
    }

    /// Embeds texts, `texts x dimensions`, rows of length 1. What a published encoder embedded before comes from the user's cache folder.
    /// `progress` is told how many of the texts are done.
    ///
    /// # Errors
    /// The tokenizer's or ONNX Runtime's complaint; a cache that cannot be used is none.
    pub fn embed(&self, texts: &[String], progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Array2<f32>, EncoderError> {
        if !self.kept {
            return self.embed_anew(texts, &|finished| progress(finished, texts.len()));
        }
        let dimensions = self.weights.config.hidden;
        let mut cache = cache::Cache::open(&self.cache_key(), dimensions);
        let missing: Vec<usize> = (0..texts.len()).filter(|at| cache.get(&texts[*at]).is_none()).collect();
        let done = texts.len() - missing.len();
        progress(done, texts.len());
        if !missing.is_empty() {
            let wanted: Vec<String> = missing.iter().map(|at| texts[*at].clone()).collect();
            let found = self.embed_anew(&wanted, &|finished| progress(done + finished, texts.len()))?;
            cache.add(wanted.iter().zip(found.rows().into_iter().map(|row| row.to_vec())));
        }
        let mut out = Array2::zeros((texts.len(), dimensions));
        for (mut row, text) in out.rows_mut().into_iter().zip(texts) {
            let embedding = cache.get(text).ok_or_else(|| EncoderError::Run("an embedding is missing".into()))?;
            row.iter_mut().zip(embedding).for_each(|(to, from)| *to = *from);
        }
        Ok(out)
    }

    fn embed_anew(&self, texts: &[String], progress: &(dyn Fn(usize) + Sync)) -> Result<Array2<f32>, EncoderError> {
        TokenNetwork::load(&self.bytes(), "embedding")?.run_all(&self.token_ids(texts)?, progress)
    }

    /// The encoder alone as a file.
    fn bytes(&self) -> Vec<u8> {
        let mut builder = GraphBuilder::new("encoder");
        let embedding = self.graph(&mut builder);
        let shape = [Dimension::Named("batch"), Dimension::Fixed(self.weights.config.hidden)];
        builder.output("embedding", &embedding, Element::F32, &shape);
        builder.to_bytes()
    }

    /// Of all that an embedding depends on, the text apart.
    fn cache_key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.weights.sha256);
        hash.update(&self.tokenizer);
        hash.update(format!("{:?} {}", self.options, CACHE_VERSION));
        hex::encode(&hash.finalize()[..12])
    }
}

/// Raised where the graph or the calibration changes what it computes.
const CACHE_VERSION: u32 = 2;

/// The inputs of every graph with an encoder.
#[must_use]
pub fn inputs(max_tokens: usize) -> Vec<Input> {
    vec![Input::InputIds { name: INPUT_IDS.into(), max_tokens }, Input::AttentionMask { name: ATTENTION_MASK.into() }]
}

fn tokenised<'a>(tokens: &Tokens, weights: &Weights, texts: impl Iterator<Item = &'a str>) -> Result<Vec<Vec<i64>>, EncoderError> {
    let known = 0..weights.config.vocabulary as i64;
    let ids = |text| {
        let ids = tokens.encode(text)?;
        // A tokenizer of another model would ask for rows that the table does not have.
        match ids.iter().find(|id| !known.contains(id)) {
            None => Ok(ids),
            Some(id) => Err(format!("the tokenizer gives {id}, but the encoder knows {} tokens only", weights.config.vocabulary)),
        }
    };
    texts.map(ids).collect::<Result<_, _>>().map_err(EncoderError::Run)
}

fn read(path: &Path) -> Result<Vec<u8>, EncoderError> {
    std::fs::read(path).map_err(|source| EncoderError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
