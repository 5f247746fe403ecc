//! The CRDs, and their schemas applied to a value outside of a cluster: ranges, lengths and patterns are stated once, on the types.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use regex_lite::Regex;
use serde_json::Value;

use crate::{ExpertRouter, ManifestError, RouterModel, rules::words};

/// Both CRDs, as the API server takes them.
#[must_use]
pub fn crds() -> [CustomResourceDefinition; 2] {
    [ExpertRouter::crd(), RouterModel::crd()].map(|crd| {
        let mut json = serde_json::to_value(crd).expect("a CRD has string keys only");
        tidy(&mut json);
        serde_json::from_value(json).expect("tidying takes away and renames within what a CRD may have")
    })
}

/// Makes of what is derived what the API server takes: no `additionalProperties: false` (unknown fields are pruned or refused by the
/// API server itself), no number formats it does not know, no `default: null`, and nothing nullable: the API server then takes a null
/// for an absent field, as the typed reader does.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
                fields.shift_remove("additionalProperties");
            }
            if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                fields.shift_remove("format");
            }
            if fields.get("nullable") == Some(&Value::Bool(true)) {
                fields.shift_remove("nullable");
            }
            if fields.contains_key("type") && fields.get("default").is_some_and(Value::is_null) {
                fields.shift_remove("default");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// The schemas of the `spec` of ExpertRouter and RouterModel. Made once: that takes longer than reading a manifest.
pub(crate) fn of_specs() -> &'static [Value; 2] {
    static SCHEMAS: LazyLock<[Value; 2]> = LazyLock::new(|| crds().map(|crd| of_spec(&crd)));
    &SCHEMAS
}

fn of_spec(crd: &CustomResourceDefinition) -> Value {
    let version = crd.spec.versions.first().and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let spec = version.and_then(|schema| schema.properties.as_ref()?.get("spec"));
    serde_json::to_value(spec).expect("a schema has string keys only")
}

/// Checks the limits a schema states. Types, required and unknown fields are the typed reader's to find, whose words are better.
pub(crate) fn check(schema: &Value, value: &Value, field: &str) -> Result<(), ManifestError> {
    let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
    match value {
        Value::Object(fields) => {
            for (name, child) in fields {
                let below = schema.get("properties").and_then(|properties| properties.get(name)).or(schema.get("additionalProperties"));
                below.map_or(Ok(()), |below| check(below, child, &format!("{field}.{name}")))?;
            }
            Ok(())
        }
        Value::Array(items) => {
            within(items.len() as f64, limit("minItems"), limit("maxItems"), field, "entries")?;
            let Some(below) = schema.get("items") else { return Ok(()) };
            items.iter().enumerate().try_for_each(|(index, child)| check(below, child, &format!("{field}[{index}]")))
        }
        Value::String(text) => {
            within(text.chars().count() as f64, limit("minLength"), limit("maxLength"), field, "characters")?;
            schema.get("pattern").and_then(Value::as_str).map_or(Ok(()), |pattern| matches(pattern, text, field))
        }
        Value::Number(number) => within(number.as_f64().unwrap_or(f64::NAN), limit("minimum"), limit("maximum"), field, ""),
        _ => Ok(()),
    }
}

fn within(value: f64, least: Option<f64>, most: Option<f64>, field: &str, unit: &str) -> Result<(), ManifestError> {
    if least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most) {
        return Ok(());
    }
    let expected = match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, most) => format!("at most {}", most.unwrap_or(f64::INFINITY)),
    };
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    Err(ManifestError { field: field.to_owned(), problem: format!("expected {expected}{unit}, got {value}") })
}

fn matches(pattern: &str, text: &str, field: &str) -> Result<(), ManifestError> {
    let regex = Regex::new(pattern).expect("patterns are constants, and a test compiles each");
    if regex.is_match(text) {
        return Ok(());
    }
    // A URL may carry a password by mistake; it is not shown.
    let got = if text.contains('@') { String::new() } else { format!(", got {text:?}") };
    Err(ManifestError { field: field.to_owned(), problem: format!("expected {}{got}", words(pattern)) })
}
