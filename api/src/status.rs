//! What is: conditions and facts, written by the operator and nobody else.
//!
//! Conditions are Kubernetes' own, a map by type, each with `observedGeneration`, set from the first visit on. A parent condition shows
//! the first failing child's reason.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Types and reasons of an ExpertRouter's conditions.
pub mod router_conditions {
    /// True (`Valid`): the spec makes sense. False (`Invalid`): the message names the field; (`NameTaken`): an object of somebody else's has
    /// the name of one of its children. Counts towards Ready.
    pub const ACCEPTED: &str = "Accepted";
    /// True (`Resolved`): every expert's address and Secrets exist. False (`SecretMissing`, `ServiceMissing`, `NoEndpoints`,
    /// `VolumeMissing`, `DeploymentNotReady`, `Unresolved`): the message names the experts. Counts towards Ready only while no expert is left that can
    /// answer.
    pub const EXPERTS_RESOLVED: &str = "ExpertsResolved";
    /// True: a bundle is in service, and a proxy says that it loaded it (`Loaded`), or none has said anything yet (`InSnapshot`). False
    /// (`NoModel`, `NotTrained`, `FetchFailed`, `DigestMismatch`, `ExpertsUnknown`, `NoSnapshot`): the fallback expert answers. Absent where the spec has no model. Does not count towards Ready: a request is answered either way.
    pub const MODEL_READY: &str = "ModelReady";
    /// True (`Compatible`): the bundle knows every expert. False (`ExpertsUnknown`): the message names those it does not know. Unknown
    /// (`NotLoaded`): no proxy has loaded it. Absent without a bundle. Does not count towards Ready.
    pub const MODEL_COMPATIBLE: &str = "ModelCompatible";
    /// True (`UpToDate`): every injected Pod has the newest snapshot. False (`Updating`). Absent without injected Pods. Does not count towards Ready.
    pub const SIDECAR_READY: &str = "SidecarReady";
    /// True (`Available`): the gateway's pods are available. False (`Progressing`, `Unavailable`; `SecretMissing`: that of its certificate). Absent without a gateway. Counts towards Ready.
    pub const GATEWAY_READY: &str = "GatewayReady";
    /// True (`VolumeFound`): the volume is there on which the gateway keeps requests for training. False (`VolumeMissing`): it is not, and no
    /// request is kept. Absent where none are to be kept on one. Does not count towards Ready.
    pub const REQUEST_LOG_READY: &str = "RequestLogReady";
    /// True (`Ready`): a request sent now is answered. False: the reason of the condition that says why not, or `NoSnapshot`.
    pub const READY: &str = "Ready";
    /// All of them, in the order they are worked out.
    pub const ALL: [&str; 8] =
        [ACCEPTED, EXPERTS_RESOLVED, MODEL_READY, MODEL_COMPATIBLE, SIDECAR_READY, GATEWAY_READY, REQUEST_LOG_READY, READY];
    /// Every reason there is. A test of the operator holds it against the code and against the manual.
    pub const REASONS: [&str; 27] = [
        "Valid",
        "Invalid",
        "NameTaken",
        "Resolved",
        "SecretMissing",
        "ServiceMissing",
        "NoEndpoints",
        "DeploymentNotReady",
        "Unresolved",
        "Loaded",
        "InSnapshot",
        "NoModel",
        "NotTrained",
        "FetchFailed",
        "DigestMismatch",
        "ExpertsUnknown",
        "NoSnapshot",
        "Compatible",
        "NotLoaded",
        "UpToDate",
        "Updating",
        "Available",
        "Progressing",
        "Unavailable",
        "VolumeFound",
        "VolumeMissing",
        "Ready",
    ];
}

