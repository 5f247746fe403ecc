//! What a bundle must be: its version, its hashes, and a manifest whose parts agree.
//!
//! Checks are in the order in which a person would mend what they find.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{BundleError, FORMAT_VERSION, GRAPH, Input, LEXICAL_ROWS, MANIFEST, Manifest, Output, TOKENIZER, files};
use crate::lexical;

/// More experts than anybody has, few enough that a table of them is small.
const MAX_EXPERTS: usize = 1024;

/// Reads `bundle.json`: the version first, since all else may differ between versions.
pub(super) fn parse(json: &[u8]) -> Result<Manifest, BundleError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let problem = |error: serde_json::Error| BundleError::invalid(MANIFEST, error.to_string());
    let version = serde_json::from_slice::<Version>(json).map_err(problem)?.format_version;
    if version != FORMAT_VERSION {
        let problem = format!("format version {version} is not {FORMAT_VERSION}, the one this program reads");
        return Err(BundleError::invalid(MANIFEST, problem));
    }
    serde_json::from_slice(json).map_err(problem)
}

/// That the files are those that `bundle.json` means.
pub(super) fn hashes(manifest: &Manifest, found: &BTreeMap<&'static str, Vec<u8>>) -> Result<(), BundleError> {
    for name in manifest.files.keys() {
        if !found.contains_key(name.as_str()) {
            return Err(BundleError::invalid(name, "named in bundle.json, but the bundle has no such file"));
        }
    }
    for (name, bytes) in found {
        let Some(wanted) = manifest.files.get(*name) else {
            return Err(BundleError::invalid(*name, "its hash is not in bundle.json"));
        };
        let hash = files::sha256(bytes);
        if !hash.eq_ignore_ascii_case(wanted) {
            return Err(BundleError::invalid(*name, format!("expected SHA-256 {wanted}, found {hash}")));
        }
    }
    Ok(())
}

/// Puts the rows of `lexical_rows.bin` where they belong.
pub(super) fn take_rows(manifest: &mut Manifest, bytes: Option<&[u8]>) -> Result<(), BundleError> {
    let Some(bytes) = bytes else { return Ok(()) };
    let (rows, rest) = bytes.as_chunks::<4>();
    if rows.is_empty() || !rest.is_empty() {
        return Err(BundleError::invalid(LEXICAL_ROWS, format!("{} bytes are no list of 4-byte numbers", bytes.len())));
    }
    let hash = manifest.inputs.iter_mut().find_map(|input| match input {
        Input::LexicalIds { hash, .. } => Some(hash),
        _ => None,
    });
    let hash = hash.ok_or_else(|| BundleError::invalid(LEXICAL_ROWS, "no input of the graph reads words"))?;
    hash.rows = rows.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    Ok(())
}

/// That a manifest, its rows taken, makes sense.
pub(super) fn manifest(manifest: &Manifest, has_tokenizer: bool) -> Result<(), BundleError> {
    let checks = [
        experts(manifest),
        output(manifest),
        manifest.text.check().map_err(|problem| format!("text: {problem}")),
        encoder(manifest),
        training(manifest),
    ];
    checks.into_iter().collect::<Result<(), String>>().map_err(|problem| BundleError::invalid(MANIFEST, problem))?;
    inputs(manifest, has_tokenizer)
}

fn experts(manifest: &Manifest) -> Result<(), String> {
    if manifest.experts.is_empty() || manifest.experts.len() > MAX_EXPERTS {
        return Err(format!("experts: from 1 to {MAX_EXPERTS} are needed, not {}", manifest.experts.len()));
    }
    let mut seen = BTreeSet::new();
    for (index, expert) in manifest.experts.iter().enumerate() {
        let at = format!("experts[{index}]");
        if expert.name.trim().is_empty() {
            return Err(format!("{at}.name: empty"));
        }
        if !seen.insert(expert.name.as_str()) {
            return Err(format!("{at}.name: {:?} is there twice", expert.name));
        }
        if expert.mean_score.is_some_and(|value| !value.is_finite()) {
            return Err(format!("{at}.mean_score: not a finite number"));
        }
        for (field, value) in [("mean_output_tokens", expert.mean_output_tokens), ("mean_seconds", expert.mean_seconds)] {
            if value.is_some_and(|value| !value.is_finite() || value < 0.0) {
                return Err(format!("{at}.{field}: not a finite number of at least 0"));
            }
        }
    }
    Ok(())
}

