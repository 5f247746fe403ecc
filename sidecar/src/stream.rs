//! Phase *stream*: the body of a response on its way to the client.
//!
//! In: the expert's body, piece by piece. Out: the same, unbuffered, without the usage the client did not ask for. The meter goes along
//! and is dropped with the body, whoever ends it. An expert that dies half-way ends the client's stream as an error: an event that says
//! so where it is a stream of events, then a broken connection, and never `[DONE]`.

mod watched;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use wire::{Endpoint, ErrorBody, Kind, sse::Filter};

use crate::{
    failure::Outcome,
    meter::{Later, Meter},
    metrics::CutCause,
};
use watched::Watched;

/// Ends a response that cannot be ended properly: the server breaks the connection or resets the stream.
#[derive(Debug, thiserror::Error)]
#[error("the expert's answer broke off")]
pub struct BrokenOff;

/// Any body of ours.
#[derive(Debug)]
pub enum Outgoing {
    /// Known from beginning to end.
    Whole {
        /// Not yet handed on.
        bytes: Bytes,
        /// Dropped once the body was.
        meter: Option<Later>,
    },
    /// Still coming.
    Relay(Box<Relay>),
    /// Either, for a client that may leave it unread.
    Watched(Watched),
}

impl Outgoing {
    /// A body of our own making, metered elsewhere.
    #[must_use]
    pub fn plain(bytes: Bytes) -> Self {
        Self::Whole { bytes, meter: None }
    }

    /// Taken away where the client leaves it unread for so long.
    #[must_use]
    pub fn watched(self, patience: Duration) -> Self {
        Self::Watched(Watched::new(self, patience))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole { bytes, .. } if bytes.is_empty() => Poll::Ready(None),
            Self::Whole { bytes, .. } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Relay(relay) => relay.poll(context),
            Self::Watched(watched) => watched.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { bytes, .. } => bytes.is_empty(),
            Self::Relay(_) => false,
            Self::Watched(watched) => watched.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(_) => SizeHint::default(),
            Self::Watched(watched) => watched.size_hint(),
        }
    }
}

/// How a body is passed on.
#[derive(Debug)]
pub struct Passage {
    /// What was read already.
    pub prefix: Bytes,
    /// The rest.
    pub upstream: Incoming,
    /// Events to look into; `None` passes bytes as they are.
    pub events: Option<(Endpoint, Filter)>,
    /// Nothing but the connection's end marks the body's end: it proves nothing.
    pub close_delimited: bool,
    /// Between two pieces.
    pub idle: Duration,
    /// For the whole.
    pub until: Instant,
}

/// How long the end of a body may come after its closing event. Servers send both at once; one that does not shall not keep a client
/// that has all it waits for.
const AFTER_DONE: Duration = Duration::from_secs(5);

/// How long the event that says what went wrong has to reach the client before the connection breaks.
const LAST_WORD: Duration = Duration::from_millis(50);

/// A body that is still coming.
#[derive(Debug)]
pub struct Relay {
    passage: Passage,
    meter: Later,
    /// Of the last piece. The timer is not moved for each piece but, when it fires, set to what is left: pieces come often.
    last: Instant,
    timer: Pin<Box<Sleep>>,
    phase: Phase,
    done_seen: bool,
    /// The expert itself said that something went wrong.
    failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The error event is out: the server gets time to send it before the connection breaks. Of HTTP/2, what is not sent when a stream
    /// is reset never is, the response's head included.
    Breaking,
    Broken,
    Ended,
}

