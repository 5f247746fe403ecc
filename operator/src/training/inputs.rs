//! What each step reads, as a digest: a step whose digest is the same need not be done again.
//!
//! Prices are not among what is asked, nor among what `Quality` is fitted to: a new price asks nobody again. It is among what is evaluated.

use std::collections::BTreeMap;

use api::{model::Metric, training::Prepared};
use k8s_openapi::jiff::Timestamp;
use routing::snapshot::Objective;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::valid::{Queries, ValidModel};

/// Sixteen hex digits of the SHA-256 of a value. Fields of objects go by name, in whatever order they were written.
#[must_use]
pub fn digest_of(value: &Value) -> String {
    let json = serde_json::to_vec(&sorted(value)).expect("a value has string keys only");
    hex::encode(&Sha256::digest(json)[..8])
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, Value> = fields.iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.into_iter().map(|(name, value)| (name.clone(), value)).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// What is asked of whom.
#[must_use]
pub fn prepare(model: &ValidModel, tick: Option<Timestamp>) -> String {
    let queries = match &model.queries {
        Queries::ConfigMap { digest, .. } => json!(["content", digest]),
        Queries::Claim(volume) => json!(["claim", volume.name, volume.path]),
        Queries::Uri(uri) => json!(["uri", uri]),
    };
    let experts: BTreeMap<&str, Value> = model
        .experts
        .iter()
        .map(|resolved| {
            let expert = &resolved.expert;
            (expert.name.as_str(), json!([resolved.fingerprint, expert.model_name, expert.prepend_messages, expert.body_overrides]))
        })
        .collect();
    digest_of(&json!({
        "queries": queries,
        "experts": experts,
        "encoder": model.spec.scoring.encoder,
        "workspace": [model.workspace.claim, model.workspace.folder],
        "tick": tick.map(Timestamp::as_second),
        "retrain": model.retrain,
    }))
}

/// What a router is fitted to.
#[must_use]
pub fn fit(model: &ValidModel, prepared: &Prepared) -> String {
    let prices = (model.objective != Objective::Quality).then(|| prices(model));
    digest_of(&json!({
        "outcomes": prepared.digest,
        "metric": metric(model),
        "router": model.spec.router,
        "workspace": [model.workspace.claim, model.workspace.folder],
        "prices": prices,
    }))
}

/// What a bundle is judged by.
#[must_use]
pub fn evaluate(model: &ValidModel, prepared: &Prepared, digest: &str) -> String {
    digest_of(&json!({
        "bundle": digest,
        "outcomes": prepared.digest,
        "metric": metric(model),
        "objective": model.objective,
        "prices": prices(model),
        "workspace": [model.workspace.claim, model.workspace.folder],
    }))
}

/// What is published where.
#[must_use]
pub fn publish(model: &ValidModel, digest: &str) -> String {
    digest_of(&json!(model.output.bundle_uri(digest)))
}

fn metric(model: &ValidModel) -> Value {
    let scoring = &model.spec.scoring;
    json!([scoring.metric.unwrap_or(Metric::BERTSim), scoring.bert_sim_weight.as_ref().map(api::Decimal::value)])
}

fn prices(model: &ValidModel) -> Value {
    let prices = model.experts.iter().map(|resolved| (resolved.expert.name.clone(), json!(resolved.expert.pricing)));
    prices.collect::<serde_json::Map<_, _>>().into()
}
