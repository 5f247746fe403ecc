//! Traces by OTLP: which requests are traced, what is noted of them, and where their spans go.
//!
//! In: W3C's context as it came with a request; the request's record at its end. Out: `traceparent` for experts, spans for a collector.
//! Off unless OpenTelemetry's variables name a collector; then a request that is not traced costs a branch, and one that is, a few
//! allocations. Deliberately absent: any wait of a request for a collector, and any text of a prompt or an answer.

pub mod context;
mod export;
mod notes;
mod protocol;
mod queue;
mod sampling;
pub mod semantic;
mod send;
pub mod settings;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request};
use prost::Message;

use crate::{meter::Record, metrics::Metrics, state::State, tls::TlsError};
use context::{Parent, SpanId, TRACE_PARENT, TRACE_STATE, TraceId};
use queue::Queue;
use send::Collector;

pub use export::Exporter;
pub use notes::Notes;
pub use sampling::Sampling;
pub use settings::{Protocol, Settings};

/// Why there are no traces though they were asked for.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Authorities that cannot be used.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE: {0}")]
    Certificate(#[from] TlsError),
    /// No thread to send with.
    #[error("cannot start the thread that sends spans: {0}")]
    Thread(#[from] std::io::Error),
}

/// Decides which requests are traced, and takes their spans.
#[derive(Debug)]
pub struct Tracer {
    sampling: Sampling,
    scheme: &'static str,
    queue: Arc<Queue>,
}

/// What becomes of a request's trace.
#[derive(Debug, Default)]
pub enum Trace {
    /// The client's context goes on to experts as it came.
    #[default]
    Passed,
    /// It begins here and is not recorded. Experts are told so, and do not begin traces of their own.
    Unrecorded(Told),
    /// It is recorded.
    Recorded(Box<Notes>),
}

impl Tracer {
    /// Begins to send. `scheme` is what clients call by.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn start(settings: Settings, scheme: &'static str, metrics: &Arc<Metrics>) -> Result<(Self, Exporter), TraceError> {
        for result in ["sent", "rejected", "unsent"] {
            metrics.trace_spans.with_label_values(&[result]);
        }
        let dropped = metrics.trace_spans.with_label_values(&["dropped"]);
        let queue = Arc::new(Queue::new(settings.queue, settings.batch, dropped));
        let collector = Collector::new(settings.clone())?;
        let exporter = Exporter::start(collector, &settings, queue.clone(), metrics.clone())?;
        // The path may be a secret of a vendor's; who is called is none.
        let collector = settings.endpoint.authority().map(|authority| authority.host().to_owned()).unwrap_or_default();
        tracing::info!(collector, protocol = ?settings.protocol, ratio = settings.sampling.ratio, "requests are traced");
        Ok((Self { sampling: settings.sampling, scheme, queue }, exporter))
    }

    /// A request has come: the id of its trace, and what becomes of it.
    #[must_use]
    pub fn begin<B>(&self, request: &Request<B>) -> (TraceId, Trace) {
        let parent = Parent::of(request.headers());
        let trace = parent.map_or_else(TraceId::fresh, |parent| parent.trace);
        let becomes = if self.sampling.samples(parent.as_ref(), trace) {
            Trace::Recorded(Box::new(Notes::new(trace, parent, request)))
        } else if parent.is_some_and(|parent| !parent.is_sampled()) {
            Trace::Passed
        } else {
            // Either the trace begins here, or its caller records and we do not: what comes after us hangs on us.
            let span = parent.map_or_else(SpanId::fresh, |parent| parent.span);
            let header = context::header(trace, span, context::flags(parent.as_ref(), false));
            Trace::Unrecorded(Told { parent: header, with_state: parent.is_some() })
        };
        (trace, becomes)
    }

    /// A recorded request has ended.
    pub fn end(&self, notes: &Notes, record: &Record<'_>, state: &State) {
        let spans = semantic::spans(&semantic::Ended { notes, record, state, scheme: self.scheme });
        self.queue.push(spans.into_iter().map(|span| span.encode_to_vec().into()));
    }
}

impl Trace {
    /// Notes something, where the request is recorded.
    pub fn note(&mut self, note: impl FnOnce(&mut Notes)) {
        if let Self::Recorded(notes) = self {
            note(notes);
        }
    }

    /// Whether spans are made of the request.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        matches!(self, Self::Recorded(_))
    }

    /// The notes, at the end.
    #[must_use]
    pub fn take(&mut self) -> Option<Box<Notes>> {
        match std::mem::take(self) {
            Self::Recorded(notes) => Some(notes),
            Self::Passed | Self::Unrecorded(_) => None,
        }
    }

    /// A request goes to an expert: what it is told of the trace, where that is something else than what the client said.
    pub fn sent(&mut self, expert: usize, sent: std::time::Instant) -> Option<Told> {
        match self {
            Self::Passed => None,
            Self::Unrecorded(told) => Some(told.clone()),
            Self::Recorded(notes) => Some(Told { parent: notes.sent(expert, sent), with_state: notes.parent.is_some() }),
        }
    }
}

/// What an expert is told of the trace.
#[derive(Debug, Clone)]
pub struct Told {
    parent: HeaderValue,
    /// The client's `tracestate` belongs to this trace.
    with_state: bool,
}

impl Told {
    /// In place of what the client said.
    pub fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(TRACE_PARENT, self.parent.clone());
        if !self.with_state {
            headers.remove(TRACE_STATE);
        }
    }
}
