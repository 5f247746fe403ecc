//! The Kubernetes API (`expertrouter.dev/v1alpha1`): types, conditions, names, and spec plus resolved references to a
//! [`routing::Snapshot`]. Pure. Deliberately absent: a Kubernetes client.

pub mod manifest;

pub use manifest::{ManifestError, Standalone, read_manifest};
