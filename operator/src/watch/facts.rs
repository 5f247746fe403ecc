//! Objects to the facts that are kept of them. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        batch::v1::Job,
        core::v1::{ConfigMap, ContainerStatus, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    cache::{DeploymentFacts, Detail, Kind, ObjectKey, PodFacts, Seen, ServiceFacts},
    names,
};

/// The version of the Gateway API that is written.
pub const GATEWAY_API_VERSION: &str = "v1";

/// The name of the proxy's container, in gateways and injected Pods alike.
pub const PROXY: &str = "expert-router";
/// The name of the proxy's admin port.
pub const ADMIN_PORT: &str = "xr-admin";

/// A kind's name, as a metric's label.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment => "Deployment",
        Kind::Service => "Service",
        Kind::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        Kind::PodDisruptionBudget => "PodDisruptionBudget",
        Kind::ConfigMap | Kind::AnyConfigMap => "ConfigMap",
        Kind::ServiceAccount => "ServiceAccount",
        Kind::NetworkPolicy => "NetworkPolicy",
        Kind::HttpRoute => "HTTPRoute",
        Kind::PodMonitor => "PodMonitor",
        Kind::Job => "Job",
        Kind::Secret => "Secret",
        Kind::PersistentVolumeClaim => "PersistentVolumeClaim",
        Kind::EndpointSlice => "EndpointSlice",
        Kind::Pod => "Pod",
    }
}

/// Whether a change is anybody's business. Of kinds whose content is not kept, any write may have changed it.
pub(super) fn is_news(kind: Kind, before: Option<&Seen>, now: &Seen) -> bool {
    let Some(before) = before else { return true };
    match kind {
        Kind::Secret | Kind::AnyConfigMap => before.resource_version != now.resource_version,
        _ => before.differs(now),
    }
}

/// The router whose data plane a Pod carries, as its label has it.
pub(super) fn router_of_pod(seen: &Seen) -> Option<&str> {
    if let Detail::Pod(pod) = &seen.detail { Some(&pod.router) } else { None }
}

