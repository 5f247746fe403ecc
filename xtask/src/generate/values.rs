//! The chart's values. From these types come `values.yaml` with its comments, `values.schema.json`, and the reference page: a value
//! that is described here is described everywhere. Comes in: nothing. Goes out: the schema, with each value's default.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The schema of all values, with nothing referred to from elsewhere.
pub(crate) fn schema() -> Schema {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Values>()
}

/// What every value is where nobody sets it.
pub(crate) fn defaults() -> Value {
    serde_json::to_value(Values::default()).expect("values have string keys only")
}

type Labels = BTreeMap<String, String>;

/// Values of the chart expert-router
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct Values {
    /// Instead of the chart's name in the names of objects.
    #[schemars(length(max = 40))]
    name_override: String,
    /// Instead of release and chart in the names of objects.
    #[schemars(length(max = 40))]
    fullname_override: String,
    /// Labels that every object of the chart gets besides its own.
    common_labels: Labels,
    /// The definitions of ExpertRouter and RouterModel.
    crds: Crds,
    /// Namespaces the operator looks after: a Role in each, and no rights elsewhere. They have to exist. None: all of the cluster, by a
    /// ClusterRole.
    namespaces: Vec<String>,
    /// The three images.
    images: Images,
    /// The operator's Pods.
    operator: Operator,
    /// The operator's service account.
    service_account: ServiceAccount,
    /// The operator's rights.
    rbac: Rbac,
    /// Injection of sidecars into Pods labelled `expertrouter.dev/inject: <router>`.
    webhook: Webhook,
    /// Who may call the operator's Pods.
    network_policy: NetworkPolicy,
    /// A PodMonitor for the operator (routers have their own, made by the operator). Needs the Prometheus operator.
    pod_monitor: PodMonitor,
    /// Alerts and recording rules as a PrometheusRule. Needs the Prometheus operator.
    prometheus_rule: PrometheusRule,
    /// Grafana dashboards as ConfigMaps, for the sidecar that loads them.
    dashboards: Dashboards,
    /// The Pod of `helm test`.
    tests: Tests,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct Crds {
    /// Install and upgrade them with the release. Only one release of a cluster can; others set false.
    install: bool,
    /// Leave them, and so every ExpertRouter and RouterModel, when the release is uninstalled.
    keep: bool,
}

impl Default for Crds {
    fn default() -> Self {
        Self { install: true, keep: true }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct Images {
    /// The operator.
    operator: Image,
    /// Gateways and sidecars.
    router: Image,
    /// Training Jobs, and the containers that fetch bundles.
    train: Image,
    /// `Always`, `IfNotPresent` or `Never`. Empty: as Kubernetes has it.
    #[schemars(extend("enum" = ["", "Always", "IfNotPresent", "Never"]))]
    pull_policy: String,
    /// Names of Secrets to pull images with. Those of gateways and Jobs have to be in the routers' namespaces.
    pull_secrets: Vec<String>,
}

impl Default for Images {
    fn default() -> Self {
        let image = |name: &str| Image { repository: format!("localhost/{name}"), tag: String::new(), digest: String::new() };
        Self {
            operator: image("expert-router-operator"),
            router: image("expert-router"),
            train: image("expert-router-train"),
            pull_policy: String::new(),
            pull_secrets: Vec::new(),
        }
    }
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct Image {
    /// Registry and name.
    #[schemars(length(min = 1))]
    repository: String,
    /// Empty: the chart's appVersion.
    tag: String,
    /// Such as `sha256:...`; wins over the tag.
    #[schemars(regex(pattern = "^(sha256:[0-9a-f]{64})?$"))]
    digest: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct Operator {
    /// One leads; the others step in when it is gone.
    #[schemars(range(min = 0, max = 10))]
    replicas: u8,
    /// Requests and limits.
    #[schemars(schema_with = "object")]
    resources: Value,
    /// How long a leader that is gone is waited for.
    #[schemars(range(min = 2, max = 3600))]
    lease_seconds: u16,
    /// Objects reconciled at once, of each kind.
    #[schemars(range(min = 1, max = 1000))]
    concurrency: u16,
    /// How often gateways and sidecars are asked what they spent, where there are budgets.
    #[schemars(range(min = 1, max = 3600))]
    spend_seconds: u16,
    /// What is logged: a level, or `target=level` pairs such as `info,operator=debug`.
    log: String,
    /// `json` or `text`.
    #[schemars(extend("enum" = ["json", "text"]))]
    log_format: String,
    /// Further environment variables, as in a Pod.
    #[schemars(schema_with = "objects")]
    env: Vec<Value>,
    /// Labels for the Pods.
    pod_labels: Labels,
    /// Annotations for the Pods.
    pod_annotations: Labels,
    /// Labels a node must have.
    node_selector: Labels,
    /// Taints that do not matter.
    #[schemars(schema_with = "objects")]
    tolerations: Vec<Value>,
    /// Rules of scheduling. Empty: replicas prefer different nodes.
    #[schemars(schema_with = "object")]
    affinity: Value,
    /// How replicas spread.
    #[schemars(schema_with = "objects")]
    topology_spread_constraints: Vec<Value>,
    /// Who goes first when nodes are full.
    priority_class_name: String,
    /// A PodDisruptionBudget of one, where there are at least two replicas.
    pod_disruption_budget: bool,
}

impl Default for Operator {
    fn default() -> Self {
        Self {
            replicas: 2,
            resources: json!({"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "384Mi"}}),
            lease_seconds: 15,
            concurrency: 16,
            spend_seconds: 15,
            log: "info".to_owned(),
            log_format: "json".to_owned(),
            env: Vec::new(),
            pod_labels: Labels::new(),
            pod_annotations: Labels::new(),
            node_selector: Labels::new(),
            tolerations: Vec::new(),
            affinity: json!({}),
            topology_spread_constraints: Vec::new(),
            priority_class_name: String::new(),
            pod_disruption_budget: true,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct ServiceAccount {
    /// Make it. If not, `name` has to exist.
    create: bool,
    /// Empty: called as the other objects.
    name: String,
    /// Such as the role of a cloud provider.
    annotations: Labels,
}

impl Default for ServiceAccount {
    fn default() -> Self {
        Self { create: true, name: String::new(), annotations: Labels::new() }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct Rbac {
    /// Make the roles and bindings. If not, somebody else grants what templates/rbac.yaml lists.
    create: bool,
    /// Let the roles `admin`, `edit` and `view` of namespaces cover ExpertRouter and RouterModel.
    aggregate: bool,
}

impl Default for Rbac {
    fn default() -> Self {
        Self { create: true, aggregate: true }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct Webhook {
    /// Inject sidecars.
    enabled: bool,
    /// What becomes of a Pod while no operator answers: `Ignore` starts it without a sidecar, `Fail` refuses it.
    #[schemars(extend("enum" = ["Ignore", "Fail"]))]
    failure_policy: String,
    /// How long the API server waits for an answer.
    #[schemars(range(min = 1, max = 30))]
    timeout_seconds: u8,
    /// Namespaces whose Pods are looked at, as a label selector. Empty: `namespaces`, and where that is empty too, all but kube-system
    /// and the release's.
    #[schemars(schema_with = "object")]
    namespace_selector: Value,
    /// Where the API server finds the operator, if not by its Service: `https://host:port/path`. For an operator outside of the cluster.
    #[schemars(regex(pattern = "^(https://.+)?$"))]
    url: String,
    /// Let cert-manager make and rotate the certificate. If not, the operator does.
    cert_manager: CertManager,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            enabled: true,
            failure_policy: "Ignore".to_owned(),
            timeout_seconds: 5,
            namespace_selector: json!({}),
            url: String::new(),
            cert_manager: CertManager::default(),
        }
    }
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct CertManager {
    /// Needs cert-manager.
    enabled: bool,
    /// Its issuer (`kind`, `name`). Empty: a self-signed one of the chart's own.
    issuer_ref: Labels,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct NetworkPolicy {
    /// Let in the API server's calls of the webhook, and who scrapes metrics; nothing else.
    enabled: bool,
    /// Who scrapes, as peers of a NetworkPolicy. Empty: everybody.
    #[schemars(schema_with = "objects")]
    metrics_from: Vec<Value>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: true, metrics_from: Vec::new() }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct PodMonitor {
    /// Make it.
    enabled: bool,
    /// How often it is scraped.
    interval: String,
    /// Labels by which your Prometheus selects it.
    labels: Labels,
}

impl Default for PodMonitor {
    fn default() -> Self {
        Self { enabled: false, interval: "30s".to_owned(), labels: Labels::new() }
    }
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct PrometheusRule {
    /// Make it.
    enabled: bool,
    /// Labels by which your Prometheus selects it.
    labels: Labels,
    /// Where you keep the pages of `docs/runbooks`, such as `https://git.example.com/expert-router/docs/runbooks`: alerts link there. Empty: they
    /// name the file.
    runbooks: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct Dashboards {
    /// Make them.
    enabled: bool,
    /// Labels by which the sidecar finds them.
    labels: Labels,
    /// Such as the folder they go into.
    annotations: Labels,
}

impl Default for Dashboards {
    fn default() -> Self {
        let labels = [("grafana_dashboard".to_owned(), "1".to_owned())].into();
        Self { enabled: false, labels, annotations: Labels::new() }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
struct Tests {
    /// It has `wget`.
    image: Image,
}

impl Default for Tests {
    fn default() -> Self {
        Self { image: Image { repository: "docker.io/library/busybox".to_owned(), tag: "1.37".to_owned(), digest: String::new() } }
    }
}

fn object(_: &mut schemars::SchemaGenerator) -> Schema {
    schemars::json_schema!({"type": "object"})
}

fn objects(_: &mut schemars::SchemaGenerator) -> Schema {
    schemars::json_schema!({"type": "array", "items": {"type": "object"}})
}

/// The parts of one value's schema that matter to readers.
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) schema: &'a Map<String, Value>,
}

/// The fields of a schema whose names are fixed, in the order they are written down; `None` for a value that is one thing.
pub(crate) fn fields(schema: &Map<String, Value>) -> Option<Vec<Field<'_>>> {
    let properties = schema.get("properties")?.as_object()?;
    Some(properties.iter().filter_map(|(name, field)| Some(Field { name, schema: field.as_object()? })).collect())
}
