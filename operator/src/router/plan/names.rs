//! What a router's children are called. With the router's name in front, so that they sort together.

use api::router::{Deployment, ServiceAddress};

use crate::names::child;

/// The account of gateways and experts: without rights and without a token.
#[must_use]
pub fn service_account(router: &str) -> String {
    child(router, "data-plane")
}

/// The ConfigMap the data plane mounts.
#[must_use]
pub fn snapshot(router: &str) -> String {
    child(router, "snapshot")
}

/// The ConfigMap of what was spent.
#[must_use]
pub fn spend(router: &str) -> String {
    child(router, "spend")
}

/// The gateway's Deployment, Service, HorizontalPodAutoscaler, PodDisruptionBudget, HTTPRoute and NetworkPolicy.
#[must_use]
pub fn gateway(router: &str) -> String {
    child(router, "gateway")
}

/// An expert's Deployment, Service, HorizontalPodAutoscaler and PodDisruptionBudget.
#[must_use]
pub fn expert(router: &str, expert: &str) -> String {
    child(router, &format!("expert-{expert}"))
}

/// The PodMonitor of gateway and sidecars.
#[must_use]
pub fn pod_monitor(router: &str) -> String {
    child(router, "data-plane")
}

/// Where an expert that is run is called.
#[must_use]
pub fn expert_url(namespace: &str, router: &str, expert_name: &str, deployment: &Deployment) -> String {
    let address = ServiceAddress { name: expert(router, expert_name), port: deployment.port, path: deployment.path.clone() };
    api::service_url(namespace, &address)
}
