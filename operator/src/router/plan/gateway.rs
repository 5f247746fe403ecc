//! The gateway's objects: one proxy for all clients.

use std::collections::BTreeMap;

use api::router::{Gateway, HttpRoute, ServiceType};
use serde_json::{Value, json};

use super::{
    data_plane::{KeptRequests, Place, data_plane},
    expert::autoscaler,
    metadata, names, pod,
};
use crate::{apply::Child, cache::Kind, config::Images, names as labels, router::valid::ValidRouter};

const ROLE: &str = "gateway";
/// Where the proxy listens.
pub const PORT: u16 = 8080;
/// Where its metrics and health are.
pub const ADMIN_PORT: u16 = 9090;
/// Load balancers need this long to look elsewhere.
const DRAIN_DELAY_SECONDS: u16 = 5;

/// Deployment, Service, and what goes with them.
#[must_use]
pub fn children(router: &ValidRouter, gateway: &Gateway, images: &Images) -> Vec<Child> {
    let name = names::gateway(router.name());
    let about = |kind: Kind, object: Value| {
        let mut object = object;
        object["metadata"] = metadata(router, &name, ROLE);
        Child::planned(kind, name.clone(), object)
    };
    let selector = selector(router);
    let mut children = vec![
        about(Kind::Deployment, json!({"spec": deployment_spec(router, gateway, images)})),
        about(Kind::Service, json!({"spec": service_spec(gateway, &selector)})),
        about(Kind::PodDisruptionBudget, json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector}}})),
    ];
    if let Some(autoscaling) = &gateway.autoscaling {
        children.push(about(Kind::HorizontalPodAutoscaler, json!({"spec": autoscaler(&name, autoscaling)})));
    }
    if let Some(route) = gateway.http_route.as_ref().filter(|_| router.has_http_routes) {
        children.push(about(Kind::HttpRoute, json!({"spec": route_spec(&name, gateway, route)})));
    }
    children
}

/// Where clients reach the gateway from inside the cluster.
#[must_use]
pub fn url(router: &ValidRouter, gateway: &Gateway) -> String {
    let (scheme, _) = outside(gateway);
    format!("{scheme}://{}.{}.svc/v1", names::gateway(router.name()), router.namespace())
}

/// Scheme and port of the Service: the usual ones, so that neither has to be written down.
fn outside(gateway: &Gateway) -> (&'static str, u16) {
    if gateway.tls_secret_ref.is_some() { ("https", 443) } else { ("http", 80) }
}

/// The labels gateway pods are found by.
#[must_use]
pub fn selector(router: &ValidRouter) -> BTreeMap<String, String> {
    let pairs = [(labels::ROUTER, labels::label_value(router.name())), (labels::ROLE, ROLE.to_owned())];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn service_spec(gateway: &Gateway, selector: &BTreeMap<String, String>) -> Value {
    let kind = match gateway.service_type {
        None | Some(ServiceType::ClusterIP) => "ClusterIP",
        Some(ServiceType::NodePort) => "NodePort",
        Some(ServiceType::LoadBalancer) => "LoadBalancer",
    };
    let (scheme, port) = outside(gateway);
    json!({
        "type": kind,
        "selector": selector,
        "ports": [{"name": scheme, "port": port, "targetPort": scheme, "protocol": "TCP", "appProtocol": scheme}],
    })
}

fn route_spec(name: &str, gateway: &Gateway, route: &HttpRoute) -> Value {
    let HttpRoute { gateway_ref, hostnames } = route;
    let mut parent = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway_ref.name});
    pod::put(&mut parent, "namespace", json!(gateway_ref.namespace));
    let (_, port) = outside(gateway);
    let mut spec = json!({
        "parentRefs": [parent],
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
            "backendRefs": [{"group": "", "kind": "Service", "name": name, "port": port, "weight": 1}],
        }],
    });
    pod::put(&mut spec, "hostnames", json!(hostnames));
    spec
}

fn deployment_spec(router: &ValidRouter, gateway: &Gateway, images: &Images) -> Value {
    let listen = format!("0.0.0.0:{PORT}");
    let place = Place {
        listen: &listen,
        admin_port: ADMIN_PORT,
        drain_delay_seconds: DRAIN_DELAY_SECONDS,
        kept_requests: if router.log_problem.is_none() { KeptRequests::Claim } else { KeptRequests::Nowhere },
        tls_secret: gateway.tls_secret_ref.as_ref().map(|secret| secret.name.as_str()),
    };
    let parts = data_plane(router.name(), &router.spec, router.bundle.as_ref(), place, images);
    let mut proxy = parts.proxy;
    let (scheme, _) = outside(gateway);
    if let Some(ports) = proxy["ports"].as_array_mut() {
        ports.insert(0, json!({"name": scheme, "containerPort": PORT, "protocol": "TCP"}));
    }
    proxy["securityContext"] = json!(pod::container_security());
    let default = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}});
    proxy["resources"] = pod::resources(gateway.resources.as_ref(), default);
    let selector = selector(router);
    let mut template = json!({
        "metadata": {"labels": labels::labels(&router.owner.key, ROLE)},
        "spec": {
            "serviceAccountName": names::service_account(router.name()),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": pod::pod_security(),
            "terminationGracePeriodSeconds": parts.grace_seconds,
            "topologySpreadConstraints": pod::spread(&selector),
            "containers": [proxy],
            "volumes": parts.volumes,
        },
    });
    if let Some(mut fetcher) = parts.fetcher {
        fetcher["securityContext"] = json!(pod::container_security());
        template["spec"]["initContainers"] = json!([fetcher]);
    }
    pod::put(&mut template["spec"], "imagePullSecrets", pod::pull_secrets(images));
    pod::overrule(&mut template, gateway.pod_overrides.as_ref());
    let mut spec = json!({
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "revisionHistoryLimit": 3,
        "template": template,
    });
    if gateway.autoscaling.is_none() {
        spec["replicas"] = json!(gateway.replicas.unwrap_or(1));
    }
    spec
}
