//! A body whose client may leave it unread while its connection lives on.
//!
//! HTTP/2 has a window for each stream, and one for all of a connection. While they are shut, a body is not asked for its next piece: so none
//! of its time-outs runs, nor does a write of the connection stand still, and an expert's place would be held for ever. So each body
//! of HTTP/2 has a task that takes it away once nobody has asked for more for a stated time. Deliberately absent: HTTP/1.1, whose
//! connection's writes stand still where the client does not read, and are timed.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::{BrokenOff, Outgoing};
use crate::state::lock;

/// A body, and who watches it.
#[derive(Debug)]
pub struct Watched {
    seen: Arc<Mutex<Seen>>,
    watcher: AbortHandle,
}

#[derive(Debug)]
struct Seen {
    /// None: taken away.
    body: Option<Outgoing>,
    /// Since when nobody has asked for more; none while somebody waits for the next piece.
    unasked: Option<Instant>,
}

impl Watched {
    /// Begins to watch: a body may go unasked for so long.
    #[must_use]
    pub fn new(body: Outgoing, patience: Duration) -> Self {
        let seen = Arc::new(Mutex::new(Seen { body: Some(body), unasked: Some(Instant::now()) }));
        // What drops this drops the body, now and not when the watcher ends.
        let watcher = tokio::spawn(watch(Arc::downgrade(&seen), patience)).abort_handle();
        Self { seen, watcher }
    }

    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut seen = lock(&self.seen);
        let Some(body) = &mut seen.body else { return Poll::Ready(Some(Err(BrokenOff))) };
        let polled = Pin::new(body).poll_frame(context);
        seen.unasked = polled.is_ready().then(Instant::now);
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        lock(&self.seen).body.as_ref().is_some_and(Body::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        lock(&self.seen).body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

async fn watch(seen: Weak<Mutex<Seen>>, patience: Duration) {
    let mut wait = Some(patience);
    while let Some(left) = wait {
        tokio::time::sleep(left).await;
        wait = seen.upgrade().and_then(|seen| look(&seen, patience));
    }
}

/// How long until the next look; none where the body was taken away.
fn look(seen: &Mutex<Seen>, patience: Duration) -> Option<Duration> {
    let mut seen = lock(seen);
    let unasked = seen.unasked.map_or(Duration::ZERO, |since| since.elapsed());
    if unasked < patience {
        return Some(patience - unasked);
    }
    // Its drop meters it, as that of a client that went.
    seen.body = None;
    None
}
