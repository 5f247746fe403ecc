//! Spec plus what its names resolve to, to the snapshot the data plane routes by. One pure function, for operator and standalone alike.

use std::{collections::BTreeMap, path::PathBuf};

use routing::{Prices, Table, TableError, snapshot as data};
use sha2::{Digest, Sha256};

use crate::{
    Decimal, ExpertRouter, ManifestError,
    references::SecretKeyRef,
    router::{Budget, BudgetScope, Expert, Health, Policy, Pricing, RequestLog, ServiceAddress, Session, Timeouts, Weights},
};

/// Where the API begins on servers that do not say otherwise.
const DEFAULT_PATH: &str = "/v1";

/// What the names in a spec resolve to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct References {
    /// Base URLs of experts, by name. Needed for those with a `deployment`; goes before `service` and `url`.
    pub expert_urls: BTreeMap<String, String>,
    /// The namespace services are looked for in.
    pub namespace: String,
    /// The file each key of a Secret is mounted as.
    pub secret_files: BTreeMap<SecretKeyRef, PathBuf>,
    /// The router model in service; absent while there is none.
    pub model: Option<data::Model>,
    /// A model on trial, and its share of the requests.
    pub shadow: Option<data::Shadow>,
    /// What all Pods together have spent, by budget: USD, and the start of the period in seconds since 1970.
    pub spent: BTreeMap<String, (f64, u64)>,
}

/// The snapshot of a router, found sound by the very checks the data plane makes.
///
/// # Errors
/// The first thing wrong, by field of the spec.
pub fn snapshot(router: &ExpertRouter, references: &References) -> Result<data::Snapshot, ManifestError> {
    let spec = &router.spec;
    let experts = spec.experts.iter().enumerate().map(|(index, expert)| convert_expert(expert, index, references));
    let mut snapshot = data::Snapshot {
        format_version: data::FORMAT_VERSION,
        revision: String::new(),
        router: router.metadata.name.clone().unwrap_or_default(),
        experts: experts.collect::<Result<_, _>>()?,
        model: references.model.clone(),
        shadow: references.shadow.clone(),
        policy: convert_policy(&spec.policy),
        session: spec.session.as_ref().map(convert_session),
        budgets: spec.budgets.iter().map(|budget| convert_budget(budget, references)).collect(),
        client_keys_file: match &spec.client_keys {
            Some(keys) => Some(secret_file(&keys.secret_ref, references, "spec.clientKeys.secretRef")?),
            None => None,
        },
        request_log: match spec.observability.as_ref().and_then(|it| it.request_log.as_ref()) {
            Some(log) => Some(convert_request_log(log)?),
            None => None,
        },
    };
    snapshot.revision = revision(&snapshot);
    Table::compile(snapshot.clone()).map_err(|error| in_spec(error, router))?;
    Ok(snapshot)
}

/// Sixteen hex digits of the SHA-256 of everything else in the snapshot.
fn revision(snapshot: &data::Snapshot) -> String {
    let json = serde_json::to_vec(snapshot).expect("a snapshot has string keys only, and its numbers were checked to be finite");
    hex::encode(&Sha256::digest(json)[..8])
}

/// The base URL of a Service inside a cluster.
#[must_use]
pub fn service_url(namespace: &str, service: &ServiceAddress) -> String {
    let path = service.path.as_deref().unwrap_or(DEFAULT_PATH);
    format!("http://{}.{namespace}.svc:{}{path}", service.name, service.port)
}

fn convert_expert(expert: &Expert, index: usize, references: &References) -> Result<data::Expert, ManifestError> {
    let field = format!("spec.experts[{index}]");
    let secret = |reference: Option<&SecretKeyRef>, of: &str| {
        reference.map(|reference| secret_file(reference, references, &format!("{field}.{of}"))).transpose()
    };
    Ok(data::Expert {
        name: expert.name.clone(),
        base_url: base_url(expert, &field, references)?,
        model_name: expert.model_name.clone(),
        placement: expert.placement,
        prices: expert.pricing.as_ref().map(convert_pricing),
        context_tokens: expert.context_tokens,
        capabilities: expert.capabilities.clone(),
        max_in_flight: expert.max_in_flight,
        prepend_messages: expert.prepend_messages.clone(),
        body_overrides: expert.body_overrides.clone(),
        credentials_file: secret(expert.credentials.as_ref().map(|credentials| &credentials.secret_ref), "credentials.secretRef")?,
        ca_file: secret(expert.tls.as_ref().map(|tls| &tls.ca_secret_ref), "tls.caSecretRef")?,
        forward_authorization: expert.forward_authorization.unwrap_or(false),
        health: convert_health(expert.health.as_ref()),
        timeouts: convert_timeouts(expert.timeouts.as_ref()),
    })
}

