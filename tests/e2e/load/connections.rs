//! Connections to the router, such that it is known of each whether it had answered before. That is why no ready-made client is used.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connection, and whether it had answered before.
pub(crate) struct Lease {
    /// Takes one request.
    pub(crate) sender: SendRequest<Full<Bytes>>,
    /// It had.
    pub(crate) reused: bool,
}

/// Connections to one address.
#[derive(Clone)]
pub(crate) struct Pool {
    /// Host and port.
    pub(crate) address: Arc<str>,
    idle: Arc<Mutex<Vec<SendRequest<Full<Bytes>>>>>,
}

impl Pool {
    /// Without any yet.
    #[must_use]
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.into(), idle: Arc::default() }
    }

    /// One that was kept, if that is wanted and there is one; else a new one.
    ///
    /// # Errors
    /// There is no connecting.
    pub(crate) async fn take(&self, kept: bool) -> anyhow::Result<Lease> {
        if kept && let Some(sender) = self.kept() {
            return Ok(Lease { sender, reused: true });
        }
        let stream = TcpStream::connect(&*self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How it ends, its requests tell.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Lease { sender, reused: false })
    }

    /// The one used last that its server has not closed, as far as is known here.
    fn kept(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let place = idle.iter().rposition(SendRequest::is_ready)?;
        Some(idle.remove(place))
    }

    /// Keeps it for another request.
    pub(crate) fn give(&self, sender: SendRequest<Full<Bytes>>) {
        if !sender.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
    }
}
