//! How specs name other objects: always within the router's own namespace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::rules::OBJECT_NAME_PATTERN))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::rules::KEY_PATTERN))]
    pub key: String,
}

/// A whole Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::rules::OBJECT_NAME_PATTERN))]
    pub name: String,
}

/// One key of a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapKeyRef {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::rules::OBJECT_NAME_PATTERN))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::rules::KEY_PATTERN))]
    pub key: String,
}

/// An object of ours, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NameRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::rules::OBJECT_NAME_PATTERN))]
    pub name: String,
}

/// A path on a persistent volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumePath {
    /// The PersistentVolumeClaim's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::rules::OBJECT_NAME_PATTERN))]
    pub name: String,
    /// From the volume's root. Default: the root itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
}
