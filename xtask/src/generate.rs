//! Files that are made from code and committed: written here, or compared with what is there (`--check`), by one function.

mod chart;
mod values;

mod dashboards;
mod metrics;
mod rules;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// `generate`'s own arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail where a file is not what would be written
    #[arg(long)]
    check: bool,
}

/// Writes or compares every generated file.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = crate::workspace();
    let mut stale = Vec::new();
    for (path, content) in files()? {
        if !ensure(&root.join(&path), &content, arguments.check)? {
            stale.push(path.display().to_string());
        }
    }
    if !stale.is_empty() {
        bail!("not up to date: {}; run `cargo run -p xtask -- generate`", stale.join(", "));
    }
    Ok(())
}

/// Whether the file is now as it should be.
fn ensure(path: &Path, content: &str, check: bool) -> anyhow::Result<bool> {
    if fs::read_to_string(path).is_ok_and(|present| present == content) {
        return Ok(true);
    }
    if check {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(true)
}

/// Every generated file, by its path from the workspace's folder.
fn files() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    let mut reference = REFERENCE_HEAD.to_owned();
    for crd in api::crds() {
        let name = crd.metadata.name.clone().context("a CRD has a name")?;
        let json = serde_json::to_value(&crd)?;
        let yaml = serde_saphyr::to_string(&json).with_context(|| format!("write {name} as YAML"))?;
        let content = format!("# Made by `cargo run -p xtask -- generate` from api/src.\n{yaml}");
        // For kubectl, and once more for Helm: a chart carries its own files only.
        for folder in ["crds", "charts/expert-router/files/crds"] {
            files.push((PathBuf::from(format!("{folder}/{name}.yaml")), content.clone()));
        }
        kind(&mut reference, &json);
    }
    files.push(("docs/reference.md".into(), reference));
    files.push(("docs/metrics.md".into(), metrics::page()));
    files.push(("docs/spans.md".into(), sidecar::trace::semantic::markdown()));
    files.extend(chart::files()?.into_iter().map(|(path, content)| (path.into(), content)));
    files.extend(dashboards::files()?);
    files.extend(dashboards::pages());
    files.extend(rules::files()?);
    Ok(files)
}

const REFERENCE_HEAD: &str = "<!-- Made by `cargo run -p xtask -- generate` from api/src. -->\n\
    # Fields of the API\n\n\
    How to write a manifest, by task, is in [manifest.md](manifest.md). `*` marks what has to be given.\n";

/// One kind's part of the reference page.
fn kind(page: &mut String, crd: &Value) {
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let name = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
    let _ = write!(page, "\n## {name}\n\n{}\n", text(schema));
    for part in ["spec", "status"] {
        let _ = write!(page, "\n### {name} {part}\n\n| field | type | |\n|---|---|---|\n");
        fields(page, &schema["properties"][part], "");
    }
}

/// A row for each field below a schema, parents before children. Kubernetes' own types are not taken apart: people know them.
fn fields(page: &mut String, schema: &Value, prefix: &str) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, field) in properties {
        let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name));
        let path = format!("{prefix}{name}");
        let star = if required { "*" } else { "" };
        let _ = writeln!(page, "| `{path}`{star} | {} | {} |", kind_of(field), text(field).replace('|', "\\|"));
        let foreign = ["env", "resources", "tolerations", "conditions", "imagePullSecrets"].contains(&name.as_str());
        match field["items"].is_object() {
            _ if foreign => {}
            true => fields(page, &field["items"], &format!("{path}[].")),
            false => fields(page, field, &format!("{path}.")),
        }
    }
}

fn kind_of(field: &Value) -> String {
    let of = |schema: &Value| match &schema["enum"] {
        Value::Array(values) => values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
        _ if [api::decimal::PATTERN, api::decimal::SHARE_PATTERN].iter().any(|pattern| schema["pattern"] == *pattern) => {
            "decimal string".to_owned()
        }
        _ => schema["type"].as_str().unwrap_or("any").to_owned(),
    };
    if field["items"].is_object() { format!("list of {}", of(&field["items"])) } else { of(field) }
}

/// A description on one line.
fn text(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}
