//! `RouterModel`: queries and experts in, a trained and proven router out.

#![expect(clippy::duplicated_attributes, reason = "each printer column has a name and a type of its own")]

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::CustomResource;
use routing::snapshot::Objective;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Decimal,
    references::{ConfigMapKeyRef, NameRef, SecretRef, VolumePath},
    router::{Expert, PodOverrides},
    status::RouterModelStatus,
};

/// What is to be trained, on what, and where the result goes.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "expertrouter.dev",
    version = "v1alpha1",
    kind = "RouterModel",
    namespaced,
    shortname = "rm",
    category = "expert-router",
    status = "RouterModelStatus",
    derive = "PartialEq",
    doc = "Asks experts a set of queries, trains a router on their answers, and publishes it if it has earned its place.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Done", type_ = "integer", json_path = ".status.progress.done"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.progress.total"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.bundle.digest", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.promotion) || !has(self.promotion.shadowPercent) || self.promotion.shadowPercent == 0 \
              || has(self.output.persistentVolumeClaim) && !(has(self.job) && has(self.job.workspace))",
     "message": crate::rules::SHADOW_ON_VOLUME},
]))]
pub struct RouterModelSpec {
    /// What is asked.
    pub queries: Queries,
    /// Who is asked.
    pub experts: Experts,
    /// How an answer is scored.
    #[serde(default)]
    pub scoring: Scoring,
    /// What is trained.
    #[serde(default)]
    pub router: Router,
    /// How the work is done.
    #[serde(default)]
    pub job: Job,
    /// When queries are read again, what is missing is asked, and a router is trained if that brought anything new: five fields as in a
    /// CronJob (minute, hour, day of month, month, day of week; numbers, `*`, `,`, `-`, `/`), in UTC, or `@hourly`, `@daily`, `@weekly`,
    /// `@monthly`. Changes of the spec, of a ConfigMap of queries or of experts need no schedule: they are seen at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 128), regex(pattern = crate::rules::SCHEDULE_PATTERN))]
    pub schedule: Option<String>,
    /// When a new bundle takes the place of the old.
    #[serde(default)]
    pub promotion: Promotion,
    /// Where the bundle and the report go.
    pub output: Output,
}

/// A file of queries, one JSON object a line: `id`, `prompt` or `messages`, `reference`, and optionally `dataset`, `split`, `match`.
/// Exactly one of the three says where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.configMapRef), has(self.persistentVolumeClaim), has(self.uri)].filter(x, x).size() == 1",
     "message": crate::rules::ONE_QUERIES},
]))]
pub struct Queries {
    /// A key of a ConfigMap (up to 1 MiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapKeyRef>,
    /// A file on a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<VolumePath>,
    /// `http`, `https`, `s3`, `gs`, `az` or `file` URI. Standalone: a path, where a relative one starts at the manifest's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = crate::rules::URI_PATTERN))]
    pub uri: Option<String>,
}

/// Exactly one of the two says who is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.expertRouterRef) != (has(self.endpoints) && self.endpoints.size() > 0)", "message": crate::rules::ONE_EXPERTS},
]))]
pub struct Experts {
    /// All experts of an ExpertRouter of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert_router_ref: Option<NameRef>,
    /// Experts listed here, as an ExpertRouter lists them, but by `service` or `url` only: nothing is run for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "endpoints", extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub endpoints: Vec<Expert>,
}

/// The schema of experts without `deployment`, which is half of it.
fn endpoints(generator: &mut SchemaGenerator) -> Schema {
    let mut expert = generator.subschema_for::<Expert>();
    if let Some(properties) = expert.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("deployment");
    }
    let rules = json!([
        {"rule": "has(self.service) != has(self.url)", "message": crate::rules::ONE_ENDPOINT},
        {"rule": "!has(self.credentials) || !has(self.forwardAuthorization) || !self.forwardAuthorization",
         "message": crate::rules::ONE_AUTHORIZATION},
        {"rule": "self.name != 'auto'", "message": crate::rules::NOT_AUTO},
    ]);
    expert.insert("x-kubernetes-validations".to_owned(), rules);
    json_schema!({"type": "array", "maxItems": 64, "items": expert})
}

/// How an answer is scored against its reference.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.bertSimWeight) || has(self.metric) && self.metric == 'Mixed'", "message": crate::rules::WEIGHT_OF_MIXED},
]))]
pub struct Scoring {
    /// `BERTSim` (default): similarity of meaning. `Match`: right or wrong by each query's `match` rule. `Mixed`: a weighted sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Metric")]
    pub metric: Option<Metric>,
    /// The share of BERTSim in `Mixed`, from `"0"` to `"1"`; the rest is `Match`. Default `"0.5"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = crate::decimal::SHARE_PATTERN))]
    pub bert_sim_weight: Option<Decimal>,
    /// The encoder BERTSim is computed with. Default: the one that comes along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub encoder: Option<String>,
}

/// What makes an answer good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Metric {
    /// BERTScore's F1 of answer against reference.
    BERTSim,
    /// Right or wrong.
    Match,
    /// A weighted sum of both.
    Mixed,
}

