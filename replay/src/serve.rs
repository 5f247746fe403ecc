//! The server: a port, its connections, and the handle that whoever started it holds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::answer::Answer;
use crate::recording::Recording;
use crate::script::Script;
use crate::service::{Expert, Received, Totals};

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What was answered to which prompt.
    pub recording: Recording,
    /// Whose answers to give; without a name the request's `model` is it.
    pub expert: Option<String>,
    /// The answer where the recording has none.
    pub fallback: Answer,
    /// How many times faster than recorded; 0 answers at once.
    pub speed: f64,
    /// What goes wrong.
    pub script: Script,
    /// The keys of which requests must bear one; an empty list lets nobody in.
    pub api_keys: Option<Vec<String>>,
    /// Serve TLS.
    pub tls: Option<Tls>,
    /// How many requests to keep for [`Replay::requests`]; 0 keeps none.
    pub keep_requests: usize,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub certificates: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Default for Options {
    /// A free local port, no recording, at recorded speed, nothing wrong.
    fn default() -> Self {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            recording: Recording::default(),
            expert: None,
            fallback: Answer::text("This prompt is not in the recording."),
            speed: 1.0,
            script: Script::fine(),
            api_keys: None,
            tls: None,
            keep_requests: 10_000,
        }
    }
}

/// A running expert. Dropping it ends it and all its connections.
pub struct Replay {
    address: SocketAddr,
    scheme: &'static str,
    expert: Arc<Expert>,
    accepting: JoinHandle<()>,
}

impl Replay {
    /// Starts it; it answers when this returns. Needs a tokio runtime.
    pub async fn start(options: Options) -> io::Result<Self> {
        let acceptor = options.tls.as_ref().map(acceptor).transpose()?;
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let expert = Arc::new(Expert::new(options));
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&expert)));
        Ok(Replay { address, scheme, expert, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL without a path: `http://127.0.0.1:8081`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The requests so far, in the order in which their bodies were complete.
    pub fn requests(&self) -> Vec<Received> {
        self.expert.received()
    }

    /// What became of them.
    pub fn totals(&self) -> Totals {
        self.expert.totals()
    }

    /// Replaces the script; the next request meets its first step.
    pub fn set_script(&self, script: Script) {
        self.expert.set_script(script);
    }

    /// Ends it: the port is free and every connection closed when this returns.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // A cancelled task is what was asked for.
        let _ = (&mut self.accepting).await;
    }

    /// Waits until it ends, which it does only when dropped or broken.
    pub async fn wait(&mut self) {
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Dropping this future closes the port and, with the set, all connections.
async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, expert: Arc<Expert>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, acceptor.clone(), Arc::clone(&expert)));
                }
                // Out of file descriptors, most likely: some come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, expert: Arc<Expert>) {
    // Best effort: without it answers are late, not wrong.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| Arc::clone(&expert).answer(request));
    let builder = Builder::new(TokioExecutor::new());
    // How a connection ends is for its client to judge.
    let _ = match acceptor {
        None => builder.serve_connection(TokioIo::new(stream), service).await,
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => builder.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
    };
}

fn acceptor(tls: &Tls) -> io::Result<TlsAcceptor> {
    let invalid = |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    let certificates = CertificateDer::pem_slice_iter(&tls.certificates).collect::<Result<Vec<_>, _>>().map_err(|error| invalid(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key).map_err(|error| invalid(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&error))?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| invalid(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
