//! Server-sent events of a streamed response: split or joined anywhere by the network, one event at a time to us.
//!
//! In: the pieces of a body as they arrive. Out: the same bytes in whole events, at once, less the usage the client did not ask for, and
//! what the events meant. Bytes are copied only where an event came in pieces or is changed. Deliberately absent: clocks. Whoever pushes
//! knows when.

mod boundary;
mod event;
#[cfg(test)]
mod fuzz;
mod opening;
#[cfg(test)]
mod tests;

use std::mem;

use bytes::{Bytes, BytesMut};

pub use self::opening::{Opening, opening};
use self::{boundary::Boundary, event::Fate};
use crate::{Description, Endpoint, Usage};

/// An event longer than this is passed on as it arrives and not looked into. It bounds what one stream can make us hold.
pub const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;

/// What one event meant to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// It carried a piece of the answer (text, tool call, reasoning): the first such event ends the time to first token.
    pub content: bool,
    /// It carried usage.
    pub usage: Option<Usage>,
    /// `[DONE]`, or `response.completed` and its like: the stream ended as it should.
    pub done: bool,
    /// It carried an error.
    pub error: bool,
}

impl Seen {
    /// Both taken together; the later usage counts, since servers that send several count up.
    fn and(self, later: Self) -> Self {
        Self {
            content: self.content || later.content,
            usage: later.usage.or(self.usage),
            done: self.done || later.done,
            error: self.error || later.error,
        }
    }
}

/// Takes a stream apart and hands it on, without the usage the client did not ask for.
#[derive(Debug)]
pub struct Filter {
    endpoint: Endpoint,
    hide_usage: bool,
    describe: bool,
    max_event_bytes: usize,
    /// The beginning of an event whose end has not come.
    pending: BytesMut,
    boundary: Boundary,
    /// The event begun is over the cap: its bytes are handed on as they come.
    oversized: bool,
    /// The last event ended with a carriage return at the end of a piece: a line feed that comes next belongs to it, and is handed
    /// on if it was.
    line_feed_owed: Option<bool>,
}

/// What comes of a piece of the body.
#[derive(Debug, Default)]
pub struct Piece {
    /// To send on now; may be empty. Whole events only, but for one over [`MAX_EVENT_BYTES`].
    pub out: Bytes,
    /// All events of this piece taken together.
    pub seen: Seen,
    /// Events in this piece, for metering: those with content.
    pub content_events: u32,
    /// Bytes of answer text in this piece, to estimate tokens where usage never comes.
    pub content_bytes: usize,
    /// The id of the response that begins in this piece (responses API).
    pub response_id: Option<Box<str>>,
    /// What the answer said of itself in this piece, where that was asked for.
    pub description: Description,
}

impl Filter {
    /// `hide_usage`: the usage was asked for by us, not by the client.
    #[must_use]
    pub fn new(endpoint: Endpoint, hide_usage: bool) -> Self {
        Self {
            endpoint,
            hide_usage,
            describe: false,
            max_event_bytes: MAX_EVENT_BYTES,
            pending: BytesMut::new(),
            boundary: Boundary::default(),
            oversized: false,
            line_feed_owed: None,
        }
    }

    /// Also gathers what the answer says of itself, which costs an allocation or two.
    #[must_use]
    pub fn describing(mut self, describe: bool) -> Self {
        self.describe = describe;
        self
    }

