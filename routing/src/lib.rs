//! The decision, pure.
//!
//! In: a [`Snapshot`] (what an operator or a manifest says), compiled once into a [`Table`]; per request the [`Request`] facts, the
//! live [`ExpertState`]s and the model's [`Scores`]. Out: a [`Decision`] (expert, fallbacks, reason) or a [`Refusal`], and what a
//! request cost. Deliberately absent: tokio, hyper, kube, files, and any clock of its own: time comes in as an argument.

pub mod budget;
mod candidate;
pub mod check;
pub mod choose;
pub mod health;
pub mod price;
pub mod render;
pub mod retries;
pub mod session;
pub mod snapshot;
pub mod table;

#[cfg(test)]
mod fixtures;

pub use check::AUTO;
pub use choose::{Decision, ExpertState, Reason, Recommended, Refusal, Request, ScoreFailure, Scores, choose, needs_scores};
pub use price::Prices;
pub use render::render;
pub use snapshot::Snapshot;
pub use table::{Table, TableError};
