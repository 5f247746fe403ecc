//! Connections: accepted, told apart (TLS or not, HTTP/1.1 or HTTP/2), served, and at the end drained.
//!
//! In: a configuration. Out: a [`Server`] that listens, then runs until it is told to stop. The end: not ready any more, but still
//! accepting for a stated delay; then what waits in the listener's queue is taken and the listener closed; then every connection ends
//! after its requests under way, within a stated grace; what is left is cut, and metered as that. Deliberately absent: signals, which are
//! `main`'s.

mod connection;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{
    admin,
    aside::log::RequestLog,
    build::{Builder, Problem},
    config::Config,
    metrics::Metrics,
    read,
    shared::Shared,
    spend::Spend,
    tls,
    trace::{Exporter, Tracer},
    watch::{self, ServerTls, Watcher},
};
use connection::Connections;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Manifest, snapshot, or a file they name.
    #[error("{0}")]
    Configuration(Problem),
    /// An address is taken or not ours.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Where it was said.
        flag: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// No thread to watch with.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<Problem> for StartError {
    fn from(problem: Problem) -> Self {
        Self::Configuration(problem)
    }
}

/// Listens already.
#[derive(Debug)]
pub struct Server {
    /// Where clients call; the port is known also where 0 was asked for.
    pub listen: SocketAddr,
    /// Where operators look.
    pub admin: SocketAddr,
    shared: Arc<Shared>,
    listener: TcpListener,
    admin_listener: TcpListener,
    tls: Option<ServerTls>,
    watcher: Watcher,
    exporter: Option<Exporter>,
    config: Config,
}

/// Loads everything and listens.
///
/// # Errors
/// See [`StartError`].
pub fn start(config: Config) -> Result<Server, StartError> {
    let builder = Builder::new(config.clone(), Arc::new(Metrics::new()));
    start_with(config, builder)
}

/// The same, by a builder of one's own.
///
/// # Errors
/// See [`StartError`].
pub fn start_with(config: Config, mut builder: Builder) -> Result<Server, StartError> {
    let metrics = builder.metrics().clone();
    let (state, problem) = builder.build(None)?;
    let spend = Spend::open(config.state_file.as_deref()).map_err(|error| Problem::new("source", error))?;
    let tls = match &config.tls {
        None => None,
        Some(files) => {
            let server = tls::server_config(files).map_err(|error| Problem::new("tls", error))?;
            metrics.certificate_end.set(tls::not_after(files));
            Some(ServerTls { files: files.clone(), config: Arc::new(ArcSwap::new(server)) })
        }
    };
    let (listener, listen) = bind(config.listen, "--listen")?;
    let (admin_listener, admin) = bind(config.admin, "--admin")?;
    let limits = read::Limits { bytes: config.max_body_bytes, idle: config.body_idle };
    let (tracer, exporter) = trace(&config, &metrics);
    let mut shared = Shared::new(state, metrics, limits, spend);
    shared.tracer = tracer;
    shared.request_log = request_log(&config, &shared);
    let shared = Arc::new(shared);
    let watcher = watch::watch(builder, shared.clone(), tls.clone(), problem)?;
    Ok(Server { listen, admin, shared, listener, admin_listener, tls, watcher, exporter, config })
}

/// What keeps requests from being kept does not keep them from being served.
fn request_log(config: &Config, shared: &Shared) -> Option<RequestLog> {
    let asked_for = shared.state.load().request_log.is_some();
    let Some(folder) = &config.request_log_dir else {
        if asked_for {
            tracing::warn!("no request is kept: the manifest asks for it, and --request-log-dir says no folder");
        }
        return None;
    };
    if !asked_for {
        tracing::info!("no request is kept until the manifest asks for it: observability.requestLog");
    }
    let opened = RequestLog::open(folder, &shared.metrics.request_log);
    opened.inspect_err(|error| tracing::error!(%error, folder = %folder.display(), "no request is kept")).ok()
}

/// What keeps requests from being traced does not keep them from being served.
fn trace(config: &Config, metrics: &Arc<Metrics>) -> (Option<Tracer>, Option<Exporter>) {
    let Some(settings) = config.traces.clone() else { return (None, None) };
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    match Tracer::start(settings, scheme, metrics) {
        Ok((tracer, exporter)) => (Some(tracer), Some(exporter)),
        Err(error) => {
            tracing::error!(%error, "requests are not traced");
            (None, None)
        }
    }
}

fn bind(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bound().map_err(|source| StartError::Listen { address, flag, source })
}

impl Server {
    /// What its requests share, for tests and for those who embed it.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Serves until `stop` is ready, then drains. Says whether every connection ended within the grace.
    pub async fn run(self, stop: impl Future<Output = ()>) -> bool {
        let Self { shared, listener, admin_listener, tls, watcher, exporter, config, listen, admin } = self;
        tracing::info!(%listen, %admin, tls = tls.is_some(), "expert-router serves");
        let admin = tokio::spawn(admin::serve(admin_listener, shared.clone()));
        let mut connections = Connections::new(shared.clone(), tls, config.idle);
        let graceful = GracefulShutdown::new();
        tokio::select! {
            () = accept(&listener, &mut connections, &graceful) => {}
            () = stop => {}
        }
        shared.draining.store(true, Ordering::Release);
        tracing::info!(seconds = config.drain.as_secs_f64(), "draining");
        if !config.drain_delay.is_zero() {
            let _ = tokio::time::timeout(config.drain_delay, accept(&listener, &mut connections, &graceful)).await;
        }
        take_waiting(&listener, &mut connections, &graceful).await;
        drop(listener);
        let left = graceful.count();
        let drained = tokio::time::timeout(config.drain, graceful.shutdown()).await.is_ok();
        if drained {
            tracing::info!(connections = left, "every connection ended within the grace");
        } else {
            tracing::warn!(connections = shared.metrics.connections.get(), "the grace ended first: connections are cut");
            shared.cut.store(true, Ordering::Release);
            connections.cut().await;
        }
        shared.all_metered().await;
        if let Some(exporter) = exporter {
            exporter.finish().await;
        }
        admin.abort();
        // Joins the threads, which write the state file once more and the last rows of requests.
        let end = move || {
            drop(watcher);
            if let Some(log) = &shared.request_log {
                log.close();
            }
        };
        let _ = tokio::task::spawn_blocking(end).await;
        drained
    }
}

async fn accept(listener: &TcpListener, connections: &mut Connections, graceful: &GracefulShutdown) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.one_ends() => continue,
        };
        match accepted {
            Ok((stream, _)) => connections.spawn(stream, graceful.watcher()),
            Err(error) => {
                // Either the client is gone already, or file descriptors are: both pass.
                tracing::debug!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Clients in the listener's queue believe that they are connected: closing it would cut them off.
async fn take_waiting(listener: &TcpListener, connections: &mut Connections, graceful: &GracefulShutdown) {
    let now = Duration::ZERO;
    while let Ok(Ok((stream, _))) = tokio::time::timeout(now, listener.accept()).await {
        connections.spawn(stream, graceful.watcher());
    }
}

/// Without delay: an answer's first piece must not wait for the acknowledgement of its head.
fn prepare(stream: &TcpStream) {
    // Fails only on a connection that is dead already.
    let _ = stream.set_nodelay(true);
}
