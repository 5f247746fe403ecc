//! What the operator runs: an expert's pods, the gateway, the injected sidecar, and how they are watched. A standalone process reads
//! these fields and has no use for them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, LocalObjectReference, ResourceRequirements, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use routing::snapshot::Redaction;

use crate::{
    Decimal,
    references::{SecretKeyRef, SecretRef, VolumePath},
};

/// An expert's pods, run by the operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.replicas) || !has(self.autoscaling)", "message": crate::rules::REPLICAS_OR_AUTOSCALING},
]))]
pub struct Deployment {
    /// The server's image. It has to speak OpenAI's API.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`. Default: as Kubernetes has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ImagePullPolicy")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Instead of the image's entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Vec<String>,
    /// Arguments of the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub args: Vec<String>,
    /// Environment of the server, as in a Pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// Where the server listens.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Where the API begins, up to and including the version segment. Default `/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = crate::rules::PATH_PATTERN))]
    pub path: Option<String>,
    /// The path that answers 200 once the server can take requests. Default `/health`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = crate::rules::PATH_PATTERN))]
    pub readiness_path: Option<String>,
    /// How long the server may take to load its model before it is restarted. Default 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub startup_seconds: Option<u32>,
    /// Requests and limits of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// How many pods. Default 1. Not together with `autoscaling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10000))]
    pub replicas: Option<u16>,
    /// As many pods as the load asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// A volume with the model's files, so that a new pod does not fetch them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_cache: Option<ModelCache>,
    /// What the pods should have beyond this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_overrides: Option<PodOverrides>,
}

/// When the image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At each start.
    Always,
    /// Where the node does not have it.
    IfNotPresent,
    /// The node has it.
    Never,
}

/// Bounds for a HorizontalPodAutoscaler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas", "message": crate::rules::MIN_OVER_MAX},
]))]
pub struct Autoscaling {
    /// At least so many. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub min_replicas: Option<u16>,
    /// At most so many.
    #[schemars(range(min = 1, max = 10000))]
    pub max_replicas: u16,
    /// The share of its CPU request a pod should use, in per cent. Default 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_percent: Option<u16>,
}

/// An existing volume claim, mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelCache {
    /// The claim's name.
    #[schemars(length(min = 1, max = 253))]
    pub persistent_volume_claim: String,
    /// Where the server finds it.
    #[schemars(length(min = 1, max = 1024))]
    pub mount_path: String,
}

/// The parts of a Pod that a cluster's owner may have to set. Not a whole PodSpec on purpose.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodOverrides {
    /// Further labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Further annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
    /// Secrets to pull images with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Instead of the router's own service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Who goes first when nodes are full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Such as a GPU runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
}

/// One proxy for all clients, beside or instead of sidecars.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.replicas) || !has(self.autoscaling)", "message": crate::rules::REPLICAS_OR_AUTOSCALING},
]))]
pub struct Gateway {
    /// How many pods. Default 1; 0 keeps the gateway's objects without pods. Not together with `autoscaling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10000))]
    pub replicas: Option<u16>,
    /// As many pods as the load asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Requests and limits of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// `ClusterIP` (default), `NodePort` or `LoadBalancer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceType")]
    pub service_type: Option<ServiceType>,
    /// Serve TLS with the certificate of this Secret (`tls.crt`, `tls.key`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_ref: Option<SecretRef>,
    /// Attach the gateway to a Gateway API gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_route: Option<HttpRoute>,
    /// What the pods should have beyond this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_overrides: Option<PodOverrides>,
}

/// How the gateway's Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// From inside the cluster.
    ClusterIP,
    /// By a port of each node.
    NodePort,
    /// By a load balancer of the cluster's provider.
    LoadBalancer,
}

/// An HTTPRoute to the gateway's Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    /// The Gateway to attach to.
    pub gateway_ref: GatewayRef,
    /// Host names to answer for. None: all of the Gateway's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub hostnames: Vec<String>,
}

