//! The model's bundle: read, checked, loaded once and kept while it stays the same.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use model::{Bundle, Engine, EngineOptions};
use routing::{Recommended, Table, snapshot};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Problem;
use crate::{
    config::Config,
    state::{BoundModel, Model},
    watch::{Fingerprint, fingerprint},
};

/// Loads bundles, and keeps the last.
#[derive(Debug)]
pub(super) struct Models {
    options: EngineOptions,
    loaded: Option<Loaded>,
    given: Option<Arc<Engine>>,
}

#[derive(Debug)]
struct Loaded {
    model: snapshot::Model,
    seen: Vec<Option<Fingerprint>>,
    engine: Arc<Engine>,
}

/// The files whose change means another bundle.
pub(super) fn files(model: &snapshot::Model) -> Vec<PathBuf> {
    let path = path(model);
    // A bundle is written whole and renamed into place; `bundle.json` has the hashes of all the rest.
    vec![path.join("bundle.json"), path]
}

fn path(model: &snapshot::Model) -> PathBuf {
    PathBuf::from(model.uri.strip_prefix("file://").unwrap_or(&model.uri))
}

impl Models {
    pub(super) fn new(config: &Config) -> Self {
        let options = EngineOptions { onnxruntime: config.onnxruntime.clone(), threads: config.score_threads, ..EngineOptions::default() };
        Self::with_options(options)
    }

    /// By engines of these options.
    pub(super) fn with_options(options: EngineOptions) -> Self {
        Self { options, loaded: None, given: None }
    }

    /// From now on this engine scores, whatever bundle a snapshot names.
    pub(super) fn give(&mut self, engine: Arc<Engine>) {
        self.given = Some(engine);
    }

    /// Nothing is asked for any more.
    pub(super) fn forget(&mut self) {
        self.loaded = None;
    }

    /// A model, bound to the table's experts.
    pub(super) fn load(&mut self, table: &Table, model: Option<&snapshot::Model>) -> Result<Model, Problem> {
        let Some(model) = model else {
            self.loaded = None;
            return Ok(Model::None);
        };
        let engine = self.engine(model)?;
        bind(table, engine).map(Model::Ready)
    }

    fn engine(&mut self, model: &snapshot::Model) -> Result<Arc<Engine>, Problem> {
        if let Some(engine) = &self.given {
            return Ok(engine.clone());
        }
        // Looked at before reading: a change in between is seen at the next look.
        let seen: Vec<_> = files(model).iter().map(|file| fingerprint(file)).collect();
        if let Some(loaded) = self.loaded.as_ref().filter(|loaded| loaded.model == *model && loaded.seen == seen) {
            return Ok(loaded.engine.clone());
        }
        let path = path(model);
        let problem = |message: &dyn std::fmt::Display| Problem::new("model", format!("bundle {}: {message}", path.display()));
        let bundle = Bundle::read(&path).map_err(|error| problem(&whole(&error)))?;
        if let Some(wanted) = &model.sha256 {
            let found = digest(&path, &bundle).map_err(|error| problem(&error))?;
            if !found.eq_ignore_ascii_case(wanted) {
                return Err(problem(&format!("expected SHA-256 {wanted}, found {found}")));
            }
        }
        let engine = match &self.loaded {
            Some(loaded) if loaded.engine.bundle().digest == bundle.digest => loaded.engine.clone(),
            _ => Arc::new(Engine::load(bundle, &self.options).map_err(|error| problem(&whole(&error)))?),
        };
        self.loaded = Some(Loaded { model: model.clone(), seen, engine: engine.clone() });
        Ok(engine)
    }
}

/// Of a tar, or of a directory's `bundle.json`.
fn digest(path: &Path, bundle: &Bundle) -> std::io::Result<String> {
    if path.is_dir() {
        return Ok(bundle.digest.clone());
    }
    std::fs::read(path).map(|bytes| hex::encode(Sha256::digest(bytes)))
}

/// An error with its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn bind(table: &Table, engine: Arc<Engine>) -> Result<BoundModel, Problem> {
    let entries = &engine.bundle().manifest.experts;
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let columns = table.bind(&names).map_err(|missing| {
        Problem::new("model", format!("the bundle does not know these experts of the router: {}", missing.join(", ")))
    })?;
    let number = |value: Option<f64>| value.map_or(f32::NAN, |value| value as f32);
    let mean_output_tokens = columns.iter().map(|column| number(entries[*column].mean_output_tokens)).collect();
    let mean_seconds = columns.iter().map(|column| number(entries[*column].mean_seconds)).collect();
    let recommended = recommended(&engine.bundle().manifest.training);
    Ok(BoundModel { engine, columns, mean_output_tokens, mean_seconds, recommended })
}

/// As training wrote it. What a bundle says of itself is free in form, so what is no such number is not there.
fn recommended(training: &Value) -> Recommended {
    let setting = |objective: &str| {
        let setting = training.get("recommended")?.get(objective)?.get("setting")?.as_f64()?;
        (setting.is_finite() && setting >= 0.0).then_some(setting)
    };
    let default = Recommended::default();
    Recommended {
        quality_tolerance: setting("cost").unwrap_or(default.quality_tolerance),
        cost_weight: setting("balanced").unwrap_or(default.cost_weight),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bundle_s_recommendations_are_taken_where_they_are_numbers() {
        let check = |training: Value, quality_tolerance: f64, cost_weight: f64| {
            assert_eq!(recommended(&training), Recommended { quality_tolerance, cost_weight }, "{training}");
        };
        check(json!({"recommended": {"balanced": {"setting": 4.5, "out_of_fold": null}, "cost": {"setting": 0.125}}}), 0.125, 4.5);
        check(json!({"recommended": {"balanced": {"setting": -1.0}, "cost": {"setting": "0.1"}}}), 0.0, 0.5);
        check(json!({"recommended": [1]}), 0.0, 0.5);
        check(Value::Null, 0.0, 0.5);
    }
}
