//! What all requests of the process share: the state in force, metrics, limits, conversations, money.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use routing::{
    retries::RetryBudget,
    session::Sessions,
    snapshot::Session,
    table::{ExpertIndex, Table},
};

use crate::{
    aside::{log::RequestLog, shadow::Shadow},
    metrics::Metrics,
    read,
    recent::Recent,
    spend::Spend,
    state::{State, lock},
    trace::Tracer,
};

/// One per process.
#[derive(Debug)]
pub struct Shared {
    /// In force now.
    pub state: ArcSwap<State>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Of request bodies.
    pub limits: read::Limits,
    /// Conversations under way.
    pub sessions: Conversations,
    /// Responses that experts' servers keep: who keeps which. Whatever the policy for conversations is, nobody else can go on from them.
    pub stored: Conversations,
    /// Money spent.
    pub spend: Spend,
    /// What retries are paid from.
    pub retries: Mutex<RetryBudget>,
    /// The end has begun: not ready any more.
    pub draining: AtomicBool,
    /// The end's grace is over: requests that have not ended are cut.
    pub cut: AtomicBool,
    /// Requests whose metering is still to come.
    pub open_requests: AtomicUsize,
    /// The last change that could not be used, until one can.
    pub last_error: Mutex<Option<LastError>>,
    /// Present: requests may be traced.
    pub tracer: Option<Tracer>,
    /// Asks the model in shadow.
    pub shadow: Shadow,
    /// Where requests are kept for training, if anywhere.
    pub request_log: Option<RequestLog>,
    /// The last requests.
    pub recent: Recent,
    /// Where `now` counts from.
    epoch: Instant,
}

/// A change that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LastError {
    /// `source`, `files`, `model`, `shadow`, `keys` or `tls`.
    pub what: &'static str,
    /// For people; no secret in it.
    pub message: String,
    /// Seconds since 1970.
    pub at: u64,
}

impl Shared {
    /// With a first state.
    #[must_use]
    pub fn new(state: State, metrics: Arc<Metrics>, limits: read::Limits, spend: Spend) -> Self {
        let epoch = Instant::now();
        let snapshot = state.table.snapshot();
        spend.adopt(&snapshot.budgets);
        let retries = Mutex::new(RetryBudget::new(snapshot.policy.retry_budget_percent, Duration::ZERO));
        let sessions = Conversations::new(state.generation, snapshot.session.as_ref());
        let stored = Conversations::new(state.generation, Some(&stored_responses()));
        Self {
            sessions,
            stored,
            retries,
            spend,
            metrics,
            limits,
            draining: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            open_requests: AtomicUsize::new(0),
            last_error: Mutex::new(None),
            tracer: None,
            shadow: Shadow::default(),
            request_log: None,
            recent: Recent::default(),
            epoch,
            state: ArcSwap::from_pointee(state),
        }
    }

    /// Time since the start, for everything that keeps time without a clock of its own.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Puts a new state in force.
    pub fn swap(&self, state: State) {
        let old = self.state.load();
        let snapshot = state.table.snapshot();
        self.spend.adopt(&snapshot.budgets);
        lock(&self.retries).set_percent(snapshot.policy.retry_budget_percent);
        self.sessions.rebind(&old.table, &state, state.table.snapshot().session.as_ref());
        self.stored.rebind(&old.table, &state, Some(&stored_responses()));
        self.state.store(Arc::new(state));
    }

    /// Waits until every request is metered; at the end of the process, when no more can come. Requests that were cut off are too, so
    /// this is a matter of moments.
    pub async fn all_metered(&self) {
        for _ in 0..200 {
            if self.open_requests.load(Ordering::Acquire) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// Seconds since 1970, for budgets and for people.
#[must_use]
pub fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How long it is remembered who keeps a response: as long as people come back to a conversation within a day, and a few megabytes of them.
fn stored_responses() -> Session {
    Session { header: String::new(), ttl_seconds: 24 * 60 * 60, max_sessions: 50_000, switch_gain: 0.0 }
}

/// Which expert each conversation is with. Experts are numbers there, which mean something only together with their table: so the number
/// of the state goes along, and requests of an older state neither read nor write.
#[derive(Debug)]
pub struct Conversations(Mutex<(u64, Option<Sessions>)>);

impl Conversations {
    fn new(generation: u64, policy: Option<&Session>) -> Self {
        Self(Mutex::new((generation, policy.map(Sessions::new))))
    }

    /// The conversation's expert.
    #[must_use]
    pub fn get(&self, generation: u64, key: u128, now: Duration) -> Option<ExpertIndex> {
        let mut inner = lock(&self.0);
        if inner.0 == generation { inner.1.as_mut()?.get(key, now) } else { None }
    }

    /// The expert answered.
    pub fn put(&self, generation: u64, key: u128, expert: ExpertIndex, now: Duration) {
        let mut inner = lock(&self.0);
        if inner.0 == generation
            && let Some(sessions) = &mut inner.1
        {
            sessions.put(key, expert, now);
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.0).1.as_ref().map_or(0, Sessions::len)
    }

    /// None.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn rebind(&self, old: &Table, new: &State, policy: Option<&Session>) {
        let mut inner = lock(&self.0);
        inner.0 = new.generation;
        match (&mut inner.1, policy) {
            (Some(sessions), Some(policy)) => {
                sessions.set_policy(policy);
                sessions.rebind(|expert| new.table.expert(&old.experts().get(expert)?.name));
            }
            (sessions, policy) => *sessions = policy.map(Sessions::new),
        }
    }
}