/// A Gateway of the Gateway API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayRef {
    /// The Gateway's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The Gateway's namespace. Default: the router's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// The proxy inside application Pods.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sidecar {
    /// Requests and limits of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Threads that run the router's encoder, in sidecars and gateway alike. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub inference_threads: Option<u16>,
    /// How long requests in flight may take to end when the proxy is stopped. Default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 3600))]
    pub drain_seconds: Option<u16>,
}

/// How the router is watched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observability {
    /// What the proxies log: `Error`, `Warn`, `Info` (default), `Debug`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LogLevel")]
    pub log_level: Option<LogLevel>,
    /// Where traces go. The proxies are told by OpenTelemetry's usual variables; standalone, what the environment says goes before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// Whether Prometheus is told to scrape by a PodMonitor: `Auto` (default) where the cluster knows PodMonitors, or `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PodMonitorMode")]
    pub pod_monitor: Option<PodMonitorMode>,
    /// Keep requests for training: their prompts, who answered, and what it cost. Default: nothing is kept. Prompts are what people
    /// wrote: whoever can read the files can read that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_log: Option<RequestLog>,
}

/// Requests kept as files of outcomes, which `expert-router-train` reads. The gateway writes them to the claim, if one is named; else,
/// and in injected sidecars always, to a folder that lives as long as its Pod. Standalone: to `--request-log-dir`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestLog {
    /// The share of answered requests that is kept. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: Option<u8>,
    /// Keep the text of answers too. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_responses: Option<bool>,
    /// `Standard` (default) takes out what looks like an e-mail address, a telephone or card number, or a key of an API; `None` takes out
    /// nothing by itself. What looks otherwise stays: it is no promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Redaction")]
    pub redaction: Option<Redaction>,
    /// Regular expressions (as of Rust's `regex-lite`): what they match is taken out too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "atomic"))]
    pub redact_patterns: Vec<String>,
    /// A request whose row would be longer is not kept. Default 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_row_kibibytes: Option<u16>,
    /// A file with as much is finished, and the next one begun. Default 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_file_mebibytes: Option<u16>,
    /// Each Pod deletes the oldest of its folder's files where all of them together would be more. Default 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_total_mebibytes: Option<u32>,
    /// A folder of a volume, for the gateway. With several gateway pods the volume has to take writers of several nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<VolumePath>,
}

/// The least severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what is odd.
    Warn,
    /// And a line for each request.
    Info,
    /// And each step.
    Debug,
}

/// Traces by OTLP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tracing {
    /// The collector, such as `http://otel-collector.observability:4318`.
    #[schemars(length(max = 2048), regex(pattern = crate::rules::URL_PATTERN))]
    pub otlp_endpoint: String,
    /// How spans travel: `Grpc` or `Http`. Default by the port: `Grpc` on 4317, on any other `Http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OtlpProtocol")]
    pub protocol: Option<OtlpProtocol>,
    /// The share of requests that are traced, from `"0"` to `"1"`, where the caller has not decided. Default `"0.1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = crate::decimal::SHARE_PATTERN))]
    pub sample_ratio: Option<Decimal>,
    /// A key of a Secret with headers for the collector, such as its token: `name=value` pairs with commas between, values
    /// percent-encoded. Read when a Pod starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_secret_ref: Option<SecretKeyRef>,
}

/// How spans travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

/// The variable that headers for the collector are in.
pub const OTLP_HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const SAMPLE_RATIO: &str = "0.1";

impl Tracing {
    /// The same in OpenTelemetry's variables, but for the headers, which are a secret.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", self.otlp_endpoint.clone())];
        let protocol = self.protocol.map(|protocol| match protocol {
            OtlpProtocol::Grpc => "grpc",
            OtlpProtocol::Http => "http/protobuf",
        });
        variables.extend(protocol.map(|protocol| ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned())));
        variables.push(("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()));
        variables.push(("OTEL_TRACES_SAMPLER_ARG", self.sample_ratio.as_ref().map_or(SAMPLE_RATIO, Decimal::as_str).to_owned()));
        variables
    }
}

/// Whether there is a PodMonitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodMonitorMode {
    /// Where the cluster knows them.
    Auto,
    /// Not at all.
    Never,
}
