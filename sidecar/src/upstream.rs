//! Connections to experts: one pool per trust set and connect time-out, HTTP/1.1 in the clear and with TLS.
//!
//! In: a request for one expert. Out: its response's head, or what failed and whether anything may have reached the expert.
//! Deliberately absent: retries and fallbacks, which are `forward`'s, and HTTP/2, of which the pool would put all requests to an expert on one
//! connection: beyond the streams that the server allows they would wait unseen, and a client that does not read would hold up all others.

mod connector;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error},
    rt::{TokioExecutor, TokioTimer},
};

pub use connector::Connector;
use connector::Since;

use crate::tls::{self, TlsError};

/// Idle connections are kept for less time than servers usually do, so that they rarely close under our hands.
const POOL_IDLE: Duration = Duration::from_secs(45);
/// Of one expert: as many as were under way at once are there for the next burst, within reason. Those used last are used first, so that
/// the others end by themselves.
const MAX_IDLE: usize = 1024;

/// What makes two experts unable to share connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Authorities beside the system's.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of that file: new authorities are a new pool.
    pub ca_digest: Option<[u8; 32]>,
    /// Until connection and TLS stand.
    pub connect_timeout: Duration,
    /// TLS is needed: authorities are loaded only then, since that takes tens of milliseconds.
    pub tls: bool,
}

/// A pool of connections.
#[derive(Debug, Clone)]
pub struct Pool {
    client: Client<Connector, Full<Bytes>>,
}

/// Why there is no response.
#[derive(Debug)]
pub enum SendError {
    /// No connection: the expert has seen nothing.
    Connect(Error),
    /// A pooled connection was closed before any answer: as a rule the expert's server had closed it while it was idle.
    Stale(Error),
    /// A fresh connection was closed or broken before an answer.
    Reset(Error),
}

impl Pool {
    /// A pool without connections yet.
    ///
    /// # Errors
    /// Authorities that cannot be used.
    pub fn new(key: &PoolKey) -> Result<Self, TlsError> {
        let tls = if key.tls { Some(tls::client_config(key.ca_file.as_deref())?) } else { None };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            // Whether a request is sent again is for `forward` to say and to count.
            .retry_canceled_requests(true)
            .build(Connector::http1(tls, key.connect_timeout));
        Ok(Self { client })
    }

    /// Sends, and waits for the response's head. Dropping the future takes the request back: the connection is closed.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, SendError> {
        let begun = std::time::Instant::now();
        self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                return SendError::Connect(error);
            }
            let reused = error.connect_info().is_some_and(|connected| {
                let mut extensions = http::Extensions::new();
                connected.get_extras(&mut extensions);
                extensions.get::<Since>().is_some_and(|since| since.0 < begun)
            });
            if reused && closed_without_answer(&error) { SendError::Stale(error) } else { SendError::Reset(error) }
        })
    }
}

/// The connection ended before a byte of the answer, in any of the ways a closed connection shows itself.
fn closed_without_answer(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed())
        {
            return true;
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
            return matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof);
        }
        source = cause.source();
    }
    false
}

impl SendError {
    /// For the log: what failed at the root. Carries addresses, never headers or bodies.
    #[must_use]
    pub fn reason(&self) -> String {
        let (Self::Connect(error) | Self::Stale(error) | Self::Reset(error)) = self;
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        cause.to_string()
    }
}

/// A pool that several experts share.
pub type SharedPool = Arc<Pool>;
