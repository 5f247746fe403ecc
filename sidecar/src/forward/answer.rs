//! What an expert's answer turns out to be, read as far as has to be before the client sees any of it.
//!
//! In: a response's head and body. Out: the answer, the error that came in its place, or that there is none. Deliberately absent: whose
//! fault that is, and who steps in.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header, response};
use hyper::body::Incoming;
use wire::answer::Fault;

use super::collect::{Collected, First, Trouble, collect, first};
use crate::state::Expert;

/// Error bodies kept for the client, in case nobody else does better; and how long they may take.
const KEPT_ERROR_BYTES: usize = 256 << 10;
const KEPT_ERROR_TIME: Duration = Duration::from_secs(2);
/// Whole answers larger than this are passed on as they come, without their cost in a header.
pub const WHOLE_BYTES: usize = 8 << 20;

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// To its end.
    Whole(Bytes),
    /// A stream of events: its first piece, and the rest.
    Events(Bytes, Incoming),
    /// Too large to wait for; what was read, and the rest.
    Large(Bytes, Incoming),
}

/// What an expert's answer turns out to be.
#[derive(Debug)]
pub(super) enum Begun {
    /// What was promised.
    Answer(AnswerBody),
    /// An error, in spite of its status.
    Fault(Fault),
}

/// As much of the body as has to be seen before the client sees any.
pub(super) async fn read(parts: &response::Parts, body: Incoming, expert: &Expert, sent: Instant) -> Result<Begun, Trouble> {
    let until = sent + expert.total;
    let readable = parts.status.is_success() && !parts.headers.contains_key(header::CONTENT_ENCODING);
    if parts.status.is_success() && is(&parts.headers, "text/event-stream") {
        // Many servers send the head at once and think afterwards: a stream has begun with its first event.
        return first(body, readable, until.min(sent + expert.first_byte)).await.map(|first| match first {
            First::Begun(first, rest) => Begun::Answer(AnswerBody::Events(first, rest)),
            First::Fault(fault) => Begun::Fault(fault),
        });
    }
    let bytes = match collect(body, WHOLE_BYTES, expert.idle, until).await? {
        Collected::Whole(bytes) => bytes,
        Collected::Large(prefix, rest) => return Ok(Begun::Answer(AnswerBody::Large(prefix, rest))),
    };
    if readable && (bytes.trim_ascii().is_empty() || is_cut(parts, &bytes)) {
        return Err(Trouble::Cut);
    }
    if readable && is(&parts.headers, "text/html") {
        return Err(Trouble::Page);
    }
    let fault = if readable { wire::answer::fault(&bytes) } else { None };
    Ok(fault.map_or_else(|| Begun::Answer(AnswerBody::Whole(bytes)), Begun::Fault))
}

/// An error that came as a success gets the status it should have had.
pub(super) fn become_an_error(parts: &mut response::Parts, status: u16) {
    parts.status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

/// Nothing but the connection's end marks the body's end: it proves nothing.
pub fn is_close_delimited(parts: &response::Parts) -> bool {
    let framed = parts.headers.contains_key(header::CONTENT_LENGTH) || parts.headers.contains_key(header::TRANSFER_ENCODING);
    !framed && parts.version <= Version::HTTP_11
}

/// A body that should be JSON, ended with its connection, and is not whole.
fn is_cut(parts: &response::Parts, body: &[u8]) -> bool {
    is_close_delimited(parts)
        && parts.status.is_success()
        && !parts.headers.contains_key(header::CONTENT_ENCODING)
        && is(&parts.headers, "application/json")
        && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err()
}

/// Whether a body is of that type, whatever its parameters.
fn is(headers: &HeaderMap, kind: &str) -> bool {
    let starts = |value: &HeaderValue| value.as_bytes().get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind.as_bytes()));
    headers.get(header::CONTENT_TYPE).is_some_and(starts)
}

/// The body of an error, kept for the client in case nobody does better.
pub(super) async fn error_in_words(body: Incoming) -> Option<Bytes> {
    match collect(body, KEPT_ERROR_BYTES, KEPT_ERROR_TIME, Instant::now() + KEPT_ERROR_TIME).await {
        Ok(Collected::Whole(bytes)) => Some(bytes),
        Ok(Collected::Large(..)) | Err(_) => None,
    }
}
