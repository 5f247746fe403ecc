//! A body read to its end, within a cap and a time.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

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
}

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

/// The first piece of a body that has to have one, and the rest.
pub(super) async fn first(mut body: Incoming, until: Instant) -> Result<(Bytes, Incoming), Trouble> {
    loop {
        let patience = until.saturating_duration_since(Instant::now());
        match piece(&mut body, patience, until).await? {
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => return Ok((bytes, body)),
            None => return Err(Trouble::Cut),
        }
    }
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
