//! What all Pods of ours have in common: the restricted Pod security standard, and the overrides a cluster's owner may want.

use std::collections::BTreeMap;

use api::router::PodOverrides;
use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};
use serde_json::{Map, Value, json};

use crate::config::Images;

/// Who Pods run as: nobody in particular.
pub const USER: i64 = 65_532;

fn default_seccomp() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

/// `securityContext` of a Pod, of the data plane and of Jobs alike.
#[must_use]
pub fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(default_seccomp()),
        ..PodSecurityContext::default()
    }
}

/// `securityContext` of a container.
#[must_use]
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// The same where the Pod is somebody else's, and what ours has to be cannot be left to the Pod.
#[must_use]
pub fn guest_security() -> SecurityContext {
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        seccomp_profile: Some(default_seccomp()),
        ..container_security()
    }
}

/// `topologySpreadConstraints` that put pods on different nodes and zones where that can be had.
#[must_use]
pub fn spread(selector: &BTreeMap<String, String>) -> Value {
    let over = |key: &str| json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": selector}});
    json!([over("kubernetes.io/hostname"), over("topology.kubernetes.io/zone")])
}

/// Puts a field where the value is something.
pub fn put(object: &mut Value, field: &str, value: Value) {
    let nothing = match &value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    if !nothing {
        object[field] = value;
    }
}

/// Writes the overrides into a Pod template. Labels of ours cannot be overridden: selectors rely on them.
pub fn overrule(template: &mut Value, overrides: Option<&PodOverrides>) {
    let Some(overrides) = overrides else { return };
    let PodOverrides {
        labels,
        annotations,
        node_selector,
        tolerations,
        image_pull_secrets,
        service_account_name,
        priority_class_name,
        runtime_class_name,
    } = overrides;
    for (key, value) in labels {
        let ours = template["metadata"]["labels"].get(key).is_some();
        if !ours {
            template["metadata"]["labels"][key] = json!(value);
        }
    }
    for (key, value) in annotations {
        template["metadata"]["annotations"][key] = json!(value);
    }
    let spec = &mut template["spec"];
    put(spec, "nodeSelector", json!(node_selector));
    put(spec, "tolerations", json!(tolerations));
    put(spec, "priorityClassName", json!(priority_class_name));
    put(spec, "runtimeClassName", json!(runtime_class_name));
    if let Some(name) = service_account_name {
        spec["serviceAccountName"] = json!(name);
    }
    let mut secrets = spec.get("imagePullSecrets").and_then(Value::as_array).cloned().unwrap_or_default();
    for secret in image_pull_secrets {
        let secret = json!(secret);
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
    put(spec, "imagePullSecrets", json!(secrets));
}

/// `imagePullSecrets` for images of ours.
#[must_use]
pub fn pull_secrets(images: &Images) -> Value {
    images.pull_secrets.iter().map(|name| json!({"name": name})).collect()
}

/// A container's image and when it is pulled.
pub fn image(container: &mut Value, image: &str, policy: Option<&str>) {
    container["image"] = json!(image);
    put(container, "imagePullPolicy", json!(policy));
}

/// Environment variables, in order.
#[must_use]
pub fn env(pairs: &[(&str, String)]) -> Value {
    pairs.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// An HTTP probe.
#[must_use]
pub fn probe(path: &str, port: &str, period: u32, failures: u32) -> Value {
    json!({"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 2})
}

/// Resources as given, or these.
#[must_use]
pub fn resources(given: Option<&k8s_openapi::api::core::v1::ResourceRequirements>, default: Value) -> Value {
    given.map_or(default, |given| json!(given))
}

/// An empty object that fields are put into.
#[must_use]
pub fn object() -> Value {
    Value::Object(Map::new())
}
