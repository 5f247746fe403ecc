//! What an attempt that came to nothing says: of the expert's health, to metrics, and to the client should nobody do better.

use std::time::SystemTime;

use bytes::Bytes;
use http::{StatusCode, response};
use routing::health;
use wire::Kind;

use super::retry_after::retry_after;
use crate::{
    failure::{Failure, Outcome},
    metrics::AttemptResult,
};

/// An attempt that came to nothing.
pub(super) struct Failed {
    pub(super) result: AttemptResult,
    /// The expert's own words.
    pub(super) kept: Option<(response::Parts, Bytes)>,
    pub(super) failure: Failure,
    /// The request is longer than the expert's context: only a longer one is worth a try.
    pub(super) over_context: bool,
}

/// What an error status says of its expert; `None` where it is the request's own, which any expert would refuse. `clients_key`: the
/// expert was asked with the client's own.
pub(super) fn blame(parts: &response::Parts, clients_key: bool) -> Option<health::Outcome> {
    match parts.status {
        // One client's limit is nothing that others should go elsewhere for.
        StatusCode::TOO_MANY_REQUESTS if clients_key => Some(health::Outcome::Success),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Some(retry_after(&parts.headers, SystemTime::now()).map_or(health::Outcome::Failure, health::Outcome::Pause))
        }
        StatusCode::REQUEST_TIMEOUT => Some(health::Outcome::Failure),
        status if status.is_server_error() => Some(health::Outcome::Failure),
        // Another expert may take more. No failure: this is brought about by what the request asks for, as may be the last three.
        StatusCode::PAYLOAD_TOO_LARGE => Some(health::Outcome::Success),
        // Where the client's own key goes on, these are for the client; else this router is not let in.
        _ if clients_key => None,
        StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED => Some(health::Outcome::Failure),
        // The name of the model and the path are the router's.
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some(health::Outcome::Success),
        _ => None,
    }
}

/// The expert answered with an error that another may not have.
pub(super) fn refused(status: StatusCode, kept: Option<(response::Parts, Bytes)>) -> Failed {
    let result = match status {
        StatusCode::TOO_MANY_REQUESTS => AttemptResult::RateLimited,
        status if status.is_server_error() => AttemptResult::ServerError,
        _ => AttemptResult::ClientError,
    };
    let kind = if result == AttemptResult::RateLimited { Kind::RateLimit } else { Kind::BadGateway };
    let failure = Failure::new(Outcome::UpstreamStatus, kind, "the expert answered with an error");
    Failed { result, kept, failure, over_context: false }
}

/// It sent the request elsewhere.
pub(super) fn redirect() -> Failed {
    let failure = Failure::new(Outcome::UpstreamStatus, Kind::BadGateway, "the expert sent the request elsewhere (a redirect)");
    Failed { result: AttemptResult::ServerError, kept: None, failure, over_context: false }
}

/// A login or an error page of something before the expert.
pub(super) fn page() -> Failed {
    let failure = Failure::new(Outcome::UpstreamStatus, Kind::BadGateway, "the expert answered with a page instead of JSON");
    Failed { result: AttemptResult::ServerError, kept: None, failure, over_context: false }
}

pub(super) fn unreachable_expert() -> Failed {
    let failure = Failure::new(Outcome::UpstreamConnect, Kind::BadGateway, "the expert cannot be reached");
    Failed { result: AttemptResult::Connect, kept: None, failure, over_context: false }
}

pub(super) fn broken(result: AttemptResult) -> Failed {
    let failure = Failure::new(Outcome::UpstreamReset, Kind::BadGateway, "the expert broke the connection before its answer was whole");
    Failed { result, kept: None, failure, over_context: false }
}

pub(super) fn late() -> Failed {
    let failure = Failure::new(Outcome::UpstreamTimeout, Kind::Timeout, "the expert did not answer in time");
    Failed { result: AttemptResult::Timeout, kept: None, failure, over_context: false }
}
