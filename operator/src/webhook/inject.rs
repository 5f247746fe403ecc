//! A Pod and its router to the Pod with a sidecar. Pure, and the same when done twice.

use api::ExpertRouterSpec;
use serde_json::{Value, json};

use crate::{
    config::Images,
    names,
    router::{
        bundle::Source,
        plan::{
            data_plane::{KeptRequests, Place, data_plane},
            pod,
        },
    },
    watch::PROXY,
};

/// Where the application calls its sidecar, unless [`PORT`] says otherwise.
const DEFAULT_PORT: u16 = 15_080;
/// The sidecar's admin port, unless [`ADMIN_PORT`] says otherwise.
const DEFAULT_ADMIN_PORT: u16 = 15_090;
/// Annotation of a Pod: where its application calls the sidecar.
pub const PORT: &str = "expertrouter.dev/port";
/// Annotation of a Pod: the sidecar's admin port.
pub const ADMIN_PORT: &str = "expertrouter.dev/admin-port";
/// What OpenAI's SDKs read by themselves.
const BASE_URL: &str = "OPENAI_BASE_URL";
/// What Kubernetes gives a Pod to end that does not say.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// The router a Pod is injected for.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: ExpertRouterSpec,
    /// Where its bundle comes from.
    pub bundle: Option<Source>,
    /// Of its snapshot.
    pub revision: Option<String>,
}

/// The router a Pod asks for.
#[must_use]
pub fn router_of(pod: &Value) -> Option<String> {
    let name = pod["metadata"]["labels"].get(names::INJECT)?.as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Injects; nothing where there is nothing left to do.
///
/// # Errors
/// What is wrong with the Pod's annotations.
pub fn inject(pod: &Value, target: &Target, images: &Images) -> Result<Option<Value>, String> {
    let mut injected = pod.clone();
    let port = port(pod, PORT, DEFAULT_PORT)?;
    let admin_port = port_other_than(pod, port)?;
    let has_proxy = containers(pod, "initContainers").any(|container| container["name"] == PROXY);
    if containers(pod, "containers").any(|container| container["name"] == PROXY) {
        return Err(format!("container {PROXY} is the sidecar's name: call yours another"));
    }
    if !has_proxy {
        add_sidecar(&mut injected, target, port, admin_port, images);
    }
    let url = format!("http://127.0.0.1:{port}/v1");
    for list in ["initContainers", "containers"] {
        for container in injected["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if container["name"] != PROXY && container["name"] != "expert-router-bundle" {
                add_base_url(container, &url);
            }
        }
    }
    Ok((injected != *pod).then_some(injected))
}

fn containers<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    pod["spec"].get(list).and_then(Value::as_array).into_iter().flatten()
}

fn port(pod: &Value, annotation: &str, default: u16) -> Result<u16, String> {
    let Some(text) = pod["metadata"]["annotations"].get(annotation).and_then(Value::as_str) else { return Ok(default) };
    match text.parse::<u16>() {
        // Lower ones are not for those who are not root.
        Ok(port) if port >= 1024 => Ok(port),
        _ => Err(format!("annotation {annotation}: expected a port from 1024 to 65535, got {text:?}")),
    }
}

fn port_other_than(pod: &Value, taken: u16) -> Result<u16, String> {
    let admin_port = port(pod, ADMIN_PORT, DEFAULT_ADMIN_PORT)?;
    if admin_port == taken {
        return Err(format!("annotations {PORT} and {ADMIN_PORT}: expected two different ports, got {taken} twice"));
    }
    Ok(admin_port)
}

fn add_sidecar(pod: &mut Value, target: &Target, port: u16, admin_port: u16, images: &Images) {
    let listen = format!("127.0.0.1:{port}");
    let place = Place { listen: &listen, admin_port, drain_delay_seconds: 0, tls_secret: None, kept_requests: KeptRequests::Pod };
    let parts = data_plane(&target.name, &target.spec, target.bundle.as_ref(), place, images);
    let mut proxy = parts.proxy;
    // A native sidecar: started before the application and before its other init containers, stopped after it.
    proxy["restartPolicy"] = json!("Always");
    proxy["securityContext"] = json!(pod::guest_security());
    let given = target.spec.sidecar.as_ref().and_then(|sidecar| sidecar.resources.as_ref());
    proxy["resources"] = pod::resources(given, json!({"requests": {"cpu": "50m", "memory": "48Mi"}, "limits": {"memory": "512Mi"}}));
    let mut first = Vec::new();
    if let Some(mut fetcher) = parts.fetcher {
        fetcher["securityContext"] = json!(pod::guest_security());
        first.push(fetcher);
    }
    first.push(proxy);
    let spec = &mut pod["spec"];
    let list = |spec: &Value, name: &str| spec.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    first.extend(list(spec, "initContainers"));
    spec["initContainers"] = json!(first);
    let mut volumes = list(spec, "volumes");
    volumes.extend(parts.volumes);
    spec["volumes"] = json!(volumes);
    let mut secrets = list(spec, "imagePullSecrets");
    for name in &images.pull_secrets {
        let secret = json!({"name": name});
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
    pod::put(spec, "imagePullSecrets", json!(secrets));
    let grace = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_GRACE_SECONDS);
    spec["terminationGracePeriodSeconds"] = json!(grace.max(i64::from(parts.grace_seconds)));
    let metadata = &mut pod["metadata"];
    metadata["labels"][names::ROUTER] = json!(names::label_value(&target.name));
    metadata["labels"][names::ROLE] = json!("sidecar");
    if let Some(revision) = &target.revision {
        metadata["annotations"][names::REVISION] = json!(revision);
    }
}

