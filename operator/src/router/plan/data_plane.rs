//! The proxy's container and all it needs, the same in gateways and in injected Pods: snapshot, secrets and bundle as files.

use std::{collections::BTreeMap, path::PathBuf};

use api::{
    ExpertRouterSpec,
    references::SecretKeyRef,
    router::{LogLevel, OTLP_HEADERS, Sidecar, Tracing},
};
use serde_json::{Value, json};

use super::{SNAPSHOT_KEY, names, pod};
use crate::{
    config::Images,
    router::{
        bundle::{FETCHED, Source, VOLUMES},
        valid::all_secret_keys,
    },
    watch::{ADMIN_PORT, PROXY},
};

const SNAPSHOT: &str = "/etc/expert-router/snapshot";
const SECRETS: &str = "/etc/expert-router/secrets";
const STORE: &str = "/etc/expert-router/store";
const REQUESTS: &str = "/var/lib/expert-router/requests";
const TLS: &str = "/etc/expert-router/tls";
const BUNDLE_FETCHER: &str = "expert-router-bundle";
/// How long requests may take to end, where the spec does not say.
const DRAIN_SECONDS: u16 = 30;
/// Beside draining, what a process needs to end.
const SPARE_SECONDS: u16 = 5;

/// The file a key of a Secret is mounted as.
#[must_use]
pub fn secret_file(key: &SecretKeyRef) -> PathBuf {
    PathBuf::from(SECRETS).join(&key.name).join(&key.key)
}

/// What tells gateway and sidecar apart.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Where clients call.
    pub listen: &'a str,
    /// The admin port, on all addresses: kubelet and Prometheus come from outside.
    pub admin_port: u16,
    /// How long to be unready but still accept, when stopped.
    pub drain_delay_seconds: u16,
    /// The Secret of a certificate to serve TLS with.
    pub tls_secret: Option<&'a str>,
    /// Where requests go that the spec would have kept.
    pub kept_requests: KeptRequests,
}

/// Where requests go that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptRequests {
    /// To the claim the spec names; where it names none, to a folder that ends with its Pod.
    Claim,
    /// To a folder that ends with its Pod, whatever the spec names: no claim goes into a Pod that is somebody else's.
    Pod,
    /// Nowhere: the claim is not there, and a Pod that waits for it would answer nobody.
    Nowhere,
}

/// The parts of a Pod that make it carry the data plane.
#[derive(Debug, Clone)]
pub struct DataPlane {
    /// Volumes of the Pod, by names nobody else uses.
    pub volumes: Vec<Value>,
    /// Fetches the bundle, where it has to be fetched.
    pub fetcher: Option<Value>,
    /// The proxy, without ports of clients.
    pub proxy: Value,
    /// How long the Pod needs to end.
    pub grace_seconds: u16,
}

