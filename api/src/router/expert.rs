//! One expert as a person writes it.

use routing::snapshot::{Capability, Placement};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::workload::Deployment;
use crate::{Decimal, references::SecretKeyRef};

/// Somebody who answers requests: a model behind an OpenAI-compatible server, with its price and its limits. Exactly one of
/// `deployment`, `service` and `url` says where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.deployment), has(self.service), has(self.url)].filter(x, x).size() == 1",
     "message": crate::rules::ONE_ADDRESS},
    {"rule": "!has(self.deployment) || self.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.name.size() <= 40",
     "message": crate::rules::DEPLOYMENT_NAME},
    {"rule": "!has(self.credentials) || !has(self.forwardAuthorization) || !self.forwardAuthorization",
     "message": crate::rules::ONE_AUTHORIZATION},
    {"rule": "self.name != 'auto'", "message": crate::rules::NOT_AUTO},
]))]
pub struct Expert {
    /// Names the expert everywhere: as a request's `model` it pins, and router models know it by this name. Letters, digits, `-`, `_`
    /// and `.`; not `auto`, nor the router's own name.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::rules::EXPERT_NAME_PATTERN))]
    pub name: String,
    /// Run by the operator: a Deployment and a Service of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Deployment>,
    /// A Service that exists already, in the router's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceAddress>,
    /// Elsewhere: the base URL up to and including the version segment, such as `https://llm.example.com/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = crate::rules::URL_PATTERN))]
    pub url: Option<String>,
    /// What the expert's server calls the model: it takes the place of the request's `model`.
    #[schemars(length(min = 1, max = 256))]
    pub model_name: String,
    /// Where it runs, for reports and dashboards: `Edge` (nearby, on hardware of one's own) or `Cloud`. It does not change routing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Placement")]
    pub placement: Option<Placement>,
    /// What it charges. Without it the expert is unpriced: its requests count as costing nothing, are counted as unpriced, and it is
    /// never preferred for being cheap. An expert that is truly free has `pricing: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// The token it is called with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Certificates to trust beside the system's when it is called by `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ExpertTls>,
    /// Pass the client's own `Authorization` header on instead of credentials of the router's. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_authorization: Option<bool>,
    /// Prompt and completion together must fit in this many tokens; requests that do not fit go elsewhere. Without it, no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub context_tokens: Option<u32>,
    /// What it can do beyond plain text: `Tools`, `Vision`, `JsonSchema`, `Logprobs`, `Embeddings`. A request that needs one of these
    /// goes only to experts that have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub capabilities: Vec<Capability>,
    /// Requests it is sent at once by each proxy; more go elsewhere. Without it, no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<u32>,
    /// Messages put before the client's own, such as instructions or examples. So several experts can share one server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), schema_with = "messages", extend("x-kubernetes-list-type" = "atomic"))]
    pub prepend_messages: Vec<Value>,
    /// Top-level fields of the request that replace the client's, such as `temperature` or `max_tokens`. Not `model`, `messages`,
    /// `input`, `prompt` or `stream`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub body_overrides: Map<String, Value>,
    /// When it is taken out of rotation after failures, and for how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How long to wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

/// A Service of the router's namespace, and where the API is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAddress {
    /// The Service's name.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::rules::LABEL_PATTERN))]
    pub name: String,
    /// The Service's port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Where the API begins, up to and including the version segment. Default `/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = crate::rules::PATH_PATTERN))]
    pub path: Option<String>,
}

/// Prices in USD, as decimal strings such as `"0.20"`. What is left out costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pricing {
    /// Per million prompt tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_per_million: Option<Decimal>,
    /// Per million completion tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_per_million: Option<Decimal>,
    /// Per million prompt tokens that the server had cached. Default: as `inputPerMillion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million: Option<Decimal>,
    /// For each request, however long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_request: Option<Decimal>,
    /// For hardware of one's own: a request costs its share of the hour, by the seconds it keeps the expert busy, divided among the
    /// requests served at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<Decimal>,
}

/// Where the expert's token lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    /// A key of a Secret of the router's namespace. Its content, trimmed, is sent as `Authorization: Bearer`. Read again when it
    /// changes.
    pub secret_ref: SecretKeyRef,
}

/// Trust for `https`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpertTls {
    /// A key of a Secret with PEM certificates.
    pub ca_secret_ref: SecretKeyRef,
}

/// Ejection: an expert that fails several times in a row gets no requests for a while, then one as a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// Failures in a row that eject it. 0: never. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub consecutive_failures: Option<u32>,
    /// How long it is out the first time; each failed probe doubles it. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub base_ejection_seconds: Option<u32>,
    /// No ejection is longer, nor a pause that the expert asks for by `Retry-After`. Default 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub max_ejection_seconds: Option<u32>,
}

/// Limits of patience, in milliseconds. A time-out before the first byte of the answer lets the next expert step in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// For TCP and TLS. Default 2000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub connect_milliseconds: Option<u32>,
    /// From the start of the request to the head of the response; of a stream, to the first piece of its body. An answer that is not
    /// streamed has its head at its end: leave time for the longest. Default 300000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub first_byte_milliseconds: Option<u32>,
    /// Between two pieces of the response. Default 60000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub idle_milliseconds: Option<u32>,
    /// For the whole of it. Default 600000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub total_milliseconds: Option<u32>,
}

/// Messages are the wire's: a role, and whatever else the wire has.
fn messages(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "type": "object",
            "required": ["role"],
            "properties": {"role": {"type": "string", "description": "`system`, `user`, `assistant` and so on."}},
            "x-kubernetes-preserve-unknown-fields": true,
        },
    })
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
