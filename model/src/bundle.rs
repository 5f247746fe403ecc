//! A bundle: what training hands to serving. A directory or a tar of `bundle.json`, `router.onnx` and, where the router reads tokens,
//! `tokenizer.json`; where it reads chosen words, `lexical_rows.bin`.
//!
//! In: a path, or what training made. Out: a [`Bundle`] whose parts agree with each other. Deliberately absent: ONNX Runtime (whether the
//! graph keeps its word is seen when it is loaded), and object stores (who fetches a bundle puts it on disk).

mod check;
mod files;
mod write;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::TextRules;

/// The format this version writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The file that describes the others.
pub const MANIFEST: &str = "bundle.json";
/// The graph.
pub const GRAPH: &str = "router.onnx";
/// Where the graph reads tokens.
pub const TOKENIZER: &str = "tokenizer.json";
/// Where the graph reads words that were chosen: sorted hashes, little-endian u32.
pub const LEXICAL_ROWS: &str = "lexical_rows.bin";

/// `bundle.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the code that wrote it.
    pub format_version: u32,
    /// `knn`, `mlp`, `bert`, `lexical`, or `mixture`.
    pub router: String,
    /// In the order of the output's columns. Bound to a router's experts by name, never by position.
    pub experts: Vec<ExpertEntry>,
    /// What the graph's output means.
    pub output: Output,
    /// Which text of a request is read.
    pub text: TextRules,
    /// What `router.onnx` reads, by name of the graph's input.
    pub inputs: Vec<Input>,
    /// The encoder inside the graph, where there is one.
    pub encoder: Option<Encoder>,
    /// SHA-256 in hex of each other file of the bundle, by name.
    pub files: BTreeMap<String, String>,
    /// How it was trained: data hash, seed, temperature, loss, hyper-parameters. Free in form, for people.
    pub training: serde_json::Value,
    /// Held-out evaluation, for people and for promotion. Free in form.
    pub evaluation: serde_json::Value,
}

/// What training knows of an expert beside its scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpertEntry {
    /// Its name in the training data and in the router.
    pub name: String,
    /// Mean over the training data; absent where it has none.
    pub mean_score: Option<f64>,
    /// Likewise, of the tokens it answers with.
    pub mean_output_tokens: Option<f64>,
    /// Likewise, of the time it takes.
    pub mean_seconds: Option<f64>,
}

/// What the graph's output means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Output {
    /// `log_probs[batch, experts]` of a router trained on `softmax(temperature * score)`: score differences are
    /// `(log p_i - log p_j) / temperature`.
    LogProbs {
        /// T above.
        temperature: f64,
    },
    /// `scores[batch, experts]`, predicted scores.
    Scores,
}

/// One input of the graph, and how it is made from the text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Input {
    /// int64 `[batch, sequence]`, from `tokenizer.json`, at most `max_tokens` (head and tail kept), padded with 0.
    InputIds {
        /// The graph's name of the input.
        name: String,
        /// Special tokens included.
        max_tokens: usize,
    },
    /// int64 `[batch, sequence]`, 1 where there is a token.
    AttentionMask {
        /// The graph's name of the input.
        name: String,
    },
    /// int64 `[batch, sequence]`, all 0.
    TokenTypeIds {
        /// The graph's name of the input.
        name: String,
    },
    /// int64 `[batch, features]`: row numbers of hashed words and word pairs, padded with 0. At least one wide.
    LexicalIds {
        /// The graph's name of the input.
        name: String,
        /// How words become row numbers.
        hash: crate::lexical::HashRules,
    },
    /// float32 `[batch, features]`: `1 + ln(count)` of each, padded with 0. (Document frequency and norm are the graph's.)
    LexicalWeights {
        /// The graph's name of the input.
        name: String,
    },
    /// float32 `[batch, surface]`: lengths, digits, punctuation and the like; as many as `lexical::SURFACE` of that version has.
    Surface {
        /// The graph's name of the input.
        name: String,
        /// `lexical::SURFACE_VERSION` of the code that trained.
        version: u32,
    },
}

/// Names an encoder exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoder {
    /// For people.
    pub name: String,
    /// SHA-256 of the weights it was made from.
    pub sha256: String,
    /// Of its sentence embedding.
    pub dimensions: usize,
}

/// A bundle read and checked, not yet loaded into ONNX Runtime.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// `bundle.json`.
    pub manifest: Manifest,
    /// `router.onnx`.
    pub graph: Vec<u8>,
    /// `tokenizer.json`.
    pub tokenizer: Option<Vec<u8>>,
    /// SHA-256 in hex of `bundle.json` (which has the hashes of the rest).
    pub digest: String,
}