fn add_base_url(container: &mut Value, url: &str) {
    let mut variables = container.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
    if !variables.iter().any(|variable| variable["name"] == BASE_URL) {
        variables.push(json!({"name": BASE_URL, "value": url}));
        container["env"] = json!(variables);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn target() -> Target {
        let spec = json!({
            "experts": [{"name": "a", "url": "https://a/v1", "modelName": "m", "credentials": {"secretRef": {"name": "s", "key": "k"}}}],
            "sidecar": {"drainSeconds": 60},
        });
        let bundle = Source::Volume { claim: "models".into(), path: None, sha256: None };
        Target { name: "chat".into(), spec: serde_json::from_value(spec).unwrap(), bundle: Some(bundle), revision: Some("ab".into()) }
    }

    fn images() -> Images {
        Images { router: "router:1".into(), train: "train:1".into(), pull_policy: None, pull_secrets: vec!["pull".into()] }
    }

    fn pod() -> Value {
        json!({
            "metadata": {"name": "app", "labels": {"expertrouter.dev/inject": "chat"}},
            "spec": {
                "initContainers": [{"name": "migrate", "image": "m"}],
                "containers": [
                    {"name": "app", "image": "a"},
                    {"name": "other", "image": "o", "env": [{"name": "OPENAI_BASE_URL", "value": "http://elsewhere/v1"}]},
                ],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        })
    }

    fn injected(pod: &Value) -> Value {
        inject(pod, &target(), &images()).unwrap().unwrap()
    }

    #[test]
    fn a_pod_gets_a_native_sidecar_before_everything_else() {
        let pod = injected(&pod());
        let spec = &pod["spec"];
        let names: Vec<_> = spec["initContainers"].as_array().unwrap().iter().map(|container| &container["name"]).collect();
        assert_eq!(names, ["expert-router", "migrate"]);
        assert_eq!(spec["initContainers"][0]["restartPolicy"], "Always");
        assert_eq!(spec["terminationGracePeriodSeconds"], 65);
        assert_eq!(pod["metadata"]["labels"]["expertrouter.dev/router"], "chat");
        assert_eq!(pod["metadata"]["annotations"]["expertrouter.dev/snapshot-revision"], "ab");
        let variables = spec["initContainers"][0]["env"].as_array().unwrap();
        assert!(variables.contains(&json!({"name": "EXPERT_ROUTER_LISTEN", "value": "127.0.0.1:15080"})));
    }

    #[test]
    fn the_base_url_is_set_where_it_is_not() {
        let pod = injected(&pod());
        let url = |container: &Value| container["env"][0]["value"].as_str().unwrap().to_owned();
        assert_eq!(url(&pod["spec"]["containers"][0]), "http://127.0.0.1:15080/v1");
        assert_eq!(url(&pod["spec"]["containers"][1]), "http://elsewhere/v1");
        assert_eq!(url(&pod["spec"]["initContainers"][1]), "http://127.0.0.1:15080/v1");
    }

    #[test]
    fn once_is_enough_and_a_container_that_came_later_is_told_where_to_call() {
        let mut pod = injected(&pod());
        assert_eq!(inject(&pod, &target(), &images()), Ok(None));
        pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late", "image": "l"}));
        let again = injected(&pod);
        assert_eq!(again["spec"]["containers"][2]["env"][0]["name"], "OPENAI_BASE_URL");
        assert_eq!(again["spec"]["initContainers"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn ports_are_the_annotations_to_say() {
        let mut with = pod();
        with["metadata"]["annotations"] = json!({PORT: "16000", ADMIN_PORT: "16001"});
        let pod = injected(&with);
        assert_eq!(pod["spec"]["initContainers"][0]["ports"][0]["containerPort"], 16001);
        assert_eq!(pod["spec"]["containers"][0]["env"][0]["value"], "http://127.0.0.1:16000/v1");
        for (port, admin_port) in [("80", "16001"), ("x", "16001"), ("16001", "16001"), ("70000", "1")] {
            with["metadata"]["annotations"] = json!({PORT: port, ADMIN_PORT: admin_port});
            assert!(inject(&with, &target(), &images()).unwrap_err().starts_with("annotation"));
        }
    }

    #[test]
    fn a_guest_keeps_requests_in_a_folder_that_lives_as_long_as_its_pod() {
        let mut target = target();
        let log = json!({"requestLog": {"maxTotalMebibytes": 64, "persistentVolumeClaim": {"name": "requests"}}});
        target.spec.observability = Some(serde_json::from_value(log).unwrap());
        let pod = inject(&pod(), &target, &images()).unwrap().unwrap();
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        assert!(volumes.contains(&json!({"name": "xr-requests", "emptyDir": {"sizeLimit": "112Mi"}})), "{volumes:?}");
        let variables = pod["spec"]["initContainers"][0]["env"].as_array().unwrap();
        assert!(variables.contains(&json!({"name": "EXPERT_ROUTER_REQUEST_LOG_DIR", "value": "/var/lib/expert-router/requests"})));
    }

    #[test]
    fn what_comes_out_is_a_pod() {
        let pod = injected(&pod());
        let typed: Pod = serde_json::from_value(pod.clone()).unwrap();
        let again = serde_json::to_value(typed).unwrap();
        assert_eq!(again["spec"]["initContainers"], pod["spec"]["initContainers"]);
        assert_eq!(again["spec"]["volumes"], pod["spec"]["volumes"]);
    }

    #[test]
    fn a_pod_without_the_label_is_nobody_s() {
        assert_eq!(router_of(&json!({"metadata": {}})), None);
        assert_eq!(router_of(&json!({"metadata": {"labels": {"expertrouter.dev/inject": ""}}})), None);
    }
}
