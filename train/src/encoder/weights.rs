//! An encoder of BERT's form as it is published: `config.json` and `model.safetensors`, read and checked.
//!
//! Out: arrays by their published names. The weights of linear layers are kept as `[in, out]`, transposed, as ONNX's `MatMul` and
//! training have them. Absent: the pooler, which sentence encoders do not use.

use std::{collections::BTreeMap, path::Path};

use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::EncoderError;

/// Sizes of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Config {
    /// Dimensions of a token.
    #[serde(rename = "hidden_size")]
    pub hidden: usize,
    /// Layers of attention.
    #[serde(rename = "num_hidden_layers")]
    pub layers: usize,
    /// Heads of each.
    #[serde(rename = "num_attention_heads")]
    pub heads: usize,
    /// Dimensions between the two linear layers behind each attention.
    #[serde(rename = "intermediate_size")]
    pub intermediate: usize,
    /// Known tokens.
    #[serde(rename = "vocab_size")]
    pub vocabulary: usize,
    /// The longest text, in tokens.
    #[serde(rename = "max_position_embeddings")]
    pub positions: usize,
    /// Token types; texts have the first.
    #[serde(rename = "type_vocab_size")]
    pub types: usize,
    /// Keeps layer normalisation from dividing by zero.
    #[serde(rename = "layer_norm_eps")]
    pub epsilon: f64,
}

/// Sizes that nobody publishes but a broken file may state.
const SANE: std::ops::RangeInclusive<usize> = 1..=1 << 20;

impl Config {
    fn check(&self) -> Result<(), String> {
        let sizes = [self.hidden, self.layers, self.heads, self.intermediate, self.vocabulary, self.positions, self.types];
        if sizes.iter().any(|size| !SANE.contains(size)) || self.layers > 256 {
            return Err("a size is 0 or far too large".into());
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(format!("{} dimensions cannot be shared by {} heads", self.hidden, self.heads));
        }
        if !(self.epsilon.is_finite() && self.epsilon >= 0.0) {
            return Err("layer_norm_eps must be a small number".into());
        }
        Ok(())
    }

    /// Every tensor of the encoder: published name, shape as kept here.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden, self.intermediate);
        let mut all = vec![
            (WORDS.to_owned(), vec![self.vocabulary, hidden]),
            ("embeddings.position_embeddings.weight".to_owned(), vec![self.positions, hidden]),
            ("embeddings.token_type_embeddings.weight".to_owned(), vec![self.types, hidden]),
        ];
        let mut pair = |prefix: &str, weight: Vec<usize>, bias: usize| {
            all.push((format!("{prefix}.weight"), weight));
            all.push((format!("{prefix}.bias"), vec![bias]));
        };
        pair("embeddings.LayerNorm", vec![hidden], hidden);
        for layer in 0..self.layers {
            let prefix = layer_prefix(layer);
            for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
                pair(&format!("{prefix}.{part}"), vec![hidden, hidden], hidden);
            }
            pair(&format!("{prefix}.attention.output.LayerNorm"), vec![hidden], hidden);
            pair(&format!("{prefix}.intermediate.dense"), vec![hidden, inner], inner);
            pair(&format!("{prefix}.output.dense"), vec![inner, hidden], hidden);
            pair(&format!("{prefix}.output.LayerNorm"), vec![hidden], hidden);
        }
        all
    }
}

/// Name of the table of words.
pub const WORDS: &str = "embeddings.word_embeddings.weight";

/// Beginning of the names of a layer's tensors.
#[must_use]
pub fn layer_prefix(layer: usize) -> String {
    format!("encoder.layer.{layer}")
}

/// The layer that a tensor belongs to; none for embeddings.
#[must_use]
pub fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("encoder.layer.")?.split('.').next()?.parse().ok()
}

/// Whether the published tensor is `[out, in]` and kept here as `[in, out]`.
fn is_linear(name: &str) -> bool {
    name.starts_with("encoder.layer.") && name.ends_with(".weight") && !name.ends_with("LayerNorm.weight")
}