/// Why a bundle cannot be used, or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The disk says no.
    #[error("cannot read {file}")]
    Read {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not as it should be.
    #[error("{file}: {problem}")]
    Invalid {
        /// Which.
        file: String,
        /// What, in words.
        problem: String,
    },
    /// The disk says no.
    #[error("cannot write {file}")]
    Write {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// ONNX Runtime cannot be used at all; no fault of the bundle.
    #[error("{0}")]
    Runtime(String),
}

impl Manifest {
    /// Of a router without a graph, which knows these experts.
    pub(crate) fn fixed(experts: &[&str]) -> Self {
        let entry = |name: &&str| ExpertEntry { name: (*name).to_owned(), mean_score: None, mean_output_tokens: None, mean_seconds: None };
        Self {
            format_version: FORMAT_VERSION,
            router: "fixed".into(),
            experts: experts.iter().map(entry).collect(),
            output: Output::Scores,
            text: TextRules::default(),
            inputs: Vec::new(),
            encoder: None,
            files: BTreeMap::new(),
            training: serde_json::Value::Null,
            evaluation: serde_json::Value::Null,
        }
    }
}

impl BundleError {
    pub(crate) fn invalid(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { file: file.into(), problem: problem.into() }
    }
}

impl Bundle {
    /// A bundle of parts just made: hashes and digest are computed, all else is checked as if it were read.
    ///
    /// # Errors
    /// What does not fit together, by file.
    pub fn assemble(manifest: Manifest, graph: Vec<u8>, tokenizer: Option<Vec<u8>>) -> Result<Self, BundleError> {
        let mut bundle = Self { manifest, graph, tokenizer, digest: String::new() };
        let packed = write::pack(&mut bundle.manifest, bundle.graph.as_slice(), bundle.tokenizer.as_deref())?;
        bundle.digest = files::sha256(&packed.manifest);
        check::manifest(&bundle.manifest, bundle.tokenizer.is_some())?;
        Ok(bundle)
    }

    /// Reads a directory or a tar (also gzipped); checks version, hashes and that the table of inputs makes sense. Never trusts a length
    /// or a path in the file.
    ///
    /// # Errors
    /// What could not be read or is not as it should be, by file.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let files = if path.is_dir() { files::directory(path)? } else { files::tar(path)? };
        Self::from_files(files)
    }

    /// Reads a tar (also gzipped) that is in memory or comes from elsewhere.
    ///
    /// # Errors
    /// As [`Bundle::read`].
    pub fn read_tar(reader: impl std::io::Read) -> Result<Self, BundleError> {
        Self::from_files(files::tar_from("bundle", reader)?)
    }

    /// Writes a directory, whole or not at all (a temporary sibling is renamed). An older bundle there is replaced; anything else is left
    /// alone, and is an error.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn write(&self, directory: &Path) -> Result<(), BundleError> {
        write::directory(self, directory)
    }

    /// Writes a tar, gzipped if the name ends in `.gz` or `.tgz`, whole or not at all. The same bundle gives the same bytes.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn write_tar(&self, path: &Path) -> Result<(), BundleError> {
        write::tar(self, path)
    }

    fn from_files(mut files: BTreeMap<&'static str, Vec<u8>>) -> Result<Self, BundleError> {
        let json = files.remove(MANIFEST).ok_or_else(|| BundleError::invalid(MANIFEST, "the bundle has no such file"))?;
        let mut manifest = check::parse(&json)?;
        check::hashes(&manifest, &files)?;
        let graph = files.remove(GRAPH).ok_or_else(|| BundleError::invalid(GRAPH, "the bundle has no such file"))?;
        let tokenizer = files.remove(TOKENIZER);
        check::take_rows(&mut manifest, files.remove(LEXICAL_ROWS).as_deref())?;
        check::manifest(&manifest, tokenizer.is_some())?;
        Ok(Self { manifest, graph, tokenizer, digest: files::sha256(&json) })
    }
}

/// The path that a bundle's address names: a path as it is, or a `file://` URL.
///
/// # Errors
/// Any other scheme, or another host: those are fetched by whoever runs the router.
pub fn local_path(address: &str) -> Result<PathBuf, BundleError> {
    let wrong = |problem: &str| Err(BundleError::invalid(address, problem));
    match address.split_once("://") {
        None if address.is_empty() => wrong("an empty path"),
        None => Ok(PathBuf::from(address)),
        Some(("file", rest)) if rest.starts_with('/') => Ok(PathBuf::from(rest)),
        Some(("file", rest)) if rest.starts_with("localhost/") => Ok(PathBuf::from(&rest["localhost".len()..])),
        Some(("file", _)) => wrong("a file URL has three slashes and an absolute path: file:///models/router"),
        Some(_) => wrong("only paths and file:// are read here"),
    }
}

#[cfg(test)]
mod tests;
