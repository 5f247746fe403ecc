//! What the data plane is told to do: one self-contained document, written by the operator (a ConfigMap, mounted as a file) or made
//! from a manifest on the spot. JSON, camelCase. Everything is resolved: addresses, files, defaults; nothing is optional that has a
//! default. Fields unknown to this version are ignored, so that a newer operator can serve an older sidecar; `formatVersion` guards
//! changes that may not be ignored.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The format this version writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Everything one router needs to serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// Changes whenever the content does: a hex digest of the rest.
    pub revision: String,
    /// The router's name. As a request's `model` it routes, like `auto`.
    pub router: String,
    /// Who can answer. Their order is that of [`crate::table::ExpertIndex`], and breaks ties.
    pub experts: Vec<Expert>,
    /// Absent: no model yet, the fallback expert answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// A model on trial: it is asked too, and not listened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// How experts are compared.
    pub policy: Policy,
    /// Absent: conversations are not kept with their expert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// What may be spent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// A file with one client key per line, `name:key` or `key`; absent: anyone may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_keys_file: Option<PathBuf>,
    /// What of requests is kept for training. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_log: Option<RequestLog>,
}

impl Snapshot {
    /// A router of these experts and nothing else: defaults everywhere.
    #[must_use]
    pub fn of(experts: Vec<Expert>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            revision: String::new(),
            router: "router".to_owned(),
            experts,
            model: None,
            shadow: None,
            policy: Policy::default(),
            session: None,
            budgets: Vec::new(),
            client_keys_file: None,
            request_log: None,
        }
    }
}

/// One expert: where it is, what it can do, what it costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expert {
    /// Names the expert everywhere: as a request's `model`, in bundles, metrics and headers.
    pub name: String,
    /// Up to and including the version segment: `http://10.0.0.7:8000/v1`.
    pub base_url: String,
    /// What the expert's server calls the model.
    pub model_name: String,
    /// Where it runs, for people and reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Absent: the expert is unpriced; requests to it are counted as such and cost nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<crate::Prices>,
    /// Prompt and completion together must fit. Absent: no limit known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// What it can do beyond plain text.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Requests it is sent at once by one process. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// Messages put before the client's, as the wire has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepend_messages: Vec<serde_json::Value>,
    /// Top-level request fields that replace the client's.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub body_overrides: serde_json::Map<String, serde_json::Value>,
    /// A file whose trimmed content is the bearer token. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// PEM certificates to trust beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Pass the client's own `Authorization` on.
    #[serde(default)]
    pub forward_authorization: bool,
    /// When it is taken out of rotation.
    #[serde(default)]
    pub health: Health,
    /// How long to wait for it.
    #[serde(default)]
    pub timeouts: Timeouts,
}

impl Expert {
    /// An expert of this name with defaults everywhere, at an address where nobody is: for decisions without calls.
    #[must_use]
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            base_url: "http://127.0.0.1:1/v1".to_owned(),
            model_name: name.to_owned(),
            placement: None,
            prices: None,
            context_tokens: None,
            capabilities: Vec::new(),
            max_in_flight: None,
            prepend_messages: Vec::new(),
            body_overrides: serde_json::Map::new(),
            credentials_file: None,
            ca_file: None,
            forward_authorization: false,
            health: Health::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// Where an expert runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Placement {
    /// Nearby: on hardware of one's own.
    Edge,
    /// Elsewhere, paid by use.
    Cloud,
}

/// What a request may need of an expert beyond plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Capability {
    /// `tools` and `tool_choice`, or the older `functions`.
    Tools,
    /// Images among the content parts.
    Vision,
    /// `response_format` of type `json_schema`.
    JsonSchema,
    /// `logprobs`.
    Logprobs,
    /// The embeddings endpoint.
    Embeddings,
}

/// When an expert is taken out of rotation, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Health {
    /// Consecutive failures that eject it. 0: never ejected.
    pub consecutive_failures: u32,
    /// The first ejection; each further one in a row doubles it.
    pub base_ejection_seconds: u32,
    /// No ejection lasts longer.
    pub max_ejection_seconds: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { consecutive_failures: 5, base_ejection_seconds: 5, max_ejection_seconds: 300 }
    }
}

/// How long to wait for an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// For TCP and TLS.
    pub connect_milliseconds: u64,
    /// From the request's start to the head of the response; of a stream, to the first piece of its body. An answer that is
    /// not streamed has its head at its end.
    pub first_byte_milliseconds: u64,
    /// Between two pieces of the response body.
    pub idle_milliseconds: u64,
    /// From the request's start to the response's end.
    pub total_milliseconds: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_milliseconds: 2_000, first_byte_milliseconds: 300_000, idle_milliseconds: 60_000, total_milliseconds: 600_000 }
    }
}

/// The router model's bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// A path or `file://` URI of a bundle directory or tar.
    pub uri: String,
    /// Of the tar, or of a directory's `bundle.json`. Checked at load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A model on trial. It scores a share of the requests beside the one in force; what it would have chosen is counted, and that is all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shadow {
    /// Its bundle.
    pub model: Model,
    /// Of the requests, from 1 to 100.
    pub percent: u8,
}

