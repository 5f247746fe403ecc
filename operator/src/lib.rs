//! The operator: what `ExpertRouter` and `RouterModel` objects declare becomes everything that serves and trains them.
//!
//! Both controllers go the same five steps, `dereference -> validate -> plan -> apply -> status`, of which only the first and the last
//! two touch the world. The rooms both share come first: what is known of the cluster (`cache`, filled by `watch`), what depends on what
//! (`dependencies`), how children are written (`apply`) and how the truth is told (`conditions`, `status`, `events`).

pub mod admin;
pub mod apply;
pub mod cache;
pub mod conditions;
pub mod config;
pub mod context;
pub mod controllers;
pub mod dependencies;
pub mod events;
pub mod leader;
pub mod metrics;
pub mod names;
pub mod owner;
pub mod router;
pub mod status;
pub mod training;
pub mod watch;
pub mod webhook;

pub use config::{Config, Flags};
pub use context::{Context, Error};
