//! From queries and experts to a router that has earned its place: prepare, label, fit, evaluate, report, export a bundle.
//!
//! Steps are files named by their verb; each reads and writes a typed artefact, so that any one can be run again.

pub mod ask;
pub mod bench_quality;
pub mod bert;
pub mod bertscore;
pub mod cli;
pub mod data;
pub mod decide;
pub mod encoder;
pub mod evaluate;
pub mod evaluation;
pub mod fetch;
pub mod fit;
pub mod folds;
pub mod job;
pub mod judge;
pub mod learn;
pub mod linear;
pub mod logistic;
pub mod mix;
pub mod mlp;
pub mod neural;
pub mod nll;
pub mod onnx;
pub mod outcomes;
pub mod parts;
pub mod prepare;
pub mod prices;
pub mod publish;
pub mod random;
pub mod recipe;
pub mod report;
pub mod ridge;
pub mod router;
pub mod run;
pub mod score;
pub mod settings;
pub mod sparse;
pub mod store;
pub mod svd;
pub mod targets;
pub mod trees;
pub mod views;
