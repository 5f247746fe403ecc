//! The proxy behind `expert-router`: sidecar, gateway and standalone server in one.
//!
//! In: OpenAI-style requests, and a manifest or snapshot that says who the experts are. Out: answers of the expert that suits each best.
//! A request passes the phases *read*, *parse*, *score*, *choose*, *forward*, *stream*, *meter*; `proxy` has them in their order, and spans
//! and metrics bear the same names. Deliberately absent: the Kubernetes API (who writes the snapshot is somebody else), the rules of the
//! choice (`routing`), the text and tensors of the score (`model`), and the shape of OpenAI's JSON (`wire`).

// What is said on the command line, and what is in force.
pub mod config;
pub mod shared;
pub mod state;

// The way of a request.
pub mod aside;
pub mod controls;
pub mod decide;
pub mod failure;
pub mod forward;
pub mod gzip;
pub mod headers;
pub mod keys;
pub mod meter;
pub mod metrics;
pub mod proxy;
pub mod read;
pub mod recent;
pub mod routes;
pub mod score;
pub mod serve;
pub mod spend;
pub mod stream;
pub mod trace;
pub mod upstream;

// The way of a change.
pub mod build;
pub mod tls;
pub mod watch;

// For operators.
pub mod admin;
mod files;
pub mod logging;

pub use config::{Config, Flags};
pub use files::allow_files;
pub use serve::{Server, StartError, start, start_with};
