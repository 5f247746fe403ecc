//! A client that says what came back.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The body ended as it should.
    pub complete: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and code of an error in OpenAI's shape.
    pub fn error(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{}", self.text());
        (self.status, error["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// Calls one address.
#[derive(Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { pool: Pool::builder(TokioExecutor::new()).build_http(), address }
    }

    /// HTTP/2 without TLS.
    pub fn http2(address: SocketAddr) -> Self {
        Self { pool: Pool::builder(TokioExecutor::new()).http2_only(true).build_http(), address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// None where the connection ends first.
    pub async fn try_post(&self, path: &str, body: String) -> Option<u16> {
        let request = Request::post(format!("http://{}{path}", self.address)).body(Full::new(Bytes::from(body))).unwrap();
        self.pool.request(request).await.ok().map(|response| response.status().as_u16())
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body.to_string()).await
    }

    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, headers, body.into()).await
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        let response = self.begin(method, path, headers, body).await;
        let (parts, mut body) = response.into_parts();
        let (mut whole, mut complete) = (Vec::new(), true);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => whole.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) => {
                    complete = false;
                    break;
                }
            }
        }
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: whole.into(), complete }
    }

    /// To the head.
    pub async fn begin(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> http::Response<hyper::body::Incoming> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.pool.request(request.body(Full::new(body)).unwrap()).await.unwrap()
    }
}