/// Types and reasons of a RouterModel's conditions.
pub mod model_conditions {
    /// True (`Prepared`): every expert was asked every query and every answer is scored. False: something the spec names is not there
    /// (`QueriesMissing`, `RouterMissing`, `ExpertsUnresolved`, `SecretMissing`, `VolumeMissing`), the spec makes no sense (`Invalid`), a
    /// child's name belongs to somebody else (`NameTaken`), the API server refuses a child (`NotWritten`), or `Asking`, `BudgetSpent`,
    /// `Failed`.
    pub const DATA_PREPARED: &str = "DataPrepared";
    /// True (`Fitted`): a router was fitted to the current data. False (`Waiting`, `Fitting`, `Failed`).
    pub const TRAINED: &str = "Trained";
    /// True (`Evaluated`): it was evaluated on held-out queries. False (`Waiting`, `Evaluating`, `Failed`, `NoBetter` than the best single expert).
    pub const EVALUATED: &str = "Evaluated";
    /// True (`Published`): its bundle lies where `output` says; or, with reason `OlderKept`, that of an earlier training does, which did no worse on
    /// the same queries. False (`Waiting`, `Publishing`, `AwaitsPromotion`, `InShadow`, `GainTooSmall`, `Failed`). An earlier bundle stays in force.
    pub const PUBLISHED: &str = "Published";
    /// True: a bundle of the current spec is published.
    pub const READY: &str = "Ready";
    /// All of them, in the order they are worked out.
    pub const ALL: [&str; 5] = [DATA_PREPARED, TRAINED, EVALUATED, PUBLISHED, READY];
    /// Every reason there is. A test of the operator holds it against the code and against the manual.
    pub const REASONS: [&str; 24] = [
        "Prepared",
        "QueriesMissing",
        "RouterMissing",
        "ExpertsUnresolved",
        "SecretMissing",
        "VolumeMissing",
        "Invalid",
        "NameTaken",
        "NotWritten",
        "Asking",
        "BudgetSpent",
        "Failed",
        "Waiting",
        "Fitted",
        "Fitting",
        "Evaluated",
        "Evaluating",
        "NoBetter",
        "Published",
        "Publishing",
        "OlderKept",
        "AwaitsPromotion",
        "InShadow",
        "GainTooSmall",
    ];
}

/// What the router is just now.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExpertRouterStatus {
    /// `Accepted`, `ExpertsResolved`, `ModelReady`, `ModelCompatible`, `SidecarReady`, `GatewayReady`, `RequestLogReady`, and
    /// `Ready`, which is True where a request sent now is answered.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready experts of all, such as `3/4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts_ready: Option<String>,
    /// Each expert by itself.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub experts: Vec<ExpertStatus>,
    /// The bundle in service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<BundleStatus>,
    /// The revision of the snapshot that was written last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_revision: Option<String>,
    /// Where the gateway is reached from inside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What one expert is just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExpertStatus {
    /// The expert.
    pub name: String,
    /// Whether it can be sent requests.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A bundle, exactly. On a volume its address is `pvc://CLAIM/PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleStatus {
    /// Where it came from.
    pub uri: String,
    /// SHA-256 in hex.
    pub digest: String,
    /// The experts it chooses among, where that can be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub experts: Vec<String>,
    /// The Secret of the store it lies in. Of an ExpertRouter only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
}

impl BundleStatus {
    /// Whether both are the same bundle in the same place, whatever else is known of it.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.uri == other.uri && self.digest == other.digest
    }
}

/// What a training is just now.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RouterModelStatus {
    /// `DataPrepared`, `Trained`, `Evaluated`, `Published`, and `Ready`, which is True where a bundle of this spec is published.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Answers had and wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Spent on answers so far, in USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<String>,
    /// Held-out scores and costs, a row for each router, expert and baseline.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub evaluation: Vec<EvaluationRow>,
    /// The bundle in force: the one published last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleStatus>,
    /// The bundle trained last, where it is not the one in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// How far each step has come: what a controller that starts anew goes on from.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<StepStatus>,
}

/// A bundle on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// SHA-256 of its `bundle.json` in hex.
    pub digest: String,
    /// Over the best single expert, in the units of `promotion.requiredGain`; absent before it is evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<String>,
}

/// The steps of training, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Step {
    /// Ask and score.
    Prepare,
    /// Train.
    Fit,
    /// Compare on held-out queries.
    Evaluate,
    /// Put the bundle where `output` says.
    Publish,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepState {
    /// Its Job is there.
    Running,
    /// It is done.
    Succeeded,
    /// Its Job failed; there will be another.
    Failed,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Which.
    pub name: Step,
    /// How it stands.
    pub state: StepState,
    /// Names what it reads: with the same inputs it need not be done again.
    pub inputs: String,
    /// Names its Job as it was: a step that failed is tried again at once when anything in its Job changes.
    pub template: String,
    /// When it began, for the schedule.
    pub started_at: Time,
    /// The schedule's tick that it answers to, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<Time>,
    /// Jobs that failed since it last succeeded.
    #[serde(default)]
    pub failures: i32,
    /// When the last of them did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// What it found, or why it failed: the summary of its Job, or the last lines of its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far asking has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Answers had.
    pub done: i64,
    /// Answers wanted.
    pub total: i64,
}

/// One way of answering, evaluated on held-out queries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvaluationRow {
    /// Such as `router at Quality`, `best single`, `oracle`, or an expert.
    pub name: String,
    /// Mean score, a decimal string.
    pub score: String,
    /// USD per thousand queries, a decimal string; absent where prices are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_thousand_usd: Option<String>,
}