/// An encoder's sizes and tensors.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Its sizes.
    pub config: Config,
    /// SHA-256 in hex of the file it was read from.
    pub sha256: String,
    tensors: BTreeMap<String, ArrayD<f32>>,
}

impl Weights {
    /// Reads a folder's `config.json` and `model.safetensors`.
    ///
    /// # Errors
    /// The file that cannot be read or is not an encoder of this form.
    pub fn open(folder: &Path) -> Result<Self, EncoderError> {
        let config_path = folder.join("config.json");
        let invalid = |path: &Path, problem: String| EncoderError::Invalid { path: path.to_owned(), problem };
        let config: Config =
            serde_json::from_slice(&super::read(&config_path)?).map_err(|error| invalid(&config_path, error.to_string()))?;
        config.check().map_err(|problem| invalid(&config_path, problem))?;
        let path = folder.join("model.safetensors");
        let bytes = super::read(&path)?;
        let tensors = read_tensors(&bytes, &config).map_err(|problem| invalid(&path, problem))?;
        Ok(Self { config, sha256: hex::encode(Sha256::digest(&bytes)), tensors })
    }

    /// Weights made of tensors with the names and shapes of [`Config::tensors`].
    ///
    /// # Errors
    /// The first name that is missing or has another shape.
    pub fn from_tensors(config: Config, sha256: String, tensors: BTreeMap<String, ArrayD<f32>>) -> Result<Self, String> {
        for (name, shape) in config.tensors() {
            let tensor = tensors.get(&name).ok_or_else(|| format!("{name} is missing"))?;
            if tensor.shape() != shape {
                return Err(format!("{name} has the shape {:?}, not {shape:?}", tensor.shape()));
            }
        }
        Ok(Self { config, sha256, tensors })
    }

    /// The same encoder with these tensors instead of its own, and the hash of all.
    ///
    /// # Errors
    /// The first name that has another shape.
    pub fn replaced(&self, tensors: BTreeMap<String, ArrayD<f32>>) -> Result<Self, String> {
        let mut all = self.tensors.clone();
        all.extend(tensors);
        let mut weights = Self::from_tensors(self.config, String::new(), all)?;
        let mut hash = Sha256::new();
        for (name, _) in self.config.tensors() {
            hash.update(&name);
            let bytes: Vec<u8> = weights.values(&name).iter().flat_map(|value| value.to_le_bytes()).collect();
            hash.update(&bytes);
        }
        weights.sha256 = hex::encode(hash.finalize());
        Ok(weights)
    }

