//! The request headers that steer one request, checked; and the request's id.
//!
//! In: headers as they came. Out: [`Controls`], or status 400 that names the header and what is expected.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue};
use routing::snapshot::Objective;

use crate::failure::Failure;

/// `quality`, `cost` or `balanced`, instead of the policy's.
pub const OBJECTIVE: HeaderName = HeaderName::from_static("x-expert-router-objective");
/// A number from 0, instead of the policy's.
pub const QUALITY_TOLERANCE: HeaderName = HeaderName::from_static("x-expert-router-quality-tolerance");
/// Names the conversation. The policy may name another header for it.
pub const SESSION: HeaderName = HeaderName::from_static("x-expert-router-session");
/// Names the request, in logs of all sides.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A session name is hashed, not kept; the cap is against abuse alone.
const MAX_SESSION_BYTES: usize = 1024;
const MAX_REQUEST_ID_BYTES: usize = 128;

/// What the client wants otherwise than the policy.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Controls {
    /// Instead of the policy's.
    pub objective: Option<Objective>,
    /// Instead of the policy's.
    pub quality_tolerance: Option<f64>,
    /// Hash of the conversation's name.
    pub session: Option<u128>,
}

impl Controls {
    /// Reads the headers; `session_header` is the policy's.
    ///
    /// # Errors
    /// The header that is wrong.
    pub fn parse(headers: &HeaderMap, session_header: Option<&HeaderName>) -> Result<Self, Failure> {
        Ok(Self {
            objective: one(headers, &OBJECTIVE)?.map(objective).transpose()?,
            quality_tolerance: one(headers, &QUALITY_TOLERANCE)?.map(quality_tolerance).transpose()?,
            session: match session_header {
                Some(header) => session(headers, header)?,
                None => None,
            },
        })
    }
}

fn wrong(header: &HeaderName, expected: &str) -> Failure {
    Failure::invalid(header.as_str(), format!("header `{header}`: expected {expected}"))
}

/// A header that may stand there once.
fn one<'a>(headers: &'a HeaderMap, header: &HeaderName) -> Result<Option<&'a HeaderValue>, Failure> {
    let mut values = headers.get_all(header).iter();
    let first = values.next();
    if values.next().is_some() { Err(wrong(header, "one value, got several")) } else { Ok(first) }
}

fn objective(value: &HeaderValue) -> Result<Objective, Failure> {
    match value.as_bytes().to_ascii_lowercase().as_slice() {
        b"quality" => Ok(Objective::Quality),
        b"cost" => Ok(Objective::Cost),
        b"balanced" => Ok(Objective::Balanced),
        _ => Err(wrong(&OBJECTIVE, "`quality`, `cost` or `balanced`")),
    }
}

fn quality_tolerance(value: &HeaderValue) -> Result<f64, Failure> {
    let number = value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
    number.filter(|number| number.is_finite() && *number >= 0.0).ok_or_else(|| wrong(&QUALITY_TOLERANCE, "a number from 0, as in `0.02`"))
}

/// The policy's header, else ours.
fn session(headers: &HeaderMap, header: &HeaderName) -> Result<Option<u128>, Failure> {
    let (header, value) = match one(headers, header)? {
        Some(value) => (header, value),
        None => match one(headers, &SESSION)? {
            Some(value) => (&SESSION, value),
            None => return Ok(None),
        },
    };
    let name = value.as_bytes().trim_ascii();
    if name.is_empty() || name.len() > MAX_SESSION_BYTES {
        return Err(wrong(header, "a name of 1 to 1024 bytes"));
    }
    Ok(Some(conversation_key(b"header", name)))
}

static SECRETS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);

/// A name for a conversation that other clients cannot make collide: hashed with secrets of this process. `kind` keeps names apart
/// that come from different places.
#[must_use]
pub fn conversation_key(kind: &[u8], name: &[u8]) -> u128 {
    let [high, low] = &*SECRETS;
    u128::from(high.hash_one((kind, name))) << 64 | u128::from(low.hash_one((kind, name)))
}

/// A name for a response that an expert's server keeps.
#[must_use]
pub fn stored_key(id: &str) -> u128 {
    conversation_key(b"response", id.as_bytes())
}

/// A number that nobody else has and nobody can guess: a count, hashed with the same secrets.
#[must_use]
pub fn fresh_id() -> u128 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    conversation_key(b"id", &COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes())
}

/// The client's own id where it is sane, so that logs of both sides meet; else a new one.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(value) = headers.get(&REQUEST_ID) {
        let bytes = value.as_bytes();
        let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        if !bytes.is_empty() && bytes.len() <= MAX_REQUEST_ID_BYTES && bytes.iter().all(sane) {
            return value.clone();
        }
    }
    let id = fresh_id();
    let mut text = [0; 32];
    // The buffer has two digits for each of the sixteen bytes.
    let _ = hex::encode_to_slice(id.to_le_bytes(), &mut text);
    HeaderValue::from_bytes(&text).expect("hexadecimal digits make a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &HeaderName, values: &[&str], expect: Result<Controls, &str>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        match (Controls::parse(&headers, Some(&HeaderName::from_static("x-conversation"))), expect) {
            (Ok(controls), Ok(expect)) => assert_eq!(controls, expect),
            (Err(failure), Err(param)) => {
                assert_eq!((failure.status().as_u16(), failure.body.param.as_deref()), (400, Some(param)));
            }
            (result, _) => panic!("{name} {values:?}: {result:?}"),
        }
    }

    #[test]
    fn a_header_that_makes_no_sense_is_named() {
        check(&OBJECTIVE, &["Cost"], Ok(Controls { objective: Some(Objective::Cost), ..Controls::default() }));
        check(&OBJECTIVE, &["cheap"], Err(OBJECTIVE.as_str()));
        check(&OBJECTIVE, &["cost", "cost"], Err(OBJECTIVE.as_str()));
        check(&QUALITY_TOLERANCE, &[" 0.02 "], Ok(Controls { quality_tolerance: Some(0.02), ..Controls::default() }));
        for value in ["-1", "NaN", "inf", "", "0,02", "\u{fc}"] {
            check(&QUALITY_TOLERANCE, &[value], Err(QUALITY_TOLERANCE.as_str()));
        }
        check(&SESSION, &[&"a".repeat(1025)], Err(SESSION.as_str()));
    }

    #[test]
    fn a_conversation_has_one_key_by_either_header() {
        let key = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("c-7"));
            Controls::parse(&headers, Some(&HeaderName::from_static("x-conversation"))).unwrap().session
        };
        assert!(key("x-conversation").is_some());
        assert_eq!(key("x-conversation"), key("x-expert-router-session"));
        assert_ne!(conversation_key(b"header", b"a"), conversation_key(b"opening", b"a"));
    }

    #[test]
    fn an_id_is_kept_when_sane_and_replaced_when_not() {
        let id = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            request_id(&headers)
        };
        assert_eq!(id(b"trace-1.a:b"), "trace-1.a:b");
        for odd in [&b"with space"[..], b"\"quoted\"", &[b'x'; 129], b"\xff"] {
            let new = id(odd);
            assert_eq!((new.len(), new.as_bytes() == odd), (32, false));
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
