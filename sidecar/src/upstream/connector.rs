//! The way to a connection: TCP without delay, TLS where the address says so, both within one time-out, and a note of when it stood.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream, builderstates::WantsProtocols1};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Inner = MaybeHttpsStream<TokioIo<TcpStream>>;

/// When a connection was established. One older than the request on it was taken from the pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since(pub(super) Instant);

/// Connects within a time-out that covers name, TCP and TLS together.
#[derive(Debug, Clone)]
pub struct Connector {
    inner: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

impl Connector {
    /// Offers HTTP/1.1 alone.
    pub(crate) fn http1(tls: Option<rustls::ClientConfig>, timeout: Duration) -> Self {
        Self { inner: https_or_http(tls).enable_http1().wrap_connector(tcp()), timeout }
    }

    /// Offers HTTP/2 too, where TLS can offer anything.
    pub(crate) fn http1_or_2(tls: Option<rustls::ClientConfig>, timeout: Duration) -> Self {
        Self { inner: https_or_http(tls).enable_all_versions().wrap_connector(tcp()), timeout }
    }
}

fn https_or_http(tls: Option<rustls::ClientConfig>) -> HttpsConnectorBuilder<WantsProtocols1> {
    HttpsConnectorBuilder::new().with_tls_config(tls.unwrap_or_else(untrusting)).https_or_http()
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp.set_happy_eyeballs_timeout(Some(Duration::from_millis(200)));
    tcp
}

/// For pools of plain addresses: no authority, no TLS connection.
fn untrusting() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

impl Service<Uri> for Connector {
    type Response = Stamped;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stamped, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, timeout) = (self.inner.call(uri), self.timeout);
        Box::pin(async move {
            match tokio::time::timeout(timeout, connecting).await {
                Ok(connected) => Ok(Stamped { inner: connected?, since: Since(Instant::now()) }),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection within the connect time-out").into()),
            }
        })
    }
}

/// A connection that knows since when it stands.
#[derive(Debug)]
pub struct Stamped {
    inner: Inner,
    since: Since,
}

impl Connection for Stamped {
    fn connected(&self) -> Connected {
        self.inner.connected().extra(self.since)
    }
}

impl Read for Stamped {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl Write for Stamped {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }
}