/// What is trained.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Router {
    /// `Auto` (default) trains all and keeps what wins on validation. `KNN`, `MLP` and `BERT` are the paper's; `Lexical` reads words
    /// without an encoder and decides in microseconds.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RouterKind")]
    pub kind: Option<RouterKind>,
    /// T of the soft labels `softmax(T * score)`. Default `"10"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Decimal>,
    /// `Auto` (default) lets validation decide. `SoftLabel` learns who is best, as in the paper; `Score` learns how good each is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Loss")]
    pub loss: Option<Loss>,
    /// The objective `Auto` chooses for. Default `Quality`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Objective")]
    pub objective: Option<Objective>,
    /// The tokens of a prompt that encoders read; a longer one keeps its head and tail. Default 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 512))]
    pub max_tokens: Option<u16>,
    /// Makes training repeatable. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
}

/// Kinds of router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RouterKind {
    /// Neighbours in embedding space.
    KNN,
    /// A small network on frozen embeddings.
    MLP,
    /// A fine-tuned encoder.
    BERT,
    /// Words, word pairs and surface features.
    Lexical,
    /// Whatever wins on validation.
    Auto,
}

/// What training minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Loss {
    /// Cross-entropy against `softmax(T * score)`.
    SoftLabel,
    /// Binary cross-entropy against each expert's score.
    Score,
    /// Whichever wins on validation.
    Auto,
}

/// How the work is done in a cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Job {
    /// Pods that ask experts at the same time, each a part of the queries, and each with its part of `maxCostUsd`. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub parallelism: Option<u16>,
    /// Requests each expert is sent at once by each Pod. Default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub concurrency: Option<u16>,
    /// Asking stops before more than this is spent. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_usd: Option<Decimal>,
    /// Requests and limits of the Pods. Default: requests of a quarter of a CPU and 1Gi to ask, and of one CPU and 2Gi to train.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// A volume of its own for answers and for bundles on trial, made and deleted with the RouterModel. Default: the folder `.training`
    /// on the volume of `output`; where `output` is a uri, a volume of 10Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Workspace>,
    /// What the Pods should have beyond this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_overrides: Option<PodOverrides>,
}

/// A volume for answers and for bundles on trial. It cannot be changed once it is made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workspace {
    /// Its size. Default `10Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = crate::rules::QUANTITY_PATTERN))]
    pub storage: Option<String>,
    /// Its storage class. Default: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::rules::OBJECT_NAME_PATTERN))]
    pub storage_class_name: Option<String>,
    /// `ReadWriteOnce` (default): all Pods run on one node. `ReadWriteMany`: they may spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AccessMode")]
    pub access_mode: Option<AccessMode>,
}

/// How many nodes have a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// One at a time.
    ReadWriteOnce,
    /// Any.
    ReadWriteMany,
}

/// When a new bundle takes the place of the old.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.shadowSeconds) || has(self.shadowPercent) && self.shadowPercent > 0", "message": crate::rules::SECONDS_OF_SHADOW},
]))]
pub struct Promotion {
    /// `Manual` (default): when somebody sets the annotation `expertrouter.dev/promote` to its digest (`status.candidate.digest`).
    /// `Automatic`: when it gains enough over the best single expert and is no worse than the bundle in service, on the same held-out
    /// queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PromotionMode")]
    pub mode: Option<PromotionMode>,
    /// `Automatic` asks for at least this much gain over the best single expert, at `router.objective`: score gained (`Quality`,
    /// `Balanced`), or for `Cost` the share of its cost saved at no less than its score, such as `"0.3"`. Default `"0"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_gain: Option<Decimal>,
    /// The share of requests that a bundle on trial also scores, unseen, in the proxies of the routers that use this RouterModel. What it
    /// would have chosen is counted (`expert_router_shadow_*`), and changes nothing. Default 0: none. It has to lie where those proxies
    /// can read it: on the volume of `output.persistentVolumeClaim`, without a `job.workspace` of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub shadow_percent: Option<u8>,
    /// With `shadowPercent`, `Automatic` promotes a bundle no earlier than this long after it was trained. Default 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2_592_000))]
    pub shadow_seconds: Option<u32>,
}

/// Who promotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PromotionMode {
    /// A person.
    Manual,
    /// The evaluation.
    Automatic,
}

/// Where the bundle and the report go. Exactly one of the three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.persistentVolumeClaim), has(self.uri), has(self.directory)].filter(x, x).size() == 1",
     "message": crate::rules::ONE_OUTPUT},
]))]
pub struct Output {
    /// A folder on a volume. The bundle is its `<name of the RouterModel>/<digest>/bundle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<VolumePath>,
    /// `s3`, `gs` or `az` URI of a folder, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = crate::rules::URI_PATTERN))]
    pub uri: Option<String>,
    /// Outside of clusters: a folder of this machine. A relative path starts at the manifest's folder. The bundle is its `bundle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub directory: Option<String>,
    /// What the store asks for: a Secret whose keys are the store's usual environment variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}
