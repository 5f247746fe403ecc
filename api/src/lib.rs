//! The Kubernetes API (`expertrouter.dev/v1alpha1`): types, conditions, names, and spec plus resolved references to a
//! [`routing::Snapshot`]. Pure. Deliberately absent: a Kubernetes client.
//!
//! The doc comments of the types are the user's manual: the CRDs' descriptions are made from them.

pub mod decimal;
pub mod manifest;
pub mod model;
pub mod references;
pub mod router;
pub mod rules;
pub mod schema;
pub mod snapshot;
pub mod status;
pub mod training;

pub use decimal::Decimal;
pub use manifest::{ManifestError, Objects, Standalone, read_manifest, read_objects};
pub use model::{RouterModel, RouterModelSpec};
pub use router::{ExpertRouter, ExpertRouterSpec};
pub use schema::crds;
pub use snapshot::{References, service_url, snapshot};
