//! One client connection, from accept to its end.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::JoinSet,
    time::Sleep,
};
use tokio_rustls::TlsAcceptor;

use crate::{routes, shared::Shared, watch::ServerTls};

/// A TLS handshake is a few round trips.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// HTTP/2 clients that do not answer a ping are gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);
const MAX_STREAMS: u32 = 1000;
const MAX_HEADER_BYTES: u32 = 64 << 10;

/// Makes connections' tasks, and holds them: dropped, it ends them.
#[derive(Debug)]
pub(super) struct Connections {
    shared: Arc<Shared>,
    server: Arc<auto::Builder<TokioExecutor>>,
    tls: Option<ServerTls>,
    idle: Duration,
    tasks: JoinSet<()>,
}

/// Counts a connection while it lasts.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.metrics.connections.inc();
        shared.metrics.connections_total.inc();
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.connections.dec();
    }
}

impl Connections {
    pub(super) fn new(shared: Arc<Shared>, tls: Option<ServerTls>, idle: Duration) -> Self {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(MAX_HEADER_BYTES as usize * 2);
        server
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_PATIENCE)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .adaptive_window(true);
        Self { shared, server: Arc::new(server), tls, idle, tasks: JoinSet::new() }
    }

    /// Waits for the end of one, and forgets it; for ever while there is none.
    pub(super) async fn one_ends(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends every connection at once, whatever is under way on it. A task is aborted from outside, so that none has to look, each time it
    /// runs, whether it is to end.
    pub(super) async fn cut(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Serves a connection on a task of its own.
    pub(super) fn spawn(&mut self, stream: TcpStream, watcher: Watcher) {
        super::prepare(&stream);
        let (shared, server, idle) = (self.shared.clone(), self.server.clone(), self.idle);
        let counted = Counted::new(shared.clone());
        match &self.tls {
            None => self.tasks.spawn(async move {
                let _counted = counted;
                serve(shared, &server, stream, watcher, idle).await;
            }),
            Some(tls) => {
                let acceptor = TlsAcceptor::from(tls.config.load_full());
                self.tasks.spawn(async move {
                    let _counted = counted;
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        serve(shared, &server, stream, watcher, idle).await;
                    } else {
                        shared.metrics.tls_failures.inc();
                    }
                })
            }
        };
    }
}

/// HTTP, until the client goes, errs, or the drain ends it.
async fn serve<S>(shared: Arc<Shared>, server: &auto::Builder<TokioExecutor>, stream: S, watcher: Watcher, idle: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let spoke = Arc::new(AtomicBool::new(false));
    let service = {
        let spoke = spoke.clone();
        service_fn(move |request: Request<Incoming>| {
            spoke.store(true, Ordering::Relaxed);
            let is_http2 = request.version() == Version::HTTP_2;
            let answer = routes::answer(shared.clone(), request);
            async move {
                // Of HTTP/1.1 the connection is `Patient` enough.
                answer.await.map(|answer| if is_http2 { answer.map(|body| body.watched(idle)) } else { answer })
            }
        })
    };
    let connection = watcher.watch(server.serve_connection(TokioIo::new(Patient::new(stream, idle)), service));
    let mut connection = std::pin::pin!(connection);
    // Whether it is HTTP/1.1 or HTTP/2 shows in the first bytes; until they are there, no time-out of either runs.
    tokio::select! {
        result = &mut connection => return ended(result),
        () = tokio::time::sleep(idle) => if !spoke.load(Ordering::Relaxed) {
            return;
        },
    }
    ended(connection.await);
}

fn ended(result: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = result {
        tracing::debug!(error, "connection");
    }
}

/// A stream whose writes may not stand still for longer than a stated time: a client that reads nothing would otherwise hold its
/// request's place at the expert for ever, since a body is asked for more only when there is room. Of HTTP/2, where one stream may be left
/// unread while the others go on, see `stream::watched`.
#[derive(Debug)]
struct Patient<S> {
    inner: S,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(inner: S, patience: Duration) -> Self {
        Self { inner, patience, waiting: None }
    }

    /// Runs the clock while a write stands still.
    fn timed<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waiting = None;
            return result;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.timed(result, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(context);
        self.timed(result, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(context);
        self.timed(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.timed(result, context)
    }
}
