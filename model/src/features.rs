//! All that a graph may read of one text, made ready by the bundle's table of inputs.
//!
//! In: a text already cut by the bundle's rules. Out: a [`Row`]. Deliberately absent: batches (see [`crate::session`]).

use crate::{
    Bundle, BundleError,
    bundle::{self, Input},
    lexical::{self, Lexicon},
    tokens::Tokens,
};

/// One text with its features.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The text itself, for scorers that are no graph.
    pub text: String,
    /// Empty where the graph reads none.
    pub tokens: Vec<i64>,
    /// Empty where the graph reads none.
    pub lexical: lexical::Features,
    /// Empty where the graph reads none.
    pub surface: Vec<f32>,
}

/// Turns texts into rows.
#[derive(Debug)]
pub struct Extractor {
    tokens: Option<Tokens>,
    lexicon: Option<Lexicon>,
    surface: bool,
}

impl Row {
    /// How wide the row makes a batch.
    #[must_use]
    pub fn length(&self) -> usize {
        if self.tokens.is_empty() { self.lexical.rows.len() } else { self.tokens.len() }.max(1)
    }

    /// Tokens read, where the graph reads tokens.
    #[must_use]
    pub fn prompt_tokens(&self) -> Option<u32> {
        (!self.tokens.is_empty()).then(|| u32::try_from(self.tokens.len()).unwrap_or(u32::MAX))
    }
}

impl Extractor {
    /// What the bundle's inputs need, and no more.
    ///
    /// # Errors
    /// What is wrong with the tokenizer or the rules.
    pub fn new(bundle: &Bundle) -> Result<Self, BundleError> {
        let mut made = Self { tokens: None, lexicon: None, surface: false };
        for input in &bundle.manifest.inputs {
            match input {
                Input::InputIds { max_tokens, .. } => {
                    let json = bundle.tokenizer.as_deref().unwrap_or_default();
                    let tokens = Tokens::new(json, *max_tokens, bundle.manifest.text.head_percent);
                    made.tokens = Some(tokens.map_err(|problem| BundleError::invalid(bundle::TOKENIZER, problem))?);
                }
                Input::LexicalIds { hash, .. } => made.lexicon = Some(Lexicon::new(hash)),
                Input::Surface { .. } => made.surface = true,
                Input::AttentionMask { .. } | Input::TokenTypeIds { .. } | Input::LexicalWeights { .. } => {}
            }
        }
        Ok(made)
    }

    /// The features of a text.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn row(&self, text: String) -> Result<Row, String> {
        let tokens = self.tokens.as_ref().map(|tokens| tokens.encode(&text)).transpose()?.unwrap_or_default();
        let mut features = lexical::Features::default();
        if let Some(lexicon) = &self.lexicon {
            lexicon.features(&text, &mut features);
        }
        let surface = if self.surface { lexical::surface(&text).to_vec() } else { Vec::new() };
        Ok(Row { text, tokens, lexical: features, surface })
    }

    /// Whether rows take a tokenizer and so, as all graphs that read tokens have an encoder, milliseconds to score.
    #[must_use]
    pub fn reads_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// About how long the row of a text will be.
    #[must_use]
    pub fn estimate(&self, text: &str) -> usize {
        self.tokens.as_ref().map_or(1, |tokens| tokens.estimate(text))
    }
}
