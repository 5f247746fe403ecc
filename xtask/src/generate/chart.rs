//! The chart's generated files: `values.yaml`, `values.schema.json`, the reference page, and the CRDs once more, for a chart carries
//! its own files only.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::{Map, Value};

use super::values::{Field, defaults, fields, schema};

/// Width of a comment, with its indentation.
const WIDTH: usize = 120;

const YAML_HEAD: &str = "# Made by `cargo run -p xtask -- generate` from xtask/src/generate/values.rs.\n";

const REFERENCE_HEAD: &str = "<!-- Made by `cargo run -p xtask -- generate` from xtask/src/generate/values.rs. -->\n\
    # Values of the chart\n\n\
    How to install, by task, is in [install.md](install.md).\n\n\
    | value | type | default | |\n|---|---|---|---|\n";

/// The files, by their path from the workspace's folder.
pub(crate) fn files() -> anyhow::Result<Vec<(String, String)>> {
    let schema = schema();
    let root = schema.as_object().context("a schema is an object")?;
    let defaults = defaults();
    let mut yaml = YAML_HEAD.to_owned();
    write_yaml(&mut yaml, root, &defaults, 0)?;
    let mut reference = REFERENCE_HEAD.to_owned();
    write_rows(&mut reference, root, &defaults, "");
    let mut lean = Value::Object(root.clone());
    without_defaults(&mut lean);
    // Helm itself puts this in.
    lean["properties"]["global"] = serde_json::json!({"type": "object"});
    Ok(vec![
        ("charts/expert-router/values.yaml".to_owned(), yaml),
        ("charts/expert-router/values.schema.json".to_owned(), format!("{}\n", serde_json::to_string_pretty(&lean)?)),
        ("docs/chart.md".to_owned(), reference),
    ])
}

/// Each value below its description.
fn write_yaml(yaml: &mut String, schema: &Map<String, Value>, defaults: &Value, depth: usize) -> anyhow::Result<()> {
    let indent = "  ".repeat(depth);
    for Field { name, schema } in fields(schema).unwrap_or_default() {
        if depth == 0 {
            yaml.push('\n');
        }
        for line in wrapped(text(schema), WIDTH - indent.len() - 2) {
            let _ = writeln!(yaml, "{indent}# {line}");
        }
        let default = &defaults[name];
        match fields(schema) {
            Some(_) => {
                let _ = writeln!(yaml, "{indent}{name}:");
                write_yaml(yaml, schema, default, depth + 1)?;
            }
            // JSON is YAML, and what stands here fits a line.
            None => {
                let _ = writeln!(yaml, "{indent}{name}: {}", one_line(default));
            }
        }
    }
    Ok(())
}

/// Flow style, as a person would write it: `{a: 1}` rather than `{"a":1}`.
fn one_line(value: &Value) -> String {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/' | b'.'));
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {}", one_line(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        Value::String(text) if plain(text) && text.starts_with(|c: char| c.is_ascii_alphabetic()) => text.clone(),
        other => other.to_string(),
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A row for each value that can be set.
fn write_rows(page: &mut String, schema: &Map<String, Value>, defaults: &Value, prefix: &str) {
    for Field { name, schema } in fields(schema).unwrap_or_default() {
        let (path, default) = (format!("{prefix}{name}"), &defaults[name]);
        if fields(schema).is_some() {
            let _ = writeln!(page, "| **`{path}`** | | | {} |", text(schema));
            write_rows(page, schema, default, &format!("{path}."));
        } else {
            let _ = writeln!(page, "| `{path}` | {} | `{}` | {} |", kind_of(schema), one_line(default), text(schema));
        }
    }
}

fn kind_of(schema: &Map<String, Value>) -> String {
    match schema.get("enum").and_then(Value::as_array) {
        Some(values) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
        None => schema.get("type").and_then(Value::as_str).unwrap_or("any").to_owned(),
    }
}

fn text(schema: &Map<String, Value>) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// Defaults are said once, in `values.yaml`.
fn without_defaults(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A value may be called so; then what is there is its schema.
            if fields.get("default").is_none_or(|default| default.get("type").is_none()) {
                fields.shift_remove("default");
            }
            if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                fields.shift_remove("format");
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            fields.values_mut().for_each(without_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(without_defaults),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_words_and_a_default_of_its_type() {
        fn check(schema: &Map<String, Value>, defaults: &Value, path: &str) {
            for Field { name, schema } in fields(schema).unwrap() {
                let (path, default) = (format!("{path}.{name}"), &defaults[name]);
                assert!(!text(schema).is_empty(), "{path} is not described");
                if fields(schema).is_some() {
                    check(schema, default, &path);
                    continue;
                }
                let kind = match default {
                    Value::Bool(_) => "boolean",
                    Value::Number(_) => "integer",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                    Value::Null => "null",
                };
                assert_eq!(schema["type"], kind, "{path}");
            }
        }
        check(schema().as_object().unwrap(), &defaults(), "");
    }

    #[test]
    fn flow_style_is_what_a_person_writes_and_reads_back_as_what_it_was() {
        let value = serde_json::json!({"a": ["1", "x", ""], "b": {"c": 2, "d": "sha256:0"}, "e": true});
        let written = one_line(&value);
        assert_eq!(written, r#"{a: ["1", x, ""], b: {c: 2, d: "sha256:0"}, e: true}"#);
        assert_eq!(serde_saphyr::from_str::<Value>(&written).unwrap(), value);
    }

    #[test]
    fn the_written_values_read_back_as_the_defaults() {
        let files = files().unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&files[0].1).unwrap(), defaults());
    }
}
