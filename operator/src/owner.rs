//! Which object of ours something belongs to.

use api::{ExpertRouter, RouterModel};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// The two kinds that are reconciled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    /// An `ExpertRouter`.
    Router,
    /// A `RouterModel`.
    Model,
}

impl OwnerKind {
    /// As manifests have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Router => "ExpertRouter",
            Self::Model => "RouterModel",
        }
    }
}

/// Namespace and name of an object of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerKey {
    /// What it is.
    pub kind: OwnerKind,
    /// Where it is.
    pub namespace: String,
    /// What it is called.
    pub name: String,
}

impl OwnerKey {
    /// The key of a router.
    #[must_use]
    pub fn router(namespace: &str, name: &str) -> Self {
        Self { kind: OwnerKind::Router, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of a model.
    #[must_use]
    pub fn model(namespace: &str, name: &str) -> Self {
        Self { kind: OwnerKind::Model, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// One object of ours, as its children name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Kind, namespace and name.
    pub key: OwnerKey,
    /// Tells it from a later one of the same name.
    pub uid: String,
}

impl Owner {
    /// The owner a router is.
    #[must_use]
    pub fn of_router(metadata: &ObjectMeta) -> Self {
        Self::of(OwnerKind::Router, metadata)
    }

    /// The owner a model is.
    #[must_use]
    pub fn of_model(metadata: &ObjectMeta) -> Self {
        Self::of(OwnerKind::Model, metadata)
    }

    fn of(kind: OwnerKind, metadata: &ObjectMeta) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Self { key: OwnerKey { kind, namespace: text(&metadata.namespace), name: text(&metadata.name) }, uid: text(&metadata.uid) }
    }

    /// What children carry: so the garbage collector takes them along, and nobody else controls them.
    #[must_use]
    pub fn reference(&self) -> OwnerReference {
        let api_version = match self.key.kind {
            OwnerKind::Router => ExpertRouter::api_version(&()),
            OwnerKind::Model => RouterModel::api_version(&()),
        };
        OwnerReference {
            api_version: api_version.into_owned(),
            kind: self.key.kind.as_str().to_owned(),
            name: self.key.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// Who controls an object, where it is one of ours.
#[must_use]
pub fn controller_of(metadata: &ObjectMeta) -> Option<Owner> {
    let reference = metadata.owner_references.iter().flatten().find(|reference| reference.controller == Some(true))?;
    let kind = [OwnerKind::Router, OwnerKind::Model].into_iter().find(|kind| kind.as_str() == reference.kind)?;
    if !reference.api_version.starts_with("expertrouter.dev/") {
        return None;
    }
    let key = OwnerKey { kind, namespace: metadata.namespace.clone()?, name: reference.name.clone() };
    Some(Owner { key, uid: reference.uid.clone() })
}
