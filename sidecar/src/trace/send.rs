//! One request to the collector, by gRPC or by HTTP, over connections as experts have.
//!
//! In: a message. Out: whether the collector has it; if not, whether to try again. gRPC here is what one call without streams needs: a
//! frame of five bytes before the message, and a status in the trailers.

use std::{error::Error, io::Write as _, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use prost::Message;

use super::{
    notes::cut,
    protocol::ExportResponse,
    settings::{Protocol, Settings},
};
use crate::{
    tls::{self, TlsError},
    upstream::Connector,
};

/// Answers of collectors are a few bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(5);

/// gRPC's codes that mean: not now. 8 does only where the collector says when to come back; like most clients we come back anyway.
const GRPC_LATER: [&str; 7] = ["1", "4", "8", "10", "11", "14", "15"];

/// Where spans go.
#[derive(Debug)]
pub(super) struct Collector {
    client: Client<Connector, Full<Bytes>>,
    settings: Settings,
}

/// The collector has them.
#[derive(Debug, PartialEq)]
pub(super) struct Accepted {
    /// All but these.
    pub(super) rejected: u64,
    /// Why not these.
    pub(super) why: String,
}

/// It has not.
#[derive(Debug, PartialEq)]
pub(super) struct Refused {
    /// Another try may help.
    pub(super) later: bool,
    /// When, where the collector said so.
    pub(super) after: Option<Duration>,
    /// For the log.
    pub(super) why: String,
}

impl Refused {
    fn now(why: impl Into<String>) -> Self {
        Self { later: true, after: None, why: why.into() }
    }

    fn for_good(why: impl Into<String>) -> Self {
        Self { later: false, after: None, why: why.into() }
    }
}

impl Collector {
    pub(super) fn new(settings: Settings) -> Result<Self, TlsError> {
        let tls = match settings.endpoint.scheme_str() {
            Some("https") => Some(tls::client_config(settings.certificate.as_deref())?),
            _ => None,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            // In the clear nothing is negotiated, and gRPC is HTTP/2.
            .http2_only(settings.protocol == Protocol::Grpc)
            .build(Connector::http1_or_2(tls, CONNECT));
        Ok(Self { client, settings })
    }

    /// Sends, within the time-out.
    pub(super) async fn send(&self, message: &[u8]) -> Result<Accepted, Refused> {
        let patience = self.settings.timeout;
        match tokio::time::timeout(patience, self.try_send(message)).await {
            Ok(result) => result,
            Err(_) => Err(Refused::now(format!("no answer within {} ms", patience.as_millis()))),
        }
    }

    async fn try_send(&self, message: &[u8]) -> Result<Accepted, Refused> {
        let response = self.client.request(self.request(message)).await.map_err(|error| Refused::now(root(&error)))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| Refused::now(root(&*error)))?;
        let trailers = body.trailers().cloned();
        let bytes = body.to_bytes();
        match self.settings.protocol {
            Protocol::Http => http_verdict(parts.status, &parts.headers, &bytes),
            // An answer without a message has its status in the head.
            Protocol::Grpc if parts.status.is_success() => grpc_verdict(trailers.as_ref().unwrap_or(&parts.headers), &bytes),
            Protocol::Grpc => Err(of_status(parts.status, &parts.headers)),
        }
    }

    fn request(&self, message: &[u8]) -> Request<Full<Bytes>> {
        let Settings { endpoint, protocol, headers, gzip, .. } = &self.settings;
        let message = if *gzip { compressed(message) } else { Bytes::copy_from_slice(message) };
        let body = match protocol {
            Protocol::Http => message,
            Protocol::Grpc => framed(&message, *gzip),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.clone();
        let sent = request.headers_mut();
        *sent = headers.clone();
        sent.insert(header::USER_AGENT, HeaderValue::from_static(concat!("expert-router/", env!("CARGO_PKG_VERSION"))));
        let content_type = if *protocol == Protocol::Grpc { "application/grpc" } else { "application/x-protobuf" };
        sent.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if *protocol == Protocol::Grpc {
            sent.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        if *gzip {
            let encoding = if *protocol == Protocol::Grpc { "grpc-encoding" } else { "content-encoding" };
            sent.insert(encoding, HeaderValue::from_static("gzip"));
        }
        request
    }
}

fn compressed(message: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(message.len() / 4), Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(message);
    encoder.finish().unwrap_or_default().into()
}

/// gRPC's frame: whether it is compressed, its length, itself.
fn framed(message: &[u8], is_compressed: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(u8::from(is_compressed));
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(message);
    frame.freeze()
}

fn accepted(message: &[u8]) -> Accepted {
    let partial = ExportResponse::decode(message).ok().and_then(|response| response.partial_success).unwrap_or_default();
    Accepted { rejected: u64::try_from(partial.rejected_spans).unwrap_or(0), why: cut(&partial.error_message) }
}

fn http_verdict(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Accepted, Refused> {
    if status.is_success() { Ok(accepted(body)) } else { Err(of_status(status, headers)) }
}

fn of_status(status: StatusCode, headers: &HeaderMap) -> Refused {
    let later = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    Refused { later, after: after.filter(|_| later), why: format!("status {status}") }
}

fn grpc_verdict(trailers: &HeaderMap, body: &[u8]) -> Result<Accepted, Refused> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        // We ask for no compression of answers; a frame that has some is as good as empty.
        "0" => Ok(accepted(body.get(5..).filter(|_| body[0] == 0).unwrap_or_default())),
        "" => Err(Refused::for_good("an answer without a gRPC status: is this a gRPC address?")),
        code => {
            let why = format!("gRPC status {code} {}", cut(text("grpc-message")));
            Err(if GRPC_LATER.contains(&code) { Refused::now(why) } else { Refused::for_good(why) })
        }
    }
}

/// What failed at the bottom: carries addresses, never headers.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::protocol::PartialSuccess;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn busy_collectors_are_asked_again_and_those_that_do_not_understand_are_not() {
        let check = |status: u16, later: bool| {
            let refused = http_verdict(StatusCode::from_u16(status).unwrap(), &headers(&[("retry-after", "3")]), b"").unwrap_err();
            assert_eq!((refused.later, refused.after.is_some()), (later, later), "{status}");
        };
        check(429, true);
        check(503, true);
        check(400, false);
        check(404, false);
        check(307, false);
        let grpc = |code: &'static str| grpc_verdict(&headers(&[("grpc-status", code)]), b"").unwrap_err().later;
        assert_eq!((grpc("14"), grpc("8"), grpc("3"), grpc("12"), grpc("16")), (true, true, false, false, false));
        assert!(!grpc_verdict(&HeaderMap::new(), b"").unwrap_err().later);
    }

    #[test]
    fn what_was_not_taken_is_known() {
        let partial = PartialSuccess { rejected_spans: 3, error_message: "too old".into() };
        let message = ExportResponse { partial_success: Some(partial) }.encode_to_vec();
        let expect = Accepted { rejected: 3, why: "too old".into() };
        assert_eq!(http_verdict(StatusCode::OK, &HeaderMap::new(), &message), Ok(expect));
        assert_eq!(grpc_verdict(&headers(&[("grpc-status", "0")]), &framed(&message, false)).unwrap().rejected, 3);
        assert_eq!(grpc_verdict(&headers(&[("grpc-status", "0")]), b"").unwrap().rejected, 0);
        assert_eq!(http_verdict(StatusCode::OK, &HeaderMap::new(), b"{}nonsense").unwrap().rejected, 0);
    }

    #[test]
    fn a_frame_says_its_length() {
        assert_eq!(&framed(b"abc", false)[..], b"\0\0\0\0\x03abc");
    }
}
