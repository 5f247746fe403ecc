//! What requests are served by, swapped in whole: the table, the experts ready to call, the model, the client keys.
//!
//! A request takes one [`State`] at its start and keeps it to its end, so that it never sees half of a change. What outlives a change
//! ([`Live`]: health and requests in flight) is shared between the states by the expert's name. Deliberately absent: files; see `build`.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, Uri};
use model::Engine;
use routing::{
    ExpertState, Recommended, Table,
    health::{Effect, Ejection, Outcome, Ticket},
    table::ExpertIndex,
};
use wire::Endpoint;

use crate::{
    aside::{log, shadow::ShadowModel},
    keys::ClientKeys,
    metrics::ExpertMetrics,
    upstream::SharedPool,
};

/// Everything one request needs to know of the configuration.
#[derive(Debug)]
pub struct State {
    /// Rises with each swap: tells whether an expert's index means the same as in another state.
    pub generation: u64,
    /// The snapshot, compiled.
    pub table: Table,
    /// In the table's order.
    pub experts: Vec<Arc<Expert>>,
    /// What scores.
    pub model: Model,
    /// What is asked too, and not listened to.
    pub shadow: Option<ShadowModel>,
    /// What of requests is kept for training.
    pub request_log: Option<Arc<log::Policy>>,
    /// Present: clients need one.
    pub keys: Option<ClientKeys>,
    /// The policy's header that names a conversation.
    pub session_header: Option<HeaderName>,
    /// When this went into force.
    pub since: Instant,
    /// The same as seconds since 1970.
    pub since_unix: u64,
}

/// The router model as far as it is there.
#[derive(Debug)]
pub enum Model {
    /// None is asked for.
    None,
    /// One is asked for and cannot be used. The text says why.
    Broken(String),
    /// Ready to score.
    Ready(BoundModel),
}

/// A loaded bundle, bound to a table's experts by name.
#[derive(Debug, Clone)]
pub struct BoundModel {
    /// Shared with the next state where the bundle stays.
    pub engine: Arc<Engine>,
    /// For each expert of the table its column in the bundle.
    pub columns: Vec<usize>,
    /// Mean output tokens in training, NaN where unknown; in the table's order.
    pub mean_output_tokens: Vec<f32>,
    /// Mean seconds in training, NaN where unknown; in the table's order.
    pub mean_seconds: Vec<f32>,
    /// What its training recommends where the policy says nothing.
    pub recommended: Recommended,
}

/// One expert, ready to call.
#[derive(Debug)]
pub struct Expert {
    /// As in the table.
    pub index: ExpertIndex,
    /// As in the snapshot.
    pub name: String,
    /// The name for the response header.
    pub name_header: HeaderValue,
    /// One address per endpoint.
    uris: [Uri; 4],
    /// Connections.
    pub pool: SharedPool,
    /// `Bearer ...`, marked as sensitive.
    pub authorization: Option<HeaderValue>,
    /// Whether the client's own `Authorization` goes on.
    pub forward_authorization: bool,
    /// Requests it may have at once.
    pub max_in_flight: u32,
    /// To the head, and of a stream to its first piece.
    pub first_byte: Duration,
    /// Between two pieces of the body.
    pub idle: Duration,
    /// From sending to the last byte.
    pub total: Duration,
    /// Health and load, shared with later states.
    pub live: Arc<Live>,
    /// Handles.
    pub metrics: ExpertMetrics,
}

/// The parts of [`Expert`] that need thought; the rest is worked out from the snapshot's expert.
pub(crate) struct ExpertParts {
    pub(crate) index: ExpertIndex,
    pub(crate) uris: [Uri; 4],
    pub(crate) pool: SharedPool,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: ExpertMetrics,
}