fn output(manifest: &Manifest) -> Result<(), String> {
    match manifest.output {
        Output::LogProbs { temperature } if !(temperature.is_finite() && temperature > 0.0) => {
            Err(format!("output.temperature: {temperature} is not above 0"))
        }
        Output::LogProbs { .. } | Output::Scores => Ok(()),
    }
}

fn encoder(manifest: &Manifest) -> Result<(), String> {
    match &manifest.encoder {
        Some(encoder) if !is_sha256(&encoder.sha256) => Err("encoder.sha256: not 64 hexadecimal digits".into()),
        Some(encoder) if encoder.dimensions == 0 => Err("encoder.dimensions: 0".into()),
        _ => Ok(()),
    }
}

fn training(manifest: &Manifest) -> Result<(), String> {
    if manifest.router.trim().is_empty() {
        return Err("router: empty".into());
    }
    match manifest.files.iter().find(|(_, hash)| !is_sha256(hash)) {
        Some((name, _)) => Err(format!("files.{name}: not 64 hexadecimal digits")),
        None => Ok(()),
    }
}

fn inputs(manifest: &Manifest, has_tokenizer: bool) -> Result<(), BundleError> {
    let wrong = |problem: String| Err(BundleError::invalid(MANIFEST, format!("inputs: {problem}")));
    let mut kinds = BTreeSet::new();
    let mut names = BTreeSet::new();
    for input in &manifest.inputs {
        if !kinds.insert(input.kind()) {
            return wrong(format!("{} is there twice", input.kind()));
        }
        if input.name().is_empty() || input.name().contains('\0') || !names.insert(input.name()) {
            return wrong(format!("{:?} is no name, or is there twice", input.name()));
        }
        if let Err(problem) = input.check() {
            return wrong(format!("{}: {problem}", input.kind()));
        }
    }
    for (needs, needed) in [
        ("attention_mask", "input_ids"),
        ("token_type_ids", "input_ids"),
        ("lexical_weights", "lexical_ids"),
        ("lexical_ids", "lexical_weights"),
    ] {
        if kinds.contains(needs) && !kinds.contains(needed) {
            return wrong(format!("{needs} without {needed}"));
        }
    }
    if kinds.is_empty() {
        return wrong("the graph reads nothing".into());
    }
    if kinds.contains("input_ids") && !has_tokenizer {
        return Err(BundleError::invalid(TOKENIZER, "the graph reads tokens, but the bundle has no tokenizer"));
    }
    Ok(())
}

impl Input {
    /// As in `bundle.json`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::InputIds { .. } => "input_ids",
            Self::AttentionMask { .. } => "attention_mask",
            Self::TokenTypeIds { .. } => "token_type_ids",
            Self::LexicalIds { .. } => "lexical_ids",
            Self::LexicalWeights { .. } => "lexical_weights",
            Self::Surface { .. } => "surface",
        }
    }

    /// The graph's name of the input.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::InputIds { name, .. }
            | Self::AttentionMask { name }
            | Self::TokenTypeIds { name }
            | Self::LexicalIds { name, .. }
            | Self::LexicalWeights { name }
            | Self::Surface { name, .. } => name,
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::InputIds { max_tokens, .. } if !crate::tokens::MAX_TOKENS.contains(max_tokens) => Err(format!(
                "max_tokens {max_tokens} is not from {} to {}",
                crate::tokens::MAX_TOKENS.start(),
                crate::tokens::MAX_TOKENS.end()
            )),
            Self::LexicalIds { hash, .. } => hash.check(),
            Self::Surface { version, .. } if *version != lexical::SURFACE_VERSION => {
                Err(format!("version {version} is not {}, the one this program computes", lexical::SURFACE_VERSION))
            }
            _ => Ok(()),
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// That a graph is there at all; what is in it, ONNX Runtime judges.
pub(super) fn graph(graph: &[u8]) -> Result<(), BundleError> {
    if graph.is_empty() { Err(BundleError::invalid(GRAPH, "empty")) } else { Ok(()) }
}