/// Makes the parts.
#[must_use]
pub fn data_plane(router: &str, spec: &ExpertRouterSpec, bundle: Option<&Source>, place: Place<'_>, images: &Images) -> DataPlane {
    let sidecar = spec.sidecar.clone().unwrap_or_default();
    let drain = sidecar.drain_seconds.unwrap_or(DRAIN_SECONDS);
    let mut volumes = vec![
        json!({"name": "xr-snapshot", "configMap": {"name": names::snapshot(router), "items": [{"key": SNAPSHOT_KEY, "path": SNAPSHOT_KEY}]}}),
        json!({"name": "xr-tmp", "emptyDir": {"sizeLimit": "64Mi"}}),
    ];
    let mut mounts =
        vec![json!({"name": "xr-snapshot", "mountPath": SNAPSHOT, "readOnly": true}), json!({"name": "xr-tmp", "mountPath": "/tmp"})];
    if let Some(secrets) = secrets(spec) {
        volumes.push(secrets);
        mounts.push(json!({"name": "xr-secrets", "mountPath": SECRETS, "readOnly": true}));
    }
    if let Some(secret) = place.tls_secret {
        volumes.push(json!({"name": "xr-tls", "secret": {"secretName": secret}}));
        mounts.push(json!({"name": "xr-tls", "mountPath": TLS, "readOnly": true}));
    }
    let fetcher = match bundle {
        Some(Source::Volume { claim, .. }) => {
            volumes.push(json!({"name": "xr-bundle", "persistentVolumeClaim": {"claimName": claim, "readOnly": true}}));
            mounts.push(json!({"name": "xr-bundle", "mountPath": format!("{VOLUMES}/{claim}"), "readOnly": true}));
            None
        }
        Some(source @ Source::Fetch { uri, sha256, credentials }) => {
            volumes.push(json!({"name": "xr-bundle", "emptyDir": {"sizeLimit": "4Gi"}}));
            volumes.extend(credentials.iter().map(|name| json!({"name": "xr-store", "secret": {"secretName": name}})));
            mounts.push(json!({"name": "xr-bundle", "mountPath": FETCHED, "readOnly": true}));
            source.folder().map(|folder| fetcher(uri, &folder, sha256.as_ref(), credentials.is_some(), images))
        }
        None => None,
    };
    let requests = request_log(spec, place, &mut volumes, &mut mounts);
    let mut proxy = proxy(spec, &sidecar, place, drain, &mounts, images);
    if let (Some(folder), Some(variables)) = (requests, proxy["env"].as_array_mut()) {
        variables.push(json!({"name": "EXPERT_ROUTER_REQUEST_LOG_DIR", "value": folder}));
    }
    DataPlane { volumes, fetcher, proxy, grace_seconds: place.drain_delay_seconds.saturating_add(drain).saturating_add(SPARE_SECONDS) }
}

/// All keys as one volume of `<secret>/<key>`. A key that is not there leaves its file out and the Pod running: the experts that do not
/// need it answer.
fn secrets(spec: &ExpertRouterSpec) -> Option<Value> {
    let mut by_secret: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for SecretKeyRef { name, key } in all_secret_keys(spec) {
        let path = format!("{name}/{key}");
        by_secret.entry(name).or_default().push(json!({"key": key, "path": path}));
    }
    let sources: Vec<Value> =
        by_secret.into_iter().map(|(name, items)| json!({"secret": {"name": name, "items": items, "optional": true}})).collect();
    // Readable for all: in an injected Pod no group is surely the proxy's, and no container but the proxy mounts it.
    (!sources.is_empty()).then(|| json!({"name": "xr-secrets", "projected": {"sources": sources, "defaultMode": 0o444}}))
}

/// The folder for requests that are kept, and the volume it is on.
fn request_log(spec: &ExpertRouterSpec, place: Place<'_>, volumes: &mut Vec<Value>, mounts: &mut Vec<Value>) -> Option<String> {
    let log = spec.observability.as_ref()?.request_log.as_ref()?;
    let claim = match place.kept_requests {
        KeptRequests::Claim => log.persistent_volume_claim.as_ref(),
        KeptRequests::Pod => None,
        KeptRequests::Nowhere => return None,
    };
    mounts.push(json!({"name": "xr-requests", "mountPath": REQUESTS}));
    if let Some(claim) = claim {
        volumes.push(json!({"name": "xr-requests", "persistentVolumeClaim": {"claimName": claim.name}}));
        let path = claim.path.as_deref().unwrap_or_default().trim_matches('/');
        return Some(if path.is_empty() { REQUESTS.to_owned() } else { format!("{REQUESTS}/{path}") });
    }
    let whole = routing::snapshot::RequestLog::default();
    let file = log.max_file_mebibytes.map_or(whole.max_file_bytes >> 20, u64::from);
    let total = log.max_total_mebibytes.map_or(whole.max_total_bytes >> 20, u64::from).max(file);
    // A Pod that passes the limit is evicted: what the proxy keeps to lies well below.
    volumes.push(json!({"name": "xr-requests", "emptyDir": {"sizeLimit": format!("{}Mi", total + 2 * file + 16)}}));
    Some(REQUESTS.to_owned())
}

