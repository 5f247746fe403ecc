//! A body read to its end, within a cap and a time.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use wire::{answer::Fault, sse::Opening};

/// What was read.
#[derive(Debug)]
pub(super) enum Collected {
    /// To the end.
    Whole(Bytes),
    /// Over the cap: what was read, and the rest.
    Large(Bytes, Incoming),
}

/// Why the end was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection ended first.
    Cut,
    /// The time did.
    Late,
    /// It was whole, and no answer: a page for people.
    Page,
}

/// A first line of data longer than this has begun, whatever it says.
const MAX_OPENING: usize = 16 << 10;

pub(super) async fn collect(mut body: Incoming, cap: usize, idle: Duration, until: Instant) -> Result<Collected, Trouble> {
    let Some(first) = piece(&mut body, idle, until).await? else { return Ok(Collected::Whole(Bytes::new())) };
    // Most bodies are one piece, which then is not copied.
    let Some(second) = (if body.is_end_stream() { None } else { piece(&mut body, idle, until).await? }) else {
        return Ok(Collected::Whole(first));
    };
    let mut whole = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(bytes) = next {
        whole.extend_from_slice(&bytes);
        if whole.len() > cap {
            return Ok(Collected::Large(whole.freeze(), body));
        }
        next = piece(&mut body, idle, until).await?;
    }
    Ok(Collected::Whole(whole.freeze()))
}

/// A stream's beginning.
#[derive(Debug)]
pub(super) enum First {
    /// What there is of the answer, and the rest.
    Begun(Bytes, Incoming),
    /// An error came in its place.
    Fault(Fault),
}

/// A stream, up to the first of it that says something. `readable`: it is not compressed.
pub(super) async fn first(mut body: Incoming, readable: bool, until: Instant) -> Result<First, Trouble> {
    let mut begun = Bytes::new();
    loop {
        let patience = until.saturating_duration_since(Instant::now());
        let next = piece(&mut body, patience, until).await?;
        let ended = next.is_none();
        // An end ends the last line, too.
        begun = joined(begun, next.unwrap_or_else(|| Bytes::from_static(b"\n")));
        if begun.is_empty() {
            continue;
        }
        match wire::sse::opening(&begun) {
            Opening::Fault(fault) if readable => return Ok(First::Fault(fault)),
            Opening::Nothing if ended => return Err(Trouble::Cut),
            Opening::Nothing if readable && begun.len() < MAX_OPENING => {}
            _ => return Ok(First::Begun(begun, body)),
        }
    }
}

fn joined(begun: Bytes, next: Bytes) -> Bytes {
    if begun.is_empty() {
        return next;
    }
    let mut whole = BytesMut::from(begun);
    whole.extend_from_slice(&next);
    whole.freeze()
}

async fn piece(body: &mut Incoming, idle: Duration, until: Instant) -> Result<Option<Bytes>, Trouble> {
    loop {
        let patience = idle.min(until.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(patience, body.frame()).await {
            Err(_) => return Err(Trouble::Late),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Trouble::Cut),
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}
