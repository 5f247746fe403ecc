//! From queries and experts to a router that has earned its place: prepare, label, fit, evaluate, report, export a bundle.
//!
//! Steps are files named by their verb; each reads and writes a typed artefact, so that any one can be run again.

pub mod bench_quality;
pub mod cli;
pub mod data;
pub mod evaluate;
pub mod evaluation;
pub mod fit;
pub mod linear;
pub mod logistic;
pub mod onnx;
pub mod outcomes;
pub mod prepare;
pub mod random;
pub mod ridge;
pub mod run;
pub mod score;
pub mod sparse;
pub mod svd;
pub mod trees;