fn base_url(expert: &Expert, field: &str, references: &References) -> Result<String, ManifestError> {
    let url = match (references.expert_urls.get(&expert.name), &expert.service, &expert.url) {
        (Some(url), _, _) | (None, None, Some(url)) => url.clone(),
        (None, Some(service), _) => service_url(&references.namespace, service),
        (None, None, None) => {
            let problem = format!(
                "nothing runs this deployment outside of a cluster: give the expert a url instead, or say where it is (expert-router: \
                 --expert-url {}=URL)",
                expert.name
            );
            return Err(ManifestError { field: format!("{field}.deployment"), problem });
        }
    };
    Ok(url.trim_end_matches('/').to_owned())
}

fn secret_file(reference: &SecretKeyRef, references: &References, field: &str) -> Result<PathBuf, ManifestError> {
    references.secret_files.get(reference).cloned().ok_or_else(|| ManifestError {
        field: field.to_owned(),
        problem: format!(
            "expected the file {}/{} in a folder of secrets, but there is no such folder (--secrets-dir DIR)",
            reference.name, reference.key
        ),
    })
}

fn value(decimal: Option<&Decimal>) -> f64 {
    decimal.map_or(0.0, Decimal::value)
}

fn convert_pricing(pricing: &Pricing) -> Prices {
    let Pricing { input_per_million, output_per_million, cached_input_per_million, per_request, per_hour } = pricing;
    Prices {
        input_per_million: value(input_per_million.as_ref()),
        output_per_million: value(output_per_million.as_ref()),
        cached_input_per_million: cached_input_per_million.as_ref().map(Decimal::value),
        per_request: value(per_request.as_ref()),
        per_hour: value(per_hour.as_ref()),
    }
}

fn convert_health(health: Option<&Health>) -> data::Health {
    let default = data::Health::default();
    let Some(Health { consecutive_failures, base_ejection_seconds, max_ejection_seconds }) = health else { return default };
    let base_ejection_seconds = base_ejection_seconds.unwrap_or(default.base_ejection_seconds);
    data::Health {
        consecutive_failures: consecutive_failures.unwrap_or(default.consecutive_failures),
        base_ejection_seconds,
        // Who asks for a long first ejection alone does not mean a shorter limit.
        max_ejection_seconds: max_ejection_seconds.unwrap_or(default.max_ejection_seconds.max(base_ejection_seconds)),
    }
}

fn convert_timeouts(timeouts: Option<&Timeouts>) -> data::Timeouts {
    let default = data::Timeouts::default();
    let Some(timeouts) = timeouts else { return default };
    let Timeouts { connect_milliseconds, first_byte_milliseconds, idle_milliseconds, total_milliseconds } = timeouts;
    let or = |given: &Option<u32>, default: u64| given.map_or(default, u64::from);
    data::Timeouts {
        connect_milliseconds: or(connect_milliseconds, default.connect_milliseconds),
        first_byte_milliseconds: or(first_byte_milliseconds, default.first_byte_milliseconds),
        idle_milliseconds: or(idle_milliseconds, default.idle_milliseconds),
        total_milliseconds: or(total_milliseconds, default.total_milliseconds),
    }
}

