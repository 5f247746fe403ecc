//! Third-party files that are too big for the repository or not ours to carry: ONNX Runtime, the encoder, the language model, Python
//! packages, Envoy, Kubernetes' control plane and nodes, Prometheus, OpenTelemetry's Collector. Comes in: the table of versions and hashes.
//! Goes out: where a file lies in the user's cache folder. Absent: fetching (that is `xtask fetch`, `xtask kubernetes`, `xtask nodes`,
//! `xtask prometheus` and `xtask collector`) and any dependency, so that every room may ask without paying for it.

pub mod collector;
pub mod control_plane;
pub mod definitions;
pub mod nodes;
mod place;
pub mod prometheus;
mod table;

pub use collector::collector;
pub use control_plane::control_plane;
pub use definitions::definitions;
pub use nodes::node;
pub use place::{Missing, cache_folder, file, onnx_runtime, own_onnx_runtime, part_folder, python, python_folder, requirements_id};
pub use prometheus::prometheus;
pub use table::{File, Group, PARTS, Part, REQUIREMENTS, Wheel, by_name};

use std::path::PathBuf;

/// The encoder's folder: `model.safetensors`, `tokenizer.json`, `config.json`, `vocab.txt` of all-MiniLM-L6-v2.
pub fn encoder() -> Result<PathBuf, Missing> {
    file("encoder", "model.safetensors").map(|path| path.parent().map(PathBuf::from).unwrap_or_default())
}

/// The language model that the tests and the demo run: SmolLM2-135M-Instruct, a GGUF file.
pub fn chat_model() -> Result<PathBuf, Missing> {
    file("chat-model", "model.gguf")
}

/// A ready-made ONNX export of the encoder with its weights kept as int8 (`model.onnx`).
pub fn encoder_int8() -> Result<PathBuf, Missing> {
    file("encoder-int8", "model.onnx")
}

/// Envoy's binary, which the benchmark compares with.
pub fn envoy() -> Result<PathBuf, Missing> {
    file("envoy", "envoy")
}
