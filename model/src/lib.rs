//! Prompt to scores: the bundle, its text rules, tokens and lexical features, ONNX Runtime, batching.
//!
//! Training and serving turn text into features through the same files of this crate ([`text`], [`lexical`], [`tokens`]); what differs
//! is only who calls. Deliberately absent: HTTP, Kubernetes, and any knowledge of prices.

pub mod batch;
pub mod bundle;
pub mod engine;
pub mod lexical;
pub mod session;
pub mod text;
pub mod tokens;

pub use bundle::{Bundle, BundleError, Manifest};
pub use engine::{Engine, EngineOptions, Prediction, ScoreError};
pub use text::TextRules;