    /// A tensor.
    ///
    /// # Panics
    /// Where the name is not one of [`Config::tensors`].
    #[must_use]
    pub fn tensor(&self, name: &str) -> &ArrayD<f32> {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// A tensor's numbers, row by row.
    ///
    /// # Panics
    /// As [`Self::tensor`].
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<f32> {
        self.tensor(name).iter().copied().collect()
    }
}

fn read_tensors(bytes: &[u8], config: &Config) -> Result<BTreeMap<String, ArrayD<f32>>, String> {
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.tensors() {
        let view = file.tensor(&name).or_else(|_| file.tensor(&format!("bert.{name}"))).map_err(|_| format!("{name} is missing"))?;
        let published: Vec<usize> = if is_linear(&name) { shape.iter().rev().copied().collect() } else { shape };
        if view.dtype() != safetensors::Dtype::F32 || view.shape() != published {
            return Err(format!("{name} is {:?} {:?}, not F32 {published:?}", view.dtype(), view.shape()));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let tensor = ArrayD::from_shape_vec(IxDyn(&published), values).map_err(|error| error.to_string())?;
        // Transposed in memory too: who reads the numbers in order relies on it.
        let tensor = if is_linear(&name) { tensor.t().as_standard_layout().into_owned() } else { tensor };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! A tiny encoder with random weights, and words it knows.

    use super::*;
    use crate::{
        encoder::{Encoder, EncoderOptions},
        random::Random,
    };

    /// `w4` to `w59`, each a token, with `[CLS]` and `[SEP]` around every text.
    pub(crate) fn tokenizer() -> Vec<u8> {
        let word = |id: usize| ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].get(id).map_or_else(|| format!("w{id}"), |name| (*name).to_owned());
        let words: serde_json::Map<String, serde_json::Value> = (0..60).map(|id| (word(id), id.into())).collect();
        let special = |id: usize| serde_json::json!({"SpecialToken": {"id": word(id), "type_id": 0}});
        let text = serde_json::json!({"Sequence": {"id": "A", "type_id": 0}});
        let entry = |id: usize| serde_json::json!({"id": word(id), "ids": [id], "tokens": [word(id)]});
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "decoder": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [special(2), text, special(3)],
                "pair": [special(2), text, special(3), {"Sequence": {"id": "B", "type_id": 1}}, special(3)],
                "special_tokens": {"[CLS]": entry(2), "[SEP]": entry(3)},
            },
            "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
        });
        serde_json::to_vec(&json).unwrap()
    }

    /// The tiny encoder with its tokenizer.
    pub(crate) fn encoder(seed: u64, int8: bool) -> Encoder {
        let options = EncoderOptions { max_tokens: 20, head_percent: 50, int8 };
        Encoder::new("tiny".into(), tiny(seed), tokenizer(), Path::new("tokenizer.json"), options).unwrap()
    }

    /// Texts of up to `most` words, made of all that the tokenizer knows.
    pub(crate) fn texts(count: usize, most: usize, seed: u64) -> Vec<String> {
        let mut random = Random::new(seed, 5);
        let mut text = || {
            let words: Vec<String> = (0..1 + random.below(most)).map(|_| format!("w{}", 4 + random.below(56))).collect();
            words.join(" ")
        };
        (0..count).map(|_| text()).collect()
    }

    /// Two layers of 16 dimensions, 60 words.
    pub(crate) fn tiny(seed: u64) -> Weights {
        let config = Config { hidden: 16, layers: 2, heads: 4, intermediate: 32, vocabulary: 60, positions: 24, types: 2, epsilon: 1e-12 };
        let mut random = Random::new(seed, 0);
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.tensors() {
            let count = shape.iter().product();
            let centre = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
            let values: Vec<f32> = (0..count).map(|_| centre + 0.3 * random.normal()).collect();
            tensors.insert(name, ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap());
        }
        Weights::from_tensors(config, "ab".repeat(32), tensors).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one tensor too few, or of the wrong shape, is refused by name.
    #[test]
    fn a_tensor_that_is_missing_or_has_another_shape_is_named() {
        let weights = fixtures::tiny(1);
        let mut tensors = weights.tensors.clone();
        let name = "encoder.layer.1.output.dense.bias";
        tensors.insert(name.into(), ArrayD::zeros(IxDyn(&[3])));
        let error = Weights::from_tensors(weights.config, String::new(), tensors.clone()).unwrap_err();
        assert!(error.contains(name) && error.contains("[3]"), "{error}");
        tensors.remove(name);
        assert!(Weights::from_tensors(weights.config, String::new(), tensors).unwrap_err().contains("missing"));
    }

    #[test]
    fn files_that_are_no_encoder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Weights::open(folder.path()), Err(EncoderError::Read { .. })));
        let write = |config: &str| std::fs::write(folder.path().join("config.json"), config).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), b"\xff\xff\xff\xff\xff\xff\xff\x7f{}").unwrap();
        let sizes = r#""num_hidden_layers":1,"intermediate_size":8,"vocab_size":5,"max_position_embeddings":4,"type_vocab_size":1,"layer_norm_eps":1e-12"#;
        for (config, problem) in [
            ("{".to_owned(), "EOF"),
            (format!(r#"{{"hidden_size":0,"num_attention_heads":1,{sizes}}}"#), "a size is 0"),
            (format!(r#"{{"hidden_size":10,"num_attention_heads":4,{sizes}}}"#), "cannot be shared"),
            (format!(r#"{{"hidden_size":8,"num_attention_heads":4,{sizes}}}"#), "safetensors"),
        ] {
            write(&config);
            let error = Weights::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(problem), "{config}: {error}");
        }
    }
}
