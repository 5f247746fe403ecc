//! The objects of one expert that is run.

use std::collections::BTreeMap;

use api::router::{Autoscaling, Deployment};
use serde_json::{Value, json};

use super::{metadata, names, pod};
use crate::{apply::Child, cache::Kind, names as labels, router::valid::ValidRouter};

const ROLE: &str = "expert";
const PORT: &str = "http";
/// How long the server may take to load its model, where the spec does not say.
const STARTUP_SECONDS: u32 = 600;
const STARTUP_PERIOD: u32 = 5;
/// How long answers under way may take to end when a pod is stopped: as long as the proxy's default for a whole answer would be cut, so
/// a server is given five minutes and, as a rule, needs seconds.
const GRACE_SECONDS: u32 = 300;
/// Endpoints need this long to be taken out everywhere before the server is told to stop.
const PRESTOP_SECONDS: u32 = 5;

/// Deployment, Service, and what goes with them.
#[must_use]
pub fn children(router: &ValidRouter, expert: &str, deployment: &Deployment) -> Vec<Child> {
    let name = names::expert(router.name(), expert);
    let about = |kind: Kind, object: Value| {
        let mut object = object;
        object["metadata"] = metadata(router, &name, ROLE);
        object["metadata"]["labels"][labels::EXPERT] = json!(expert);
        Child::planned(kind, name.clone(), object)
    };
    let selector = selector(router, expert);
    let mut children = vec![
        about(Kind::Deployment, json!({"spec": deployment_spec(router, expert, deployment, &selector)})),
        about(
            Kind::Service,
            json!({"spec": {"selector": selector, "ports": [{"name": PORT, "port": deployment.port, "targetPort": PORT, "protocol": "TCP"}]}}),
        ),
        about(Kind::PodDisruptionBudget, json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector}}})),
    ];
    if let Some(autoscaling) = &deployment.autoscaling {
        children.push(about(Kind::HorizontalPodAutoscaler, json!({"spec": autoscaler(&name, autoscaling)})));
    }
    children
}

fn selector(router: &ValidRouter, expert: &str) -> BTreeMap<String, String> {
    let pairs =
        [(labels::ROUTER, labels::label_value(router.name())), (labels::EXPERT, expert.to_owned()), (labels::ROLE, ROLE.to_owned())];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The spec of a HorizontalPodAutoscaler.
#[must_use]
pub fn autoscaler(deployment: &str, autoscaling: &Autoscaling) -> Value {
    let Autoscaling { min_replicas, max_replicas, target_cpu_percent } = autoscaling;
    json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
        "minReplicas": min_replicas.unwrap_or(1),
        "maxReplicas": max_replicas,
        "metrics": [{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target_cpu_percent.unwrap_or(80)}},
        }],
    })
}

fn deployment_spec(router: &ValidRouter, expert: &str, deployment: &Deployment, selector: &BTreeMap<String, String>) -> Value {
    let mut template = json!({
        "metadata": {"labels": labels::labels(&router.owner.key, ROLE)},
        "spec": {
            "serviceAccountName": names::service_account(router.name()),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": pod::pod_security(),
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "topologySpreadConstraints": pod::spread(selector),
            "containers": [container(deployment)],
            "volumes": volumes(deployment),
        },
    });
    template["metadata"]["labels"][labels::EXPERT] = json!(expert);
    pod::overrule(&mut template, deployment.pod_overrides.as_ref());
    let mut spec = json!({
        "selector": {"matchLabels": selector},
        // Models take long to load and their hardware is dear: one more pod at a time, and none less.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": deployment.startup_seconds.unwrap_or(STARTUP_SECONDS).saturating_add(60),
        "revisionHistoryLimit": 3,
        "template": template,
    });
    // The autoscaler's to say where there is one.
    if deployment.autoscaling.is_none() {
        spec["replicas"] = json!(deployment.replicas.unwrap_or(1));
    }
    spec
}

fn container(deployment: &Deployment) -> Value {
    let Deployment {
        image,
        image_pull_policy,
        command,
        args,
        env,
        port,
        path: _,
        readiness_path,
        startup_seconds,
        resources,
        replicas: _,
        autoscaling: _,
        model_cache,
        pod_overrides: _,
    } = deployment;
    let ready = readiness_path.as_deref().unwrap_or("/health");
    let mut container = json!({
        "name": "server",
        "ports": [{"name": PORT, "containerPort": port, "protocol": "TCP"}],
        "securityContext": pod::container_security(),
        "startupProbe": pod::probe(ready, PORT, STARTUP_PERIOD, startup_seconds.unwrap_or(STARTUP_SECONDS).div_ceil(STARTUP_PERIOD)),
        "readinessProbe": pod::probe(ready, PORT, 5, 3),
        // Servers that are busy answer slowly; one that has not for two minutes has hung.
        "livenessProbe": pod::probe(ready, PORT, 20, 6),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRESTOP_SECONDS}}},
    });
    let policy = image_pull_policy.map(|policy| json!(policy));
    pod::image(&mut container, image, policy.as_ref().and_then(Value::as_str));
    pod::put(&mut container, "command", json!(command));
    pod::put(&mut container, "args", json!(args));
    let mut variables = json!(env);
    // The root file system is read-only: what a server keeps in its home goes to /tmp.
    if !env.iter().any(|variable| variable.name == "HOME")
        && let Some(variables) = variables.as_array_mut()
    {
        variables.push(json!({"name": "HOME", "value": "/tmp"}));
    }
    container["env"] = variables;
    pod::put(&mut container, "resources", pod::resources(resources.as_ref(), Value::Null));
    let mut mounts = vec![json!({"name": "tmp", "mountPath": "/tmp"})];
    mounts.extend(model_cache.iter().map(|cache| json!({"name": "models", "mountPath": cache.mount_path})));
    container["volumeMounts"] = json!(mounts);
    container
}

fn volumes(deployment: &Deployment) -> Value {
    let mut volumes = vec![json!({"name": "tmp", "emptyDir": {}})];
    let cache = deployment.model_cache.iter();
    volumes.extend(cache.map(|cache| json!({"name": "models", "persistentVolumeClaim": {"claimName": cache.persistent_volume_claim}})));
    json!(volumes)
}
