//! `Retry-After`: how long a server asks to be left alone.
//!
//! In: a response's headers and what time it is. Out: a wait, where the header makes sense; none of it is left where the time is past.
//! Deliberately absent: a limit, which is the caller's policy, and `x-ratelimit-reset-*`, which speaks of a quota that need not be spent.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

/// Seconds (some servers send fractions), or a date. A date is told by the clock that wrote it, if the response says what that one shows.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let said = text(headers, header::RETRY_AFTER)?;
    if said.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        // What is too long to be a time is a long one.
        return Some(Duration::try_from_secs_f64(said.parse().ok()?).unwrap_or(Duration::MAX));
    }
    let now = text(headers, header::DATE).and_then(date).unwrap_or(now);
    Some(date(said)?.duration_since(now).unwrap_or_default())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}
