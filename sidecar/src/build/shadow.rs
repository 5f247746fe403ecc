//! The bundle on trial: loaded like the one in force, on a thread that gives way, and never in its way.

use std::sync::Arc;

use model::{Engine, EngineOptions};
use routing::Table;

use super::{Problem, bundle::Models};
use crate::{
    aside::{give_way, shadow::ShadowModel},
    config::Config,
    state::Model,
};

/// Loads bundles on trial, and keeps the last.
#[derive(Debug)]
pub(super) struct Shadows(Models);

impl Shadows {
    pub(super) fn new(config: &Config) -> Self {
        let options = EngineOptions {
            onnxruntime: config.onnxruntime.clone(),
            // One text at a time, and each once.
            threads: 1,
            cache_entries: 0,
            ..EngineOptions::default()
        };
        Self(Models::with_options(options))
    }

    /// From now on this engine is in shadow, whatever bundle a snapshot names.
    pub(super) fn give(&mut self, engine: Arc<Engine>) {
        self.0.give(engine);
    }

    /// The table's model on trial, bound to its experts. One that cannot be used is a problem and no more: requests do without.
    pub(super) fn load(&mut self, table: &Table) -> (Option<ShadowModel>, Option<Problem>) {
        let shadow = table.snapshot().shadow.as_ref();
        if shadow.is_none() {
            self.0.forget();
            return (None, None);
        }
        let models = &mut self.0;
        let mut load = move || models.load(table, shadow.map(|shadow| &shadow.model));
        // The threads of an engine are as those that made them.
        let loaded = std::thread::scope(|scope| {
            let apart = scope.spawn(|| {
                give_way();
                load()
            });
            apart.join().unwrap_or_else(|_| Err(Problem::new("shadow", "the bundle could not be loaded")))
        });
        match (loaded, shadow) {
            (Ok(Model::Ready(bound)), Some(shadow)) => (Some(ShadowModel { bound, percent: shadow.percent }), None),
            (Ok(_), _) => (None, None),
            (Err(problem), _) => (None, Some(Problem { what: "shadow", message: format!("on trial: {}", problem.message) })),
        }
    }
}
