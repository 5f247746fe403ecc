//! What the tests against real servers share: starting llama.cpp's server, Kubernetes' control plane and our own binaries, calling them,
//! reading their metrics. Whatever is started ends with the value that stands for it.
//!
//! Deliberately absent: anything that stands in for a real part. Tests with scripted experts are `sidecar`'s own.

pub mod cluster;
pub mod collector;
mod http;
mod llama;
pub mod picture;
mod process;
pub mod prometheus;
mod router;
mod trained;

use std::path::{Path, PathBuf};

pub use http::{Metrics, client, eventually};
pub use llama::{Llama, LlamaOptions};
pub use process::{Process, run_python};
pub use router::Router;
pub use trained::{law, lexical_bundle};

/// The workspace's folder.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}