fn key(metadata: &ObjectMeta) -> ObjectKey {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

pub(super) fn of_metadata(metadata: &ObjectMeta) -> (ObjectKey, Seen) {
    (key(metadata), Seen::of(metadata, Detail::None))
}

pub(super) fn of_config_map(object: &ConfigMap) -> (ObjectKey, Seen) {
    let data = object.data.clone().unwrap_or_default();
    (key(&object.metadata), Seen::of(&object.metadata, Detail::ConfigMap(Arc::new(data))))
}

pub(super) fn of_job(object: &Job) -> (ObjectKey, Seen) {
    (key(&object.metadata), Seen::of(&object.metadata, Detail::Job(Box::new(object.status.clone().unwrap_or_default()))))
}

/// How a Deployment is.
#[must_use]
pub fn deployment_facts(object: &Deployment) -> DeploymentFacts {
    let status = object.status.clone().unwrap_or_default();
    let trouble = status.conditions.iter().flatten().find(|condition| match condition.type_.as_str() {
        "ReplicaFailure" => condition.status == "True",
        "Progressing" => condition.status == "False",
        _ => false,
    });
    DeploymentFacts {
        replicas: object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        available: status.available_replicas.unwrap_or(0),
        updated: status.updated_replicas.unwrap_or(0),
        current: status.observed_generation >= object.metadata.generation,
        trouble: trouble.and_then(|condition| condition.message.clone()),
    }
}

pub(super) fn of_deployment(object: &Deployment) -> (ObjectKey, Seen) {
    (key(&object.metadata), Seen::of(&object.metadata, Detail::Deployment(deployment_facts(object))))
}

pub(super) fn of_service(object: &Service) -> (ObjectKey, Seen) {
    let spec = object.spec.as_ref();
    let facts = ServiceFacts {
        ports: spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten().map(|port| port.port).collect(),
        external: spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName")),
    };
    (key(&object.metadata), Seen::of(&object.metadata, Detail::Service(facts)))
}

pub(super) fn of_endpoint_slice(object: &EndpointSlice) -> (ObjectKey, Seen) {
    let (namespace, name) = key(&object.metadata);
    let service = object.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"));
    // A slice without a label that says so knows no condition: ready.
    let ready = object
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
    let seen = Seen::of(&object.metadata, Detail::Endpoints(ready.count()));
    ((namespace, format!("{}/{name}", service.map_or("", String::as_str))), seen)
}

pub(super) fn of_pod(object: &Pod) -> (ObjectKey, Seen) {
    let label = |name: &str| object.metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned().unwrap_or_default();
    let annotation = |name: &str| object.metadata.annotations.as_ref().and_then(|annotations| annotations.get(name)).cloned();
    let status = object.status.as_ref();
    let containers = |of: Option<&Vec<ContainerStatus>>| of.cloned().unwrap_or_default();
    let init = containers(status.and_then(|status| status.init_container_statuses.as_ref()));
    let all = [init.clone(), containers(status.and_then(|status| status.container_statuses.as_ref()))].concat();
    let facts = PodFacts {
        router: label(names::ROUTER),
        role: label(names::ROLE),
        admin: admin_address(object),
        revision: annotation(names::REVISION),
        secrets_revision: annotation(names::SECRETS_REVISION),
        ready: all.iter().any(|container| container.name == PROXY && container.ready),
        finished: status.and_then(|status| status.phase.as_deref()).is_some_and(|phase| phase == "Succeeded" || phase == "Failed"),
        init_failure: init.iter().filter(|container| container.name != PROXY).find_map(failure),
    };
    (key(&object.metadata), Seen::of(&object.metadata, Detail::Pod(facts)))
}

fn admin_address(object: &Pod) -> Option<String> {
    let address = object.status.as_ref()?.pod_ip.as_deref().filter(|address| !address.is_empty())?;
    let spec = object.spec.as_ref()?;
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let ports = containers.filter(|container| container.name == PROXY).flat_map(|container| container.ports.iter().flatten());
    let port = ports.filter(|port| port.name.as_deref() == Some(ADMIN_PORT)).map(|port| port.container_port).next()?;
    Some(if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") })
}

/// What a container that failed said at its end.
fn failure(container: &ContainerStatus) -> Option<String> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let ended = states.into_iter().flatten().find_map(|state| state.terminated.as_ref()).filter(|ended| ended.exit_code != 0)?;
    let message = ended.message.as_deref().unwrap_or_default().trim();
    let line = message.lines().last().unwrap_or_default();
    Some(if line.is_empty() { format!("container {} ended with {}", container.name, ended.exit_code) } else { line.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_says_where_its_proxy_is_looked_at() {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "app", "namespace": "llm", "labels": {names::ROUTER: "chat", names::ROLE: "sidecar"}, "annotations": {names::REVISION: "ab"}},
            "spec": {
                "containers": [{"name": "app", "ports": [{"name": "xr-admin", "containerPort": 1}]}],
                "initContainers": [{"name": "expert-router", "ports": [{"containerPort": 15080}, {"name": "xr-admin", "containerPort": 15090}]}],
            },
            "status": {"podIP": "fd00::7", "initContainerStatuses": [{"name": "expert-router", "ready": true, "restartCount": 0, "image": "", "imageID": ""}]},
        }))
        .unwrap();
        let (_, seen) = of_pod(&pod);
        let Detail::Pod(facts) = seen.detail else { panic!() };
        assert_eq!(facts.admin.as_deref(), Some("[fd00::7]:15090"));
        assert!(facts.ready && facts.role == "sidecar" && facts.revision.as_deref() == Some("ab"));
    }

    #[test]
    fn a_fetch_that_failed_says_why() {
        let status = serde_json::from_value(json!({
            "name": "bundle", "ready": false, "restartCount": 3, "image": "", "imageID": "",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 2, "message": "reading\nexpected sha256 ab, got cd\n"}},
        }))
        .unwrap();
        assert_eq!(failure(&status).as_deref(), Some("expected sha256 ab, got cd"));
    }

    #[test]
    fn a_rollout_that_is_stuck_says_why() {
        let deployment = serde_json::from_value(json!({
            "metadata": {"name": "a", "generation": 2},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"observedGeneration": 1, "availableReplicas": 1, "conditions": [
                {"type": "Available", "status": "False", "message": "no"},
                {"type": "Progressing", "status": "False", "message": "ReplicaSet a-1 has timed out progressing."},
            ]},
        }))
        .unwrap();
        let Detail::Deployment(facts) = of_deployment(&deployment).1.detail else { panic!() };
        assert_eq!((facts.replicas, facts.available, facts.current), (2, 1, false));
        assert!(facts.trouble.unwrap().contains("timed out"));
    }

    #[test]
    fn a_write_to_a_secret_is_news_and_one_to_a_deployment_only_if_it_matters() {
        let at = |version: &str| Seen::of(&ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() }, Detail::None);
        assert!(is_news(Kind::Secret, Some(&at("1")), &at("2")));
        assert!(!is_news(Kind::Deployment, Some(&at("1")), &at("2")));
        assert!(is_news(Kind::Deployment, None, &at("1")));
    }
}