impl Expert {
    pub(crate) fn new(expert: &routing::snapshot::Expert, parts: ExpertParts) -> Result<Self, http::header::InvalidHeaderValue> {
        let ExpertParts { index, uris, pool, authorization, live, metrics } = parts;
        Ok(Self {
            index,
            name: expert.name.clone(),
            name_header: HeaderValue::from_str(&expert.name)?,
            uris,
            pool,
            authorization,
            forward_authorization: expert.forward_authorization,
            max_in_flight: expert.max_in_flight.unwrap_or(u32::MAX),
            first_byte: Duration::from_millis(expert.timeouts.first_byte_milliseconds),
            idle: Duration::from_millis(expert.timeouts.idle_milliseconds),
            total: Duration::from_millis(expert.timeouts.total_milliseconds),
            live,
            metrics,
        })
    }

    /// Where that endpoint is.
    #[must_use]
    pub fn uri(&self, endpoint: Endpoint) -> &Uri {
        &self.uris[endpoint as usize]
    }

    /// Takes a place among the requests in flight, unless all are taken. `None` also where the choice was made a moment too early and
    /// another request took the last place since.
    #[must_use]
    pub fn enter(self: &Arc<Self>, now: Duration) -> Option<Permit> {
        let taken = self
            .live
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < self.max_in_flight).then(|| count.saturating_add(1)));
        let at_once = taken.ok()? + 1;
        self.metrics.in_flight.inc();
        let ticket = lock(&self.live.ejection).begin(now);
        Some(Permit { expert: self.clone(), ticket, at_once, reported: false, left: false })
    }
}

/// What of an expert outlives a change of configuration.
#[derive(Debug)]
pub struct Live {
    /// The address it is the health of: another address starts anew.
    pub base_url: String,
    /// In rotation, ejected or paused.
    pub ejection: Mutex<Ejection>,
    /// Sent and not ended.
    pub in_flight: AtomicU32,
}

impl Live {
    /// How the expert is just now.
    #[must_use]
    pub fn state(&self, now: Duration) -> ExpertState {
        let (ejected, paused) = {
            let ejection = lock(&self.ejection);
            (ejection.is_ejected(now), !ejection.paused_for(now).is_zero())
        };
        ExpertState { ejected, paused, in_flight: self.in_flight.load(Ordering::Acquire) }
    }
}

/// One request in flight to an expert: a place among `maxInFlight`, and a say in the expert's health. Given back when dropped, also when
/// the client hangs up and the request's future is dropped with it.
#[derive(Debug)]
pub struct Permit {
    expert: Arc<Expert>,
    ticket: Ticket,
    /// Requests in flight when this one began, itself included.
    at_once: u32,
    reported: bool,
    left: bool,
}

impl Permit {
    /// The expert.
    #[must_use]
    pub fn expert(&self) -> &Arc<Expert> {
        &self.expert
    }

    /// Whether the expert's return hangs on this request.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.ticket.is_probe()
    }

    /// Requests in flight, this one included: the mean of its beginning and now.
    #[must_use]
    pub fn mean_at_once(&self) -> f64 {
        f64::midpoint(f64::from(self.at_once), f64::from(self.expert.live.in_flight.load(Ordering::Acquire)))
    }

    /// Gives the place back before the rest: the expert has ended its part.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.expert.live.in_flight.fetch_sub(1, Ordering::AcqRel);
            self.expert.metrics.in_flight.dec();
        }
    }

    /// Says how the request ended. May be called again where a success turned into a failure later.
    pub fn report(&mut self, outcome: Outcome, now: Duration) {
        self.reported = true;
        let Effect { ejected_for, paused_for } = lock(&self.expert.live.ejection).end(self.ticket, outcome, now);
        if let Some(ejected_for) = ejected_for {
            self.expert.metrics.ejections.inc();
            tracing::warn!(expert = self.expert.name, seconds = ejected_for.as_secs_f64(), "expert ejected");
        }
        if let Some(paused_for) = paused_for {
            self.expert.metrics.pauses.inc();
            tracing::warn!(expert = self.expert.name, seconds = paused_for.as_secs_f64(), "expert paused: it asked for it by Retry-After");
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.reported {
            // Only a probe's end matters here, and for it the time does not.
            let _ = lock(&self.expert.live.ejection).end(self.ticket, Outcome::Unknown, Duration::ZERO);
        }
        self.leave();
    }
}

/// A thread that panicked with the lock held left plain numbers behind: they are as good as before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
