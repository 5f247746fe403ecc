//! Phase *read*: a request's body, whole, within its cap and its time.
//!
//! The cap counts bytes as they come; what `Content-Length` claims is believed only when it is too much. A body over the cap is read on
//! for a while and thrown away before the answer: a client that is still writing would otherwise meet a closed connection and never see
//! the 413.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use wire::Kind;

use crate::{
    failure::{Failure, Outcome},
    gzip::{self, Unreadable},
};

/// A body may take this many times the permitted pause in all, so that one byte now and then does not hold a connection for ever.
const PAUSES_IN_ALL: u32 = 10;
/// Memory set aside on the word of `Content-Length`.
const MAX_RESERVED: u64 = 1 << 20;
/// How long an oversized body is read on.
const LINGER: Duration = Duration::from_secs(5);
/// How much of it, in times of the cap: what is left unread makes the closing connection a broken one to its client.
const LINGER_CAPS: usize = 4;

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At most so many bytes.
    pub bytes: usize,
    /// At most so long between two pieces.
    pub idle: Duration,
}

/// Reads the body.
///
/// # Errors
/// 413 or 408; 400 where it is compressed otherwise than by gzip; [`Outcome::ClientGone`] where the client broke off.
pub async fn body(incoming: Incoming, headers: &HeaderMap, limits: Limits) -> Result<Bytes, Failure> {
    let bytes = whole(incoming, headers, limits).await?;
    match headers.get(header::CONTENT_ENCODING) {
        Some(_) if gzip::is_gzip(headers) => plain(bytes, limits).await,
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(wrong_encoding("expected `gzip` or none")),
        _ => Ok(bytes),
    }
}

/// The body, of which the cap holds for what it was before it was compressed, too.
async fn plain(packed: Bytes, limits: Limits) -> Result<Bytes, Failure> {
    // Megabytes take their time, which is not for a thread that serves.
    match tokio::task::spawn_blocking(move || gzip::unpacked(&packed, limits.bytes)).await {
        Ok(Ok(plain)) => Ok(plain),
        Ok(Err(Unreadable::TooLarge)) => Err(over_the_cap(limits)),
        Ok(Err(Unreadable::Broken)) | Err(_) => Err(wrong_encoding("the body is not whole, or no gzip")),
    }
}

fn wrong_encoding(what: &str) -> Failure {
    let name = header::CONTENT_ENCODING;
    Failure::invalid(name.as_str(), format!("header `{name}`: {what}"))
}

async fn whole(mut incoming: Incoming, headers: &HeaderMap, limits: Limits) -> Result<Bytes, Failure> {
    let claimed = incoming.size_hint();
    if claimed.lower() > limits.bytes as u64 {
        // A client that waits for `100 Continue` writes nothing before it has the answer.
        let waits = headers.contains_key(header::EXPECT);
        return Err(if waits { over_the_cap(limits) } else { too_large(&mut incoming, limits).await });
    }
    let until = Instant::now() + limits.idle * PAUSES_IN_ALL;
    let Some(first) = piece(&mut incoming, limits, until).await? else { return Ok(Bytes::new()) };
    if incoming.is_end_stream() && first.len() <= limits.bytes {
        return Ok(first);
    }
    let reserved = usize::try_from(claimed.upper().unwrap_or(0).min(MAX_RESERVED)).unwrap_or(0);
    let mut whole = BytesMut::with_capacity(reserved.max(first.len()));
    let mut next = Some(first);
    while let Some(bytes) = next {
        if whole.len() + bytes.len() > limits.bytes {
            return Err(too_large(&mut incoming, limits).await);
        }
        whole.extend_from_slice(&bytes);
        next = piece(&mut incoming, limits, until).await?;
    }
    Ok(whole.freeze())
}

/// The next piece, `None` at the end; trailers are of no interest.
async fn piece(incoming: &mut Incoming, limits: Limits, until: Instant) -> Result<Option<Bytes>, Failure> {
    loop {
        let patience = limits.idle.min(until.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(patience, incoming.frame()).await {
            Err(_) => return Err(too_slow(limits)),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => {
                let failure = Failure::new(Outcome::ClientGone, Kind::InvalidRequest, "the request's body broke off");
                return Err(failure.closing());
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

fn too_slow(limits: Limits) -> Failure {
    let message = format!("the request's body paused for more than {} s, or took too long in all", limits.idle.as_secs_f64());
    Failure::new(Outcome::SlowBody, Kind::RequestTimeout, message).closing()
}

/// A body that nobody will look at, thrown away for the same reason: the answer is known from the head alone.
pub async fn leave(mut incoming: Incoming, headers: &HeaderMap, limits: Limits) {
    if !headers.contains_key(header::EXPECT) && !incoming.is_end_stream() {
        discard(&mut incoming, limits.bytes).await;
    }
}

async fn too_large(incoming: &mut Incoming, limits: Limits) -> Failure {
    discard(incoming, limits.bytes.saturating_mul(LINGER_CAPS)).await;
    over_the_cap(limits)
}

async fn discard(incoming: &mut Incoming, mut left: usize) {
    let discard = async {
        while let Some(Ok(frame)) = incoming.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Over the time or not: the answer is the same.
    let _ = tokio::time::timeout(LINGER, discard).await;
}

fn over_the_cap(limits: Limits) -> Failure {
    let message = format!("the request's body is larger than {} bytes", limits.bytes);
    Failure::new(Outcome::TooLarge, Kind::PayloadTooLarge, message).closing()
}