fn fetcher(uri: &str, folder: &str, sha256: Option<&String>, has_credentials: bool, images: &Images) -> Value {
    let mut args = vec!["fetch".to_owned(), "--uri".to_owned(), uri.to_owned(), "--out".to_owned(), folder.to_owned()];
    args.extend(sha256.into_iter().flat_map(|sha256| ["--sha256".to_owned(), sha256.clone()]));
    let mut mounts = vec![json!({"name": "xr-bundle", "mountPath": FETCHED}), json!({"name": "xr-tmp", "mountPath": "/tmp"})];
    if has_credentials {
        args.extend(["--credentials".to_owned(), STORE.to_owned()]);
        mounts.push(json!({"name": "xr-store", "mountPath": STORE, "readOnly": true}));
    }
    let mut container = json!({"name": BUNDLE_FETCHER, "args": args});
    pod::image(&mut container, &images.train, images.pull_policy.as_deref());
    container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    container["volumeMounts"] = json!(mounts);
    container["resources"] = json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "2Gi"}});
    container
}

fn proxy(spec: &ExpertRouterSpec, sidecar: &Sidecar, place: Place<'_>, drain: u16, mounts: &[Value], images: &Images) -> Value {
    let mut container = json!({"name": PROXY});
    pod::image(&mut container, &images.router, images.pull_policy.as_deref());
    let mut variables = vec![
        ("EXPERT_ROUTER_SNAPSHOT", format!("{SNAPSHOT}/{SNAPSHOT_KEY}")),
        ("EXPERT_ROUTER_LISTEN", place.listen.to_owned()),
        ("EXPERT_ROUTER_ADMIN", format!("0.0.0.0:{}", place.admin_port)),
        ("EXPERT_ROUTER_SCORE_THREADS", sidecar.inference_threads.unwrap_or(1).to_string()),
        ("EXPERT_ROUTER_DRAIN_SECONDS", drain.to_string()),
        ("EXPERT_ROUTER_DRAIN_DELAY_SECONDS", place.drain_delay_seconds.to_string()),
        ("EXPERT_ROUTER_LOG_FORMAT", "json".to_owned()),
    ];
    if let Some(level) = spec.observability.as_ref().and_then(|observability| observability.log_level) {
        variables.push(("EXPERT_ROUTER_LOG", log_filter(level).to_owned()));
    }
    let tracing = spec.observability.as_ref().and_then(|observability| observability.tracing.as_ref());
    if let Some(tracing) = tracing {
        variables.extend(tracing.variables());
    }
    if place.tls_secret.is_some() {
        variables.push(("EXPERT_ROUTER_TLS_CERT", format!("{TLS}/tls.crt")));
        variables.push(("EXPERT_ROUTER_TLS_KEY", format!("{TLS}/tls.key")));
    }
    container["env"] = pod::env(&variables);
    if let (Some(tracing), Some(variables)) = (tracing, container["env"].as_array_mut()) {
        variables.extend(of_the_pod(tracing));
    }
    container["ports"] = json!([{"name": ADMIN_PORT, "containerPort": place.admin_port, "protocol": "TCP"}]);
    // A bundle is loaded before the first request is taken.
    container["startupProbe"] = pod::probe("/readyz", ADMIN_PORT, 1, 120);
    container["readinessProbe"] = pod::probe("/readyz", ADMIN_PORT, 5, 2);
    container["livenessProbe"] = pod::probe("/healthz", ADMIN_PORT, 10, 6);
    container["volumeMounts"] = json!(mounts);
    container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    container
}

/// What spans say of the Pod they are from, and the collector's secret: variables that only the kubelet knows.
fn of_the_pod(tracing: &Tracing) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut variables = vec![
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_NAME", "metadata.name"),
        // Names of variables in parentheses are put in by the kubelet, from those above.
        json!({"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME)"}),
    ];
    // A Secret that is not there costs the traces, not the Pod.
    variables.extend(tracing.headers_secret_ref.as_ref().map(
        |secret| json!({"name": OTLP_HEADERS, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key, "optional": true}}}),
    ));
    variables
}

fn log_filter(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    }
}