impl Relay {
    /// Begins to pass a body on.
    #[must_use]
    pub fn new(passage: Passage, meter: Box<Meter>) -> Self {
        let last = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(passage.until.min(last + passage.idle).into()));
        let meter = Later::new(meter);
        Self { passage, meter, last, timer, phase: Phase::Running, done_seen: false, failed: false }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            match self.phase {
                Phase::Running => {}
                Phase::Breaking => {
                    std::task::ready!(self.timer.as_mut().poll(context));
                    self.phase = Phase::Broken;
                    continue;
                }
                Phase::Broken => {
                    self.phase = Phase::Ended;
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
                Phase::Ended => return Poll::Ready(None),
            }
            let prefix = std::mem::take(&mut self.passage.prefix);
            if !prefix.is_empty() {
                let out = self.pass(prefix);
                if !out.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(out))));
                }
            }
            let out = match Pin::new(&mut self.passage.upstream).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.last = Instant::now();
                    // Trailers are not passed on: they would have to be announced before the body.
                    frame.into_data().map_or(Bytes::new(), |bytes| self.pass(bytes))
                }
                // The answer was whole, or the client knows already, whatever became of the connection.
                Poll::Ready(Some(Err(_))) if self.done_seen || self.failed => self.finish(),
                Poll::Ready(Some(Err(_))) => self.break_off(CutCause::Upstream),
                Poll::Ready(None) => self.finish(),
                Poll::Pending => match self.overdue(context) {
                    None => return Poll::Pending,
                    Some(_) if self.done_seen || self.failed => self.finish(),
                    Some(cause) => self.break_off(cause),
                },
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
    }

    /// A piece: noted, and what of it the client gets.
    fn pass(&mut self, bytes: Bytes) -> Bytes {
        let Some((_, filter)) = &mut self.passage.events else {
            self.meter.note(|meter| meter.passed(&bytes));
            return bytes;
        };
        let piece = filter.push(bytes);
        self.notice_error(piece.seen.error);
        if piece.seen.done && !self.failed {
            self.meter.note(|meter| meter.outcome(Outcome::Ok));
        }
        if piece.seen.done {
            // A client may go as soon as it has seen this; the answer was whole.
            self.done_seen = true;
            self.passage.idle = self.passage.idle.min(AFTER_DONE);
            let until = self.passage.until.min(self.last + self.passage.idle);
            self.timer.as_mut().reset(until.into());
        }
        self.meter.note(|meter| meter.piece(&piece));
        piece.out
    }

    /// The client has it from the expert itself that there will be no whole answer.
    fn notice_error(&mut self, seen: bool) {
        if seen && !self.failed {
            self.failed = true;
            self.meter.note(|meter| meter.broke_off(CutCause::Upstream));
        }
    }

    /// The body ended as HTTP has it. Whether the answer did is another question.
    fn finish(&mut self) -> Bytes {
        let Some((_, filter)) = &mut self.passage.events else {
            if self.passage.close_delimited {
                // Without a length nobody can tell; most servers that answer so have answered whole.
                tracing::debug!("a body ended with its connection");
            }
            self.phase = Phase::Ended;
            self.meter.note(|meter| meter.outcome(Outcome::Ok));
            return Bytes::new();
        };
        let piece = filter.finish();
        self.done_seen |= piece.seen.done;
        self.notice_error(piece.seen.error);
        self.meter.note(|meter| meter.piece(&piece));
        if self.failed {
            self.phase = Phase::Ended;
            return piece.out;
        }
        if !self.done_seen && self.passage.close_delimited {
            return self.break_off(CutCause::Upstream);
        }
        self.phase = Phase::Ended;
        self.meter.note(|meter| meter.outcome(Outcome::Ok));
        if !self.done_seen {
            // Some servers never send a closing event, so this alone is no error to the client.
            self.meter.note(|meter| meter.broke_off(CutCause::Unfinished));
            self.meter.note(|meter| meter.outcome(Outcome::Ok));
        }
        piece.out
    }

    fn break_off(&mut self, cause: CutCause) -> Bytes {
        self.meter.note(|meter| meter.broke_off(cause));
        self.phase = Phase::Breaking;
        self.timer.as_mut().reset((Instant::now() + LAST_WORD).into());
        let Some((endpoint, _)) = &self.passage.events else { return Bytes::new() };
        let (kind, message) = match cause {
            CutCause::Upstream | CutCause::Unfinished => (Kind::BadGateway, "the expert's answer broke off"),
            CutCause::Idle => (Kind::Timeout, "the expert's answer stopped coming"),
            CutCause::Total => (Kind::Timeout, "the expert's answer took longer than it may"),
        };
        ErrorBody::new(kind, Outcome::UpstreamCut.as_str(), message).to_event(*endpoint)
    }

    /// Whether a time-out has passed; else the timer is set to the one that comes next.
    fn overdue(&mut self, context: &mut Context<'_>) -> Option<CutCause> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let idle_until = self.last + self.passage.idle;
            if now >= self.passage.until {
                return Some(CutCause::Total);
            }
            if now >= idle_until {
                return Some(CutCause::Idle);
            }
            self.timer.as_mut().reset(self.passage.until.min(idle_until).into());
        }
        None
    }
}