/// What of requests is kept for training, and how much of it. Where it is written to is the process's own affair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestLog {
    /// Of the requests that an expert answered, from 1 to 100.
    pub percent: u8,
    /// The text of answers too.
    pub include_responses: bool,
    /// What is taken out of all text by patterns that come along.
    pub redaction: Redaction,
    /// Regular expressions: what they match is taken out too.
    pub redact_patterns: Vec<String>,
    /// A row that would be longer is left out.
    pub max_row_bytes: u64,
    /// A file that has as much is finished, and the next one begun.
    pub max_file_bytes: u64,
    /// The oldest finished files are deleted where all together would be more.
    pub max_total_bytes: u64,
}

impl Default for RequestLog {
    fn default() -> Self {
        Self {
            percent: 10,
            include_responses: false,
            redaction: Redaction::Standard,
            redact_patterns: Vec::new(),
            max_row_bytes: 64 << 10,
            max_file_bytes: 16 << 20,
            max_total_bytes: 256 << 20,
        }
    }
}

/// What is taken out of logged text without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Redaction {
    /// What looks like an e-mail address, a telephone or card number, or a key of an API.
    #[default]
    Standard,
    /// Nothing.
    None,
}

/// How experts are compared, and what happens when they cannot be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// What the choice is to be best in, unless the request says otherwise.
    pub objective: Objective,
    /// In units of the score: what `Cost` may give up against the best expert. Absent: what the model recommends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_tolerance: Option<f64>,
    /// For `Balanced`.
    pub weights: Weights,
    /// Answers when no score can be had, and is the last to be tried when others fail. Absent: the cheapest that can.
    pub fallback_expert: Option<String>,
    /// Savings are measured against it. Absent: the expert that costs most for the request.
    pub baseline_expert: Option<String>,
    /// What to do when no score can be had.
    pub failure_mode: FailureMode,
    /// How long a request waits for its score.
    pub score_deadline_milliseconds: u64,
    /// Retries allowed per 100 requests, beside a floor of 3 a second: a retry budget.
    pub retry_budget_percent: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            objective: Objective::Quality,
            quality_tolerance: None,
            weights: Weights::default(),
            fallback_expert: None,
            baseline_expert: None,
            failure_mode: FailureMode::FailOpen,
            score_deadline_milliseconds: 250,
            retry_budget_percent: 20,
        }
    }
}

/// What the choice is to be best in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Objective {
    /// The best predicted score; the cheaper one where two are equal.
    #[default]
    Quality,
    /// The cheapest that is predicted to lose at most `qualityTolerance`.
    Cost,
    /// The best weighted sum of score, cost and latency.
    Balanced,
}

/// The weights of `Balanced`, which takes the largest `quality * score - cost * 100 * costUsd - latency * seconds` of the predicted
/// score, cost and time to the end of the answer. So `100 * cost / quality` is the score given up for a dollar, `latency / quality` that
/// for a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Weights {
    /// Per unit of predicted score.
    pub quality: f64,
    /// Per cent (a hundredth of a dollar) of predicted cost, so that weights of order one make sense. Absent: what the model recommends,
    /// for this weight of quality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Per second of expected latency.
    pub latency: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { quality: 1.0, cost: None, latency: 0.0 }
    }
}

/// What to do when no score can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum FailureMode {
    /// The fallback expert answers.
    #[default]
    FailOpen,
    /// The request is refused.
    FailClosed,
}

/// How conversations are recognised and kept with their expert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The header that names a conversation; without it the first messages do.
    pub header: String,
    /// A conversation is forgotten after this long without a request.
    pub ttl_seconds: u64,
    /// Conversations remembered at once; the one unused for longest is forgotten first.
    pub max_sessions: usize,
    /// A conversation changes its expert only for a predicted gain above this, in units of the objective: score for `Quality`, the
    /// weighted sum for `Balanced`; for `Cost` USD saved by this one request, or score beyond what the tolerance allows.
    pub switch_gain: f64,
}

/// An amount of money a period may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Unique among the budgets.
    pub name: String,
    /// May be spent in a period.
    pub amount_usd: f64,
    /// When the sum starts anew.
    pub period: Period,
    /// What happens once it is spent.
    pub on_exceeded: OnExceeded,
    /// Counted for each client key by itself instead of for the router as a whole.
    #[serde(default)]
    pub per_client_key: bool,
    /// Spent in the current period by all Pods when this snapshot was written.
    #[serde(default)]
    pub spent_usd: f64,
    /// The start of the period `spentUsd` speaks of, seconds since 1970 (UTC).
    #[serde(default)]
    pub period_start: u64,
}

/// Calendar periods, in UTC; weeks start on Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Period {
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first.
    Month,
}

/// What a spent budget does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnExceeded {
    /// The cheapest candidate is chosen until the period ends.
    PreferCheaper,
    /// Requests are refused with 429 until the period ends.
    Refuse,
}
