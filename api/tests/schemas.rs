//! What an API server demands of a CRD's schema ("structural"), checked without one.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use api::crds;
use serde_json::Value;

#[test]
fn both_schemas_are_structural() {
    for crd in crds() {
        let name = crd.metadata.name.clone().unwrap();
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        let mut seen = 0;
        walk(&schema, &name, &mut seen);
        assert!(seen > 100, "{name}: only {seen} fields seen");
        assert_eq!(schema["required"], serde_json::json!(["spec"]), "{name}");
    }
}

/// Fails at the first place that an API server would refuse, or that would not do what it says.
fn walk(schema: &Value, at: &str, seen: &mut usize) {
    *seen += 1;
    let open = schema["x-kubernetes-int-or-string"] == true;
    assert!(schema["type"].is_string() || open, "{at}: no type: {schema}");
    let root = !at.contains('/');
    assert!(
        schema["description"].is_string() || at.ends_with("/*") || at.ends_with("[]") || open || at.contains("valueFrom"),
        "{at}: no description"
    );
    for word in ["$ref", "oneOf", "allOf", "not", "if", "const", "nullable", "uniqueItems", "patternProperties", "definitions", "$defs"] {
        assert!(schema.get(word).is_none(), "{at}: {word}");
    }
    assert!(schema.get("anyOf").is_none() || open, "{at}: anyOf");
    let format = schema["format"].as_str().unwrap_or("int32");
    assert!(["int32", "int64", "date-time", "double"].contains(&format), "{at}: format {format}");
    assert!(schema["type"] != "number" || at.contains("/status"), "{at}: a float in spec");
    if let Some(properties) = schema["properties"].as_object() {
        assert!(schema.get("additionalProperties").is_none(), "{at}: properties and additionalProperties");
        for (name, child) in properties.iter().filter(|(name, _)| !root || ["spec", "status"].contains(&name.as_str())) {
            walk(child, &format!("{at}/{name}"), seen);
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(properties.contains_key(required.as_str().unwrap()), "{at}: requires unknown {required}");
        }
    }
    if schema["type"] == "array" {
        list(schema, at);
        walk(&schema["items"], &format!("{at}[]"), seen);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], &format!("{at}/*"), seen);
    }
}

/// Keys of a list that merges as a map must be given in each entry; sets are of scalars; rules need bounds for their cost.
fn list(schema: &Value, at: &str) {
    let items = &schema["items"];
    for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
        let key = key.as_str().unwrap();
        let required = items["required"].as_array().is_some_and(|required| required.iter().any(|name| name == key));
        assert!(required || items["properties"][key].get("default").is_some(), "{at}: key {key} may be absent");
    }
    if schema["x-kubernetes-list-type"] == "set" {
        assert_eq!(items["type"], "string", "{at}");
    }
    if items["x-kubernetes-validations"].is_array() {
        assert!(schema["maxItems"].is_number(), "{at}: rules in a list without a bound");
    }
}
