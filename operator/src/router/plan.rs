//! A valid router to everything that is to be for it. Pure: the same router is the same plan.
//!
//! Objects are written here as a manifest would have them; a test holds each against its Kubernetes type. `apply` adds namespace, owner and
//! digest.

pub mod data_plane;
pub mod expert;
pub mod gateway;
pub mod names;
pub mod network;
pub mod pod;

use std::marker::PhantomData;

use serde_json::{Value, json};

use super::valid::ValidRouter;
use crate::{apply::Child, cache::Kind, config::Images, names::labels};

/// Worked out, and not written yet.
#[derive(Debug, Clone, Copy)]
pub struct Prepared;
/// Written.
#[derive(Debug, Clone, Copy)]
pub struct Applied;

/// Everything that is to be for a router.
#[derive(Debug, Clone)]
pub struct Plan<State> {
    /// The objects, in the order they are written: what others mount comes first.
    pub children: Vec<Child>,
    /// The snapshot's revision, for the Pods that mount it; absent while there is no snapshot of this spec.
    pub revision: Option<String>,
    state: PhantomData<State>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLarge {
    /// Of the snapshot.
    pub bytes: usize,
}

/// The kinds that are pruned: all that a plan may have. The snapshot is not: one in force is replaced and never taken away.
pub const PRUNED: [Kind; 8] = [
    Kind::Deployment,
    Kind::Service,
    Kind::HorizontalPodAutoscaler,
    Kind::PodDisruptionBudget,
    Kind::ServiceAccount,
    Kind::NetworkPolicy,
    Kind::HttpRoute,
    Kind::PodMonitor,
];

/// What a ConfigMap may hold, less some room for its metadata.
const MOST_SNAPSHOT_BYTES: usize = 1_000_000;

/// The file of the snapshot, in its ConfigMap.
pub const SNAPSHOT_KEY: &str = "snapshot.json";
/// The file of what was spent, in its ConfigMap.
pub const SPEND_KEY: &str = "spend.json";

/// Plans a router. `spend` is what is to be remembered of spending.
///
/// # Errors
/// The snapshot does not fit into a ConfigMap.
pub fn plan(router: &ValidRouter, spend: Option<&str>, images: &Images) -> Result<Plan<Prepared>, TooLarge> {
    let mut children = vec![service_account(router)];
    if let Some(snapshot) = &router.snapshot {
        let json = serde_json::to_string_pretty(snapshot).expect("a snapshot has string keys only");
        if json.len() > MOST_SNAPSHOT_BYTES {
            return Err(TooLarge { bytes: json.len() });
        }
        let revision = json!({crate::names::REVISION: snapshot.revision});
        children.push(config_map(router, names::snapshot(router.name()), "snapshot", &revision, json!({SNAPSHOT_KEY: json})));
    }
    if let Some(spend) = spend {
        children.push(config_map(router, names::spend(router.name()), "spend", &json!({}), json!({SPEND_KEY: spend})));
    }
    for (expert, deployment) in router.deployed() {
        children.extend(expert::children(router, &expert.name, deployment));
    }
    if let Some(gateway) = router.gateway() {
        children.extend(gateway::children(router, gateway, images));
        children.push(network::policy(router));
    }
    if router.has_pod_monitors && wants_pod_monitor(router) {
        children.push(pod_monitor(router));
    }
    let revision = router.snapshot.as_ref().map(|snapshot| snapshot.revision.clone());
    Ok(Plan { children, revision, state: PhantomData })
}

impl Plan<Prepared> {
    /// It was written.
    #[must_use]
    pub fn applied(self) -> Plan<Applied> {
        Plan { children: self.children, revision: self.revision, state: PhantomData }
    }
}

/// Metadata of a child.
pub(crate) fn metadata(router: &ValidRouter, name: &str, role: &str) -> Value {
    json!({"name": name, "labels": labels(&router.owner.key, role)})
}

fn service_account(router: &ValidRouter) -> Child {
    let name = names::service_account(router.name());
    let object = json!({"metadata": metadata(router, &name, "data-plane"), "automountServiceAccountToken": false});
    Child::planned(Kind::ServiceAccount, name, object)
}

fn config_map(router: &ValidRouter, name: String, role: &str, annotations: &Value, data: Value) -> Child {
    let mut metadata = metadata(router, &name, role);
    metadata["annotations"] = annotations.clone();
    Child::planned(Kind::ConfigMap, name, json!({"metadata": metadata, "data": data}))
}

fn wants_pod_monitor(router: &ValidRouter) -> bool {
    let mode = router.spec.observability.as_ref().and_then(|observability| observability.pod_monitor);
    mode != Some(api::router::PodMonitorMode::Never)
}

fn pod_monitor(router: &ValidRouter) -> Child {
    let name = names::pod_monitor(router.name());
    let label = crate::names::label_value(router.name());
    let object = json!({
        "metadata": metadata(router, &name, "monitor"),
        "spec": {
            "selector": {
                "matchLabels": {crate::names::ROUTER: label},
                "matchExpressions": [{"key": crate::names::ROLE, "operator": "In", "values": ["gateway", "sidecar"]}],
            },
            "podTargetLabels": [crate::names::ROUTER, crate::names::ROLE],
            "podMetricsEndpoints": [{"port": crate::watch::ADMIN_PORT, "path": "/metrics"}],
        },
    });
    Child::planned(Kind::PodMonitor, name, object)
}