    /// Takes the next piece of the body.
    pub fn push(&mut self, mut bytes: Bytes) -> Piece {
        let mut output = Output::default();
        self.pay_line_feed(&mut bytes, &mut output);
        let held = self.pending.len();
        let mut ends = Vec::new();
        let mut at = 0;
        while let Some(end) = self.boundary.end_of_event(&bytes, at) {
            ends.push(held + end);
            at = end;
        }
        let Some(&last) = ends.last() else {
            self.hold(bytes, &mut output);
            return output.into_piece();
        };
        let buffer = self.join(bytes);
        // Neighbours that are kept go on as one slice, so that a piece nothing is taken out of is not copied.
        let (mut start, mut run) = (0, 0);
        for end in ends {
            let fate = self.event(&buffer[start..end], &mut output);
            if !matches!(fate, Fate::Kept) {
                output.keep(buffer.slice(run..start));
                run = end;
            }
            self.line_feed_owed = (end == buffer.len() && buffer.ends_with(b"\r")).then_some(!matches!(fate, Fate::Hidden));
            if let Fate::Rewritten(event) = fate {
                output.keep(event);
            }
            start = end;
        }
        output.keep(buffer.slice(run..last));
        self.hold(buffer.slice(last..), &mut output);
        output.into_piece()
    }

    /// The body ended: what is left without its closing blank line.
    pub fn finish(&mut self) -> Piece {
        let mut output = Output::default();
        let rest = mem::take(&mut self.pending).freeze();
        match self.event(&rest, &mut output) {
            Fate::Kept => output.keep(rest),
            Fate::Hidden => {}
            Fate::Rewritten(event) => output.keep(event),
        }
        self.boundary = Boundary::default();
        self.oversized = false;
        self.line_feed_owed = None;
        output.into_piece()
    }

    fn pay_line_feed(&mut self, bytes: &mut Bytes, output: &mut Output) {
        if bytes.is_empty() {
            return;
        }
        let Some(kept) = self.line_feed_owed.take() else { return };
        if bytes.starts_with(b"\n") {
            self.boundary.line_feed_taken();
            let line_feed = bytes.split_to(1);
            if kept {
                output.keep(line_feed);
            }
        }
    }

    /// Keeps the beginning of an event, or gives up on it where it is too long.
    fn hold(&mut self, bytes: Bytes, output: &mut Output) {
        if self.oversized {
            output.keep(bytes);
            return;
        }
        self.pending.extend_from_slice(&bytes);
        if self.pending.len() > self.max_event_bytes {
            self.oversized = true;
            output.keep(mem::take(&mut self.pending).freeze());
        }
    }

    fn join(&mut self, bytes: Bytes) -> Bytes {
        if self.pending.is_empty() {
            return bytes;
        }
        let mut pending = mem::take(&mut self.pending);
        pending.extend_from_slice(&bytes);
        pending.freeze()
    }

    fn event(&mut self, event: &[u8], output: &mut Output) -> Fate {
        // The last line feed does not count: after a carriage return it may come with the next piece, too late for a verdict.
        let length = event.strip_suffix(b"\n").unwrap_or(event).len();
        if mem::take(&mut self.oversized) || length > self.max_event_bytes {
            return Fate::Kept;
        }
        let read = event::read(self.endpoint, self.hide_usage, self.describe, event);
        output.count(read.seen, read.content_bytes);
        if read.response_id.is_some() {
            output.piece.response_id = read.response_id;
        }
        if let Some(description) = read.description {
            output.piece.description.add(description);
        }
        read.fate
    }
}

/// A piece in the making.
#[derive(Default)]
struct Output {
    /// What was kept last, still growing.
    run: Bytes,
    /// What was kept before it.
    copied: BytesMut,
    piece: Piece,
}

impl Output {
    fn count(&mut self, seen: Seen, content_bytes: usize) {
        self.piece.seen = self.piece.seen.and(seen);
        self.piece.content_events = self.piece.content_events.saturating_add(u32::from(seen.content));
        self.piece.content_bytes = self.piece.content_bytes.saturating_add(content_bytes);
    }

    fn keep(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.run.is_empty() {
            self.run = bytes;
            return;
        }
        self.copied.extend_from_slice(&self.run);
        self.run = bytes;
    }

    fn into_piece(mut self) -> Piece {
        if self.copied.is_empty() {
            return Piece { out: self.run, ..self.piece };
        }
        self.copied.extend_from_slice(&self.run);
        Piece { out: self.copied.freeze(), ..self.piece }
    }
}
