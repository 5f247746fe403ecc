//! Requests at a steady rate: each is sent when it is due, however many are still open. Streams and whole answers, new and kept
//! connections take turns.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::{
    connections::Pool,
    probe::Probes,
    record::Record,
    send::{Plan, send},
};

/// While nothing is due: how often it is looked whether something is.
const REST: Duration = Duration::from_millis(50);

/// What is to be sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Requests a second; 0 is none.
    pub(crate) rate: f64,
    /// What is going on, for the records.
    pub(crate) phase: String,
    /// As in the API; `auto` lets the router choose.
    pub(crate) model: String,
    /// Another base URL than the client's own; empty: its own.
    #[serde(default)]
    pub(crate) url: String,
    /// Further headers.
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    /// Questions in turn; a number is put behind each. None: one of its own.
    #[serde(default)]
    pub(crate) prompts: Vec<String>,
    /// Questions as they are, and usage asked for with every stream: so that clients can tell what each answer cost.
    #[serde(default)]
    pub(crate) exact: bool,
}

/// Sends what it is told to.
#[derive(Clone)]
pub(crate) struct Generator {
    name: Arc<str>,
    own: Target,
    state: Arc<Mutex<State>>,
    /// Single questions beside the load.
    pub(crate) probes: Probes,
}

/// A router, and the connections to it.
#[derive(Clone)]
struct Target {
    pool: Pool,
    path: Arc<str>,
}

#[derive(Default)]
struct State {
    load: Load,
    /// Where the load goes, if not to the client's own router.
    other: Option<Target>,
    sent: u64,
    open: BTreeMap<String, u64>,
    ended: Vec<Record>,
}

/// What there is of a phase.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Requests of it that have not ended.
    pub(crate) open: u64,
    /// Those that have, in the order they did.
    pub(crate) records: Vec<Record>,
}

impl Generator {
    /// Idle until it is told otherwise.
    pub(crate) fn new(name: &str, address: &str, path: &str) -> Self {
        let own = Target { pool: Pool::new(address), path: path.into() };
        let probes = Probes::new(name, Pool::new(address), path);
        Self { name: name.into(), own, state: Arc::default(), probes }
    }

    /// From now on this. A URL that is none sends to the client's own router.
    pub(crate) fn set(&self, load: Load) {
        let mut state = self.state();
        if load.url != state.load.url {
            let split = super::split(&load.url).ok();
            state.other = split.map(|(address, path)| Target { pool: Pool::new(&address), path: path.into() });
        }
        state.load = load;
    }

    /// What there is of a phase beyond so many records. It stays: an answer may be lost on its way.
    pub(crate) fn records(&self, phase: &str, known: usize) -> Ended {
        let state = self.state();
        let records = state.ended.iter().filter(|record| record.phase == phase).skip(known).cloned().collect();
        Ended { open: state.open.get(phase).copied().unwrap_or_default(), records }
    }

    /// Sends for as long as it is polled.
    pub(crate) async fn generate(self) {
        let mut due = Instant::now();
        loop {
            let rate = self.state().load.rate;
            if rate <= 0.0 {
                due = Instant::now() + REST;
            } else {
                self.clone().begin();
                due += Duration::from_secs_f64(1.0 / rate);
            }
            sleep_until(due).await;
        }
    }

    fn begin(self) {
        let (plan, other) = {
            let mut state = self.state();
            (state.next(&self.name), state.other.clone())
        };
        tokio::spawn(async move {
            let target = other.unwrap_or_else(|| self.own.clone());
            let record = send(&target.pool, &target.path, plan).await;
            self.state().end(record);
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self, name: &str) -> Plan {
        let number = self.sent;
        self.sent += 1;
        *self.open.entry(self.load.phase.clone()).or_default() += 1;
        let question = usize::try_from(number).ok().and_then(|number| self.load.prompts.get(number % self.load.prompts.len().max(1)));
        let stream = number.is_multiple_of(2);
        Plan {
            id: format!("{name}-{number}"),
            phase: self.load.phase.clone(),
            model: self.load.model.clone(),
            // Each question is another, so that no cache answers it.
            prompt: match question {
                None => format!("What comes after {number}?"),
                Some(question) if self.load.exact => question.clone(),
                Some(question) => format!("{question} ({number})"),
            },
            stream,
            usage: stream && (self.load.exact || (number / 4).is_multiple_of(2)),
            kept: (number / 2).is_multiple_of(2),
            headers: self.load.headers.clone(),
        }
    }

    fn end(&mut self, record: Record) {
        if let Some(open) = self.open.get_mut(&record.phase) {
            *open = open.saturating_sub(1);
        }
        self.ended.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_requests_take_turns_and_ids_are_one_s_own() {
        let mut state = State { load: Load { rate: 1.0, phase: "p".into(), model: "auto".into(), ..Load::default() }, ..State::default() };
        let plans: Vec<Plan> = (0..8).map(|_| state.next("a")).collect();
        let kinds: std::collections::BTreeSet<_> = plans.iter().map(|plan| (plan.stream, plan.kept, plan.usage)).collect();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        assert!(plans.iter().all(|plan| plan.stream || !plan.usage));
        let ids: std::collections::BTreeSet<_> = plans.iter().map(|plan| &plan.id).collect();
        assert_eq!(ids.len(), 8);
        assert_eq!(state.open["p"], 8);
    }

    #[test]
    fn a_phase_is_told_alone_and_once_more_to_those_who_do_not_know_it() {
        let generator = Generator::new("a", "127.0.0.1:1", "/v1");
        let record = |phase: &str| {
            let json = serde_json::json!({"id": "1", "phase": phase, "sent_at": 0, "stream": true, "kept": true, "outcome": "Answered",
                "status": 200, "detail": "", "expert": "", "reason": "", "cost_usd": null, "tokens": null, "first_byte_ms": 1.0, "total_ms": 1.0});
            serde_json::from_value::<Record>(json).unwrap()
        };
        generator.state().open.insert("p".into(), 3);
        for phase in ["p", "q", "p"] {
            generator.state().end(record(phase));
        }
        let check = |phase: &str, known: usize, records: usize| {
            assert_eq!(generator.records(phase, known).records.len(), records, "{phase} from {known}");
        };
        assert_eq!(generator.records("p", 0).open, 1);
        check("p", 0, 2);
        check("p", 0, 2);
        check("p", 2, 0);
        check("q", 0, 1);
    }
}
