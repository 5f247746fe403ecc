//! One attempt: a request to what it came to, with the side each failure is on.
//!
//! In: a request, ready to be sent. Out: an answer; or a failure that may have been paid for, that more patience may mend, or that it
//! will not. Deliberately absent: trying again.

use std::{
    io::Read,
    time::{Duration, SystemTime},
};

use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{CONTENT_ENCODING, HeaderMap, LOCATION},
};
use routing::Prices;

use super::{
    AskError,
    answer::{Answer, error_message},
};

/// Longer answers are an expert's mistake.
const MOST_ANSWER_BYTES: usize = 64 << 20;

/// What an attempt came to.
pub(super) enum Outcome {
    Answer(Box<Answer>),
    /// May have been paid for.
    Lost(String),
    /// Costs nothing, and may go better another time.
    Failed {
        status: StatusCode,
        problem: String,
        retry_after: Option<Duration>,
    },
    /// Costs nothing, and will not go better.
    Hopeless(AskError),
}

/// Sends it; the body of an answer, or what came instead.
pub(super) async fn send(request: RequestBuilder) -> Result<Vec<u8>, Outcome> {
    let response = request.send().await.map_err(|error| lost_or_failed(&error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let packed = read(response).await.map_err(Outcome::Lost)?;
    let bytes = if is_gzip(&headers) { unpacked(&packed).map_err(Outcome::Lost)? } else { packed };
    if status.is_success() {
        return match wire::answer::fault(&bytes) {
            None => Ok(bytes),
            // Some servers find out only after they have said that all is well.
            Some(fault) => Err(refusal(StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_GATEWAY), &headers, &fault.body)),
        };
    }
    Err(refusal(status, &headers, &bytes))
}

/// What a body is that should be an answer.
pub(super) fn answer(bytes: &[u8], took: Duration, busy: usize, prices: Option<&Prices>) -> Outcome {
    match Answer::parse(bytes, took.as_secs_f64(), busy, prices) {
        Ok(answer) => Outcome::Answer(Box::new(answer)),
        Err(problem) => Outcome::Lost(problem),
    }
}

fn refusal(status: StatusCode, headers: &HeaderMap, bytes: &[u8]) -> Outcome {
    let message = error_message(bytes);
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT {
        return Outcome::Failed { status, problem: message, retry_after: wire::retry_after(headers, SystemTime::now()) };
    }
    Outcome::Hopeless(match status {
        StatusCode::UNAUTHORIZED
        | StatusCode::PAYMENT_REQUIRED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED => AskError::Refused { status, message },
        status if status.is_redirection() => AskError::Refused { status, message: elsewhere(headers) },
        status => AskError::Unanswerable { status, message },
    })
}

/// Redirects are not followed: who has the key is for the manifest to say.
fn elsewhere(headers: &HeaderMap) -> String {
    let place = headers.get(LOCATION).and_then(|place| place.to_str().ok()).map_or("elsewhere".to_owned(), crate::store::shown);
    format!("it is at {place}, and redirects are not followed: change the expert's url")
}

/// A connection that never stood cannot have cost anything.
fn lost_or_failed(error: &reqwest::Error) -> Outcome {
    let problem = causes(error);
    if error.is_connect() || error.is_builder() {
        Outcome::Failed { status: StatusCode::SERVICE_UNAVAILABLE, problem, retry_after: None }
    } else {
        Outcome::Lost(problem)
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| causes(&error))? {
        if bytes.len() + piece.len() > MOST_ANSWER_BYTES {
            return Err(too_long());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// No compression is asked for, but there are proxies that compress all the same.
fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|encoding| [&b"gzip"[..], b"x-gzip"].contains(&encoding.as_bytes().trim_ascii()))
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut plain = flate2::read::MultiGzDecoder::new(packed).take(MOST_ANSWER_BYTES as u64 + 1);
    plain.read_to_end(&mut bytes).map_err(|error| format!("the answer is no whole gzip: {error}"))?;
    if bytes.len() > MOST_ANSWER_BYTES { Err(too_long()) } else { Ok(bytes) }
}

fn too_long() -> String {
    format!("the answer is longer than {} MiB", MOST_ANSWER_BYTES >> 20)
}

/// An error with what led to it; without the address, which the caller knows.
fn causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { "the connection failed".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn a_refusal_says_whether_patience_helps() {
        let refused = |status: u16| refusal(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"{\"error\":\"no\"}");
        for status in [408, 429, 500, 503, 529] {
            assert!(matches!(refused(status), Outcome::Failed { .. }), "{status}");
        }
        for status in [301, 307, 401, 402, 403, 404, 405] {
            assert!(matches!(refused(status), Outcome::Hopeless(AskError::Refused { .. })), "{status}");
        }
        for status in [400, 413, 422] {
            assert!(matches!(refused(status), Outcome::Hopeless(AskError::Unanswerable { .. })), "{status}");
        }
    }

    #[test]
    fn where_a_redirect_leads_is_told_without_what_may_be_secret() {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("https://u:p@api.example.com/v1/chat?key=1"))]);
        let Outcome::Hopeless(error) = refusal(StatusCode::PERMANENT_REDIRECT, &headers, b"") else { panic!("it is hopeless") };
        assert!(error.to_string().contains("it is at https://api.example.com/v1/chat, and"), "{error}");
    }
}
