//! The model, and the rules of the choice: objective, conversations, budgets, client keys.

use routing::snapshot::{FailureMode, Objective, OnExceeded, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Decimal,
    references::{NameRef, SecretKeyRef, SecretRef, VolumePath},
};

/// The model that predicts each expert's score: one that is trained here, or a bundle that exists. Exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.routerModelRef) != has(self.bundle)", "message": crate::rules::ONE_MODEL},
]))]
pub struct Model {
    /// A RouterModel of the same namespace: its newest promoted bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_model_ref: Option<NameRef>,
    /// A bundle made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Bundle>,
}

/// Where a bundle is: a directory, or a tar of one (also gzipped). Exactly one of `uri` and `persistentVolumeClaim`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.uri) != has(self.persistentVolumeClaim)", "message": crate::rules::ONE_BUNDLE},
]))]
pub struct Bundle {
    /// `http`, `https`, `s3`, `gs`, `az` or `file` URI. Standalone: a path, where a relative one starts at the manifest's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = crate::rules::URI_PATTERN))]
    pub uri: Option<String>,
    /// On an existing volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<VolumePath>,
    /// SHA-256 in hex of the tar, or of a directory's `bundle.json`. A bundle with another is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = crate::rules::SHA256_PATTERN))]
    pub sha256: Option<String>,
    /// What the store asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<BundleCredentials>,
}

/// Credentials of an object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleCredentials {
    /// A Secret whose keys are the store's usual environment variables, such as `AWS_ACCESS_KEY_ID`.
    pub secret_ref: SecretRef,
}

/// How experts are compared, and what happens when they cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// `Quality` (default): the best predicted score, the cheaper one where two are equal. `Cost`: the cheapest that is predicted to
    /// lose at most `qualityTolerance` of score to the best. `Balanced`: the best weighted sum of score, cost and latency. A request
    /// may ask for another by the header `x-expert-router-objective`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Objective")]
    pub objective: Option<Objective>,
    /// What `Cost` may give up, in units of the score the model was trained on, such as `"0.02"`. Default: what the model
    /// recommends, the least cost at no less than the best single expert's score in training (`"0"` of a model that recommends nothing). A
    /// request may ask for another by the header `x-expert-router-quality-tolerance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_tolerance: Option<Decimal>,
    /// For `Balanced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Answers while there is no model, when a score cannot be had, and as the last resort when others fail. Default: the cheapest
    /// expert that can take the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub fallback_expert: Option<String>,
    /// Savings are measured against it. Default: the expert that costs most for the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub baseline_expert: Option<String>,
    /// When no score can be had: `FailOpen` (default) lets the fallback expert answer, `FailClosed` refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "FailureMode")]
    pub failure_mode: Option<FailureMode>,
    /// How long a request waits for its score. Default 250.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60000))]
    pub score_deadline_milliseconds: Option<u32>,
    /// Fallbacks to an expert that failed last time itself: so many are allowed per 100 requests, beside three a second that always are.
    /// To an expert that did not fail, a request always may move on. Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub retry_budget_percent: Option<u16>,
}

/// `Balanced` takes the largest `quality * score - cost * cents - latency * seconds` of the predicted score, cost and time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Weights {
    /// Per unit of score. Default `"1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Decimal>,
    /// Per cent (a hundredth of a dollar). Default: what the model recommends for this weight of quality, the best score at no more than
    /// the best single expert's cost in training (`"0.5"` of a model that recommends nothing).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Decimal>,
    /// Per second. Default `"0"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Decimal>,
}

/// How conversations are recognised and kept with their expert.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Session {
    /// The header that names a conversation. Requests without it are recognised by their first messages. Default
    /// `x-expert-router-session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = crate::rules::HEADER_PATTERN))]
    pub header: Option<String>,
    /// A conversation is forgotten after this long without a request. Default 1800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub ttl_seconds: Option<u32>,
    /// Conversations remembered at once by each proxy. Default 100000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_sessions: Option<u32>,
    /// A conversation changes its expert only for a predicted gain above this. `Quality`: score. `Balanced`: the weighted sum. `Cost`:
    /// dollars saved by the one request, or score below what the tolerance allows. Default `"0.05"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_gain: Option<Decimal>,
}

/// An amount that may be spent in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Budget {
    /// Unique among the budgets.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::rules::EXPERT_NAME_PATTERN))]
    pub name: String,
    /// In USD.
    pub amount_usd: Decimal,
    /// `Day`, `Week` (from Monday) or `Month`, in UTC.
    pub period: Period,
    /// `Router` (default): all requests together. `ClientKey`: each client key by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BudgetScope")]
    pub scope: Option<BudgetScope>,
    /// Once it is spent: `PreferCheaper` chooses the cheapest expert that can take the request, `Refuse` answers 429, until the period
    /// ends.
    pub on_exceeded: OnExceeded,
}

/// Whose requests a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BudgetScope {
    /// All of the router's together.
    Router,
    /// Each client key's by itself.
    ClientKey,
}

/// The keys clients call with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientKeys {
    /// A key of a Secret whose content has one client a line: `name:key`, or a `key` alone.
    pub secret_ref: SecretKeyRef,
}
