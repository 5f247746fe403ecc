//! Prompt to scores: the bundle, its text rules, tokens and lexical features, ONNX Runtime, batching.
//!
//! Training and serving turn text into features through the same files of this crate ([`text`], [`lexical`], [`tokens`]); what differs
//! is only who calls. Deliberately absent: HTTP, Kubernetes, and any knowledge of prices.

pub mod bundle;
pub mod text;

pub mod features;
pub mod lexical;
pub mod tokens;

pub mod scorer;
pub mod session;

pub mod batch;
pub mod engine;

#[cfg(test)]
mod testing;

pub use bundle::{Bundle, BundleError, Manifest};
pub use engine::{Engine, EngineOptions, Prediction, ScoreError};
pub use features::{Extractor, Row};
pub use scorer::{RowScores, Scorer};
pub use text::TextRules;
