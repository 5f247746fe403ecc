//! How a request can end, and what the client is told when it ends badly.
//!
//! In: what went wrong, and on whose side. Out: one response in OpenAI's shape. Deliberately absent: details of experts' addresses,
//! credentials or prompts; those are for the log, and some of them not even for it.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use routing::{Refusal, ScoreFailure};
use wire::{ErrorBody, Kind};

/// How a request ended. A closed set: these are metric labels and the log's `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered whole.
    Ok,
    /// The client went away first.
    ClientGone,
    /// This process ended first: the grace for requests under way was over.
    Shutdown,
    /// The request was not well-formed.
    InvalidRequest,
    /// A client key was wanted, and none or a wrong one given.
    Unauthorized,
    /// No such path or model.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body was over the cap.
    TooLarge,
    /// The body came too slowly.
    SlowBody,
    /// No expert can do what was asked.
    Capability,
    /// The prompt fits no expert.
    Context,
    /// Every expert that could is ejected.
    Unhealthy,
    /// Every expert that could is busy.
    Saturated,
    /// No score, and the policy is to fail closed.
    NoScore,
    /// A budget is spent.
    Budget,
    /// The expert answered with an error, which was passed on.
    UpstreamStatus,
    /// No expert could be reached.
    UpstreamConnect,
    /// The expert did not answer in time.
    UpstreamTimeout,
    /// The expert closed or broke the connection before an answer.
    UpstreamReset,
    /// The expert's answer broke off after it had begun.
    UpstreamCut,
    /// Our own fault.
    Internal,
}

/// Whose doing an outcome is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nobody's: it went well.
    None,
    /// The client's.
    Client,
    /// The expert's.
    Upstream,
    /// Ours, policies and limits included.
    Router,
}

impl Outcome {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 21] = [
        Self::Ok,
        Self::ClientGone,
        Self::Shutdown,
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooLarge,
        Self::SlowBody,
        Self::Capability,
        Self::Context,
        Self::Unhealthy,
        Self::Saturated,
        Self::NoScore,
        Self::Budget,
        Self::UpstreamStatus,
        Self::UpstreamConnect,
        Self::UpstreamTimeout,
        Self::UpstreamReset,
        Self::UpstreamCut,
        Self::Internal,
    ];

    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientGone => "client_gone",
            Self::Shutdown => "shutdown",
            Self::InvalidRequest => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::SlowBody => "slow_body",
            Self::Capability => "capability",
            Self::Context => "context",
            Self::Unhealthy => "unhealthy",
            Self::Saturated => "saturated",
            Self::NoScore => "no_score",
            Self::Budget => "budget",
            Self::UpstreamStatus => "upstream_status",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamCut => "upstream_cut",
            Self::Internal => "internal",
        }
    }

    /// Whose doing it is.
    #[must_use]
    pub fn side(self) -> Side {
        match self {
            Self::Ok => Side::None,
            Self::ClientGone
            | Self::InvalidRequest
            | Self::Unauthorized
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::TooLarge
            | Self::SlowBody => Side::Client,
            Self::Shutdown
            | Self::Capability
            | Self::Context
            | Self::Unhealthy
            | Self::Saturated
            | Self::NoScore
            | Self::Budget
            | Self::Internal => Side::Router,
            Self::UpstreamStatus | Self::UpstreamConnect | Self::UpstreamTimeout | Self::UpstreamReset | Self::UpstreamCut => {
                Side::Upstream
            }
        }
    }
}

/// A request that gets an error of ours for an answer.
#[derive(Debug, Clone)]
pub struct Failure {
    /// For metrics and log.
    pub outcome: Outcome,
    /// For the client.
    pub body: ErrorBody,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u64>,
    /// The connection cannot be used again: part of the request was left unread.
    pub close: bool,
}

impl Failure {
    /// With the outcome's name for a code.
    #[must_use]
    pub fn new(outcome: Outcome, kind: Kind, message: impl Into<String>) -> Self {
        Self { outcome, body: ErrorBody::new(kind, outcome.as_str(), message), retry_after: None, close: false }
    }

    /// A body the wire could not make sense of.
    #[must_use]
    pub fn of_wire(body: ErrorBody) -> Self {
        let outcome = if body.kind == Kind::NotFound { Outcome::NotFound } else { Outcome::InvalidRequest };
        Self { outcome, body, retry_after: None, close: false }
    }