fn convert_policy(policy: &Policy) -> data::Policy {
    let default = data::Policy::default();
    let Policy {
        objective,
        quality_tolerance,
        weights,
        fallback_expert,
        baseline_expert,
        failure_mode,
        score_deadline_milliseconds,
        retry_budget_percent,
    } = policy;
    data::Policy {
        objective: objective.unwrap_or(default.objective),
        quality_tolerance: quality_tolerance.as_ref().map(Decimal::value),
        weights: convert_weights(weights.as_ref(), default.weights),
        fallback_expert: fallback_expert.clone(),
        baseline_expert: baseline_expert.clone(),
        failure_mode: failure_mode.unwrap_or(default.failure_mode),
        score_deadline_milliseconds: score_deadline_milliseconds.map_or(default.score_deadline_milliseconds, u64::from),
        retry_budget_percent: retry_budget_percent.map_or(default.retry_budget_percent, u32::from),
    }
}

fn convert_weights(weights: Option<&Weights>, default: data::Weights) -> data::Weights {
    let Some(Weights { quality, cost, latency }) = weights else { return default };
    data::Weights {
        quality: quality.as_ref().map_or(default.quality, Decimal::value),
        cost: cost.as_ref().map(Decimal::value),
        latency: latency.as_ref().map_or(default.latency, Decimal::value),
    }
}

fn convert_session(session: &Session) -> data::Session {
    let Session { header, ttl_seconds, max_sessions, switch_gain } = session;
    data::Session {
        header: header.clone().unwrap_or_else(|| "x-expert-router-session".to_owned()),
        ttl_seconds: ttl_seconds.map_or(1800, u64::from),
        max_sessions: max_sessions.map_or(100_000, |most| most as usize),
        switch_gain: switch_gain.as_ref().map_or(0.05, Decimal::value),
    }
}

fn convert_request_log(log: &RequestLog) -> Result<data::RequestLog, ManifestError> {
    for (index, pattern) in log.redact_patterns.iter().enumerate() {
        if let Err(error) = regex_lite::Regex::new(pattern) {
            let field = format!("spec.observability.requestLog.redactPatterns[{index}]");
            return Err(ManifestError { field, problem: format!("expected a regular expression: {error}") });
        }
    }
    let default = data::RequestLog::default();
    // Where it lies is not the data plane's to know from here.
    let RequestLog {
        percent,
        include_responses,
        redaction,
        redact_patterns,
        max_row_kibibytes,
        max_file_mebibytes,
        max_total_mebibytes,
        persistent_volume_claim: _,
    } = log;
    let max_file_bytes = max_file_mebibytes.map_or(default.max_file_bytes, |most| u64::from(most) << 20);
    Ok(data::RequestLog {
        percent: percent.unwrap_or(default.percent),
        include_responses: include_responses.unwrap_or(default.include_responses),
        redaction: redaction.unwrap_or(default.redaction),
        redact_patterns: redact_patterns.clone(),
        max_row_bytes: max_row_kibibytes.map_or(default.max_row_bytes, |most| u64::from(most) << 10),
        max_file_bytes,
        // Who asks for large files alone does not mean to keep less than one of them.
        max_total_bytes: max_total_mebibytes.map_or(default.max_total_bytes, |most| u64::from(most) << 20).max(max_file_bytes),
    })
}

fn convert_budget(budget: &Budget, references: &References) -> data::Budget {
    let Budget { name, amount_usd, period, scope, on_exceeded } = budget;
    let (spent_usd, period_start) = references.spent.get(name).copied().unwrap_or_default();
    data::Budget {
        name: name.clone(),
        amount_usd: amount_usd.value(),
        period: *period,
        on_exceeded: *on_exceeded,
        per_client_key: *scope == Some(BudgetScope::ClientKey),
        spent_usd,
        period_start,
    }
}

/// A field of the snapshot, as the spec calls it.
fn in_spec(error: TableError, router: &ExpertRouter) -> ManifestError {
    let TableError { field, problem } = error;
    let expert = field.strip_prefix("experts[").and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
    let address = match expert.and_then(|index| router.spec.experts.get(index)) {
        Some(expert) if expert.url.is_some() => ".url",
        Some(expert) if expert.service.is_some() => ".service",
        _ => ".deployment",
    };
    let field = match field.as_str() {
        "router" => "metadata.name".to_owned(),
        field => format!("spec.{}", field.replace(".baseUrl", address).replace(".prices", ".pricing")),
    };
    ManifestError { field, problem }
}
