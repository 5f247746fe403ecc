//! `ExpertRouter`: the experts, the model that chooses among them, and the rules of the choice.

#![expect(clippy::duplicated_attributes, reason = "each printer column has a name and a type of its own")]

mod expert;
mod policy;
mod workload;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use expert::{Credentials, Expert, ExpertTls, Health, Pricing, ServiceAddress, Timeouts};
pub use policy::{Budget, BudgetScope, Bundle, BundleCredentials, ClientKeys, Model, Policy, Session, Weights};
pub use workload::{
    Autoscaling, Deployment, Gateway, GatewayRef, HttpRoute, ImagePullPolicy, LogLevel, ModelCache, OTLP_HEADERS, Observability,
    OtlpProtocol, PodMonitorMode, PodOverrides, RequestLog, ServiceType, Sidecar, Tracing,
};

use crate::status::ExpertRouterStatus;

/// What the router is to be.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "expertrouter.dev",
    version = "v1alpha1",
    kind = "ExpertRouter",
    namespaced,
    shortname = "xr",
    category = "expert-router",
    status = "ExpertRouterStatus",
    derive = "PartialEq",
    doc = "Sends each LLM request to the expert that answers it best for the money.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Experts", type_ = "string", json_path = ".status.expertsReady", description = "Ready of all."),
    printcolumn(name = "Model", type_ = "string", json_path = ".status.conditions[?(@.type==\"ModelReady\")].status"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.model.digest", priority = 1),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.policy) || !has(self.policy.fallbackExpert) || self.experts.exists(e, e.name == self.policy.fallbackExpert)",
     "message": crate::rules::FALLBACK_EXISTS},
    {"rule": "!has(self.policy) || !has(self.policy.baselineExpert) || self.experts.exists(e, e.name == self.policy.baselineExpert)",
     "message": crate::rules::BASELINE_EXISTS},
]))]
pub struct ExpertRouterSpec {
    /// Who can answer. Where two are equally good and equally cheap, the earlier one is taken.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub experts: Vec<Expert>,
    /// What predicts how well each expert will answer. Without it, `policy.fallbackExpert` answers everything that is not pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// How experts are compared.
    #[serde(default)]
    pub policy: Policy,
    /// Keeps a conversation with its expert. Without it, each request is decided by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// What may be spent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub budgets: Vec<Budget>,
    /// Who may call. Without it, anyone who reaches the router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_keys: Option<ClientKeys>,
    /// One proxy for all clients. Without it, there are only the sidecars of Pods labelled `expertrouter.dev/inject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// The proxy inside application Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,
    /// Logs, traces, metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observability: Option<Observability>,
}