    /// Status 400 that names the header or field.
    #[must_use]
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self::of_wire(ErrorBody::new(Kind::InvalidRequest, "invalid_value", message).at(param))
    }

    /// On the wire.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.body.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// When to try again.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The connection ends with this response.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Why nobody answers, for the client.
    #[must_use]
    pub fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Capability => {
                Self::new(Outcome::Capability, Kind::InvalidRequest, "no expert of this router has the capabilities this request needs")
            }
            Refusal::Context => {
                let mut failure =
                    Self::new(Outcome::Context, Kind::InvalidRequest, "prompt and completion together fit no expert's context");
                failure.body.code = Some("context_length_exceeded");
                failure
            }
            Refusal::Unhealthy => {
                Self::new(Outcome::Unhealthy, Kind::Unavailable, "every expert that could answer is failing just now").with_retry_after(5)
            }
            Refusal::Saturated => {
                Self::new(Outcome::Saturated, Kind::Unavailable, "every expert that could answer is at its limit of requests")
                    .with_retry_after(1)
            }
            Refusal::NoScore(failure) => Self::new(Outcome::NoScore, Kind::Unavailable, no_score(failure)).with_retry_after(2),
        }
    }

    /// The response, without the headers every response of ours bears.
    #[must_use]
    pub fn response(&self) -> Response<Bytes> {
        let bytes = self.body.to_bytes();
        let mut response = Response::new(bytes);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// What an expert said in an error that is not in OpenAI's shape, put into it.
#[must_use]
pub fn in_our_words(status: StatusCode, content_type: Option<&HeaderValue>, said: &[u8]) -> Bytes {
    let text = content_type.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let said = std::str::from_utf8(said).ok().map(str::trim).filter(|said| text && !said.is_empty() && said.len() <= SHOWN_WORDS);
    let message = match said {
        Some(said) => format!("the expert answered with status {status}: {said}"),
        None => format!("the expert answered with status {status}"),
    };
    ErrorBody::new(Kind::of_status(status.as_u16()), Outcome::UpstreamStatus.as_str(), message).to_bytes()
}

/// Plain words of an expert that are shown to clients.
const SHOWN_WORDS: usize = 300;

fn no_score(failure: ScoreFailure) -> &'static str {
    match failure {
        ScoreFailure::NoModel => "this router has no model yet and does not route without one",
        ScoreFailure::ModelBroken => "this router's model cannot be used just now and it does not route without one",
        ScoreFailure::DeadlineExceeded => "the router's score did not come in time and it does not route without one",
        ScoreFailure::Overloaded => "too many requests wait for the router's score",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_numbered_in_the_order_of_the_list_and_named_once() {
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
        }
        let names: std::collections::BTreeSet<_> = Outcome::ALL.into_iter().map(Outcome::as_str).collect();
        assert_eq!(names.len(), Outcome::ALL.len());
    }

    #[test]
    fn errors_in_another_shape_are_put_into_openais_and_pages_are_not_shown() {
        let check = |kind: Option<&'static str>, said: &str, message: &str| {
            let bytes = in_our_words(StatusCode::BAD_GATEWAY, kind.map(HeaderValue::from_static).as_ref(), said.as_bytes());
            let expect =
                ErrorBody::new(Kind::BadGateway, "upstream_status", format!("the expert answered with status 502 Bad Gateway{message}"));
            assert_eq!(bytes, expect.to_bytes());
        };
        check(Some("text/plain; charset=utf-8"), " upstream is down\n", ": upstream is down");
        check(None, "down", ": down");
        check(Some("text/plain"), "", "");
        check(Some("text/plain"), &"x".repeat(301), "");
        check(Some("text/html"), "<h1>nginx</h1>", "");
    }

    #[test]
    fn a_refusal_for_now_says_when_to_come_back_and_one_for_good_does_not() {
        let check = |refusal, status: u16, retry: bool| {
            let failure = Failure::refused(refusal);
            assert_eq!((failure.status().as_u16(), failure.response().headers().contains_key(header::RETRY_AFTER)), (status, retry));
        };
        check(Refusal::Unhealthy, 503, true);
        check(Refusal::Saturated, 503, true);
        check(Refusal::NoScore(ScoreFailure::Overloaded), 503, true);
        check(Refusal::Capability, 400, false);
        check(Refusal::Context, 400, false);
    }
}
