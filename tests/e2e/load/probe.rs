//! One question again and again, until an answer shows that a change is in force: when that was, by this machine's clock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    connections::Pool,
    record::{Outcome, Record},
    send::{Plan, send},
};

/// What to wait for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Who answers; empty: whoever.
    #[serde(default)]
    pub(crate) expert: String,
    /// Why that expert; empty: whyever.
    #[serde(default)]
    pub(crate) reason: String,
    /// What it costs, as a decimal of USD with tolerance of a billionth.
    #[serde(default)]
    pub(crate) cost_usd: Option<f64>,
    /// As in the API.
    pub(crate) model: String,
    /// The question.
    pub(crate) prompt: String,
    /// Headers of the question.
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    /// Between two questions.
    pub(crate) every_ms: u64,
}

/// How far it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Questions answered so far.
    pub(crate) asked: u64,
    /// When the question was sent whose answer was the first wanted one, milliseconds since 1970.
    pub(crate) seen_at: Option<u64>,
    /// The last answer.
    pub(crate) last: Option<Record>,
}

/// Asks beside the load.
#[derive(Clone)]
pub(crate) struct Probes {
    name: Arc<str>,
    path: Arc<str>,
    pool: Pool,
    state: Arc<Mutex<(u64, Progress)>>,
}

impl Wanted {
    fn is(&self, record: &Record) -> bool {
        let is = |wanted: &str, got: &str| wanted.is_empty() || wanted == got;
        let costs = |wanted: f64| record.cost_usd.is_some_and(|cost| (cost - wanted).abs() < 1e-9);
        record.outcome == Outcome::Answered
            && is(&self.expert, &record.expert)
            && is(&self.reason, &record.reason)
            && self.cost_usd.is_none_or(costs)
    }
}

impl Probes {
    pub(crate) fn new(name: &str, pool: Pool, path: &str) -> Self {
        Self { name: format!("{name}-probe").into(), path: path.into(), pool, state: Arc::default() }
    }

    /// Begins; one that still runs ends.
    pub(crate) fn begin(&self, wanted: Wanted) {
        let run = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            *state = (state.0 + 1, Progress::default());
            state.0
        };
        let probes = self.clone();
        tokio::spawn(async move { probes.ask(run, wanted).await });
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    async fn ask(self, run: u64, wanted: Wanted) {
        for number in 0u64.. {
            let plan = Plan {
                id: format!("{}-{run}-{number}", self.name),
                phase: "probe".into(),
                model: wanted.model.clone(),
                prompt: wanted.prompt.clone(),
                stream: false,
                usage: false,
                kept: true,
                headers: wanted.headers.clone(),
            };
            let record = send(&self.pool, &self.path, plan).await;
            let seen = wanted.is(&record).then_some(record.sent_at);
            if !self.note(run, Progress { asked: number + 1, seen_at: seen, last: Some(record) }) || seen.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(wanted.every_ms)).await;
        }
    }

    /// Whether this run is still wanted.
    fn note(&self, run: u64, progress: Progress) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = state.0 == run;
        if wanted {
            state.1 = progress;
        }
        wanted
    }
}
