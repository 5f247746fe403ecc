//! The thread that sends spans. Requests never wait for it: it takes from a queue of fixed size, and has a runtime of its own.
//!
//! A collector that is busy or away is asked again for half a minute, ever more rarely; then its batch is given up. What is lost is
//! counted, and told of once a minute at most.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use super::{
    protocol::{self, ExportRequest, Resource, ResourceSpans, Scope, ScopeSpans},
    queue::Queue,
    semantic::SCHEMA_URL,
    send::{Accepted, Collector, Refused},
    settings::Settings,
};
use crate::metrics::Metrics;

/// How long a batch is tried for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first pause between tries; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How often trouble is told of.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// What the end of the process waits for the last spans. Less than a Pod gets beside draining.
const FLUSH: Duration = Duration::from_secs(3);

/// The thread.
#[derive(Debug)]
pub struct Exporter {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Exporter {
    pub(super) fn start(collector: Collector, settings: &Settings, queue: Arc<Queue>, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let resource = settings.resource.iter().map(|(key, value)| protocol::text(key, value)).collect();
        let mut sending = Sending {
            collector,
            queue,
            metrics,
            resource: Resource { attributes: resource },
            delay: settings.delay,
            stopped,
            trouble: None,
        };
        let thread = std::thread::Builder::new().name("traces".into()).spawn(move || {
            runtime.block_on(async {
                let mut stopped = sending.stopped.clone();
                let overdue = async {
                    let _ = stopped.wait_for(|stop| *stop).await;
                    tokio::time::sleep(FLUSH).await;
                };
                tokio::select! {
                    () = sending.run() => {}
                    () = overdue => tracing::warn!("the last spans did not reach the collector in time"),
                }
            });
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { stop, thread })
    }

    /// Sends what waits, for a few seconds at most.
    pub async fn finish(self) {
        let Self { stop, thread } = self;
        let _ = stop.send(true);
        // A panic there was reported there.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

struct Sending {
    collector: Collector,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    resource: Resource,
    delay: Duration,
    /// Also ready once the exporter is dropped: then there is nobody who waits, and no time to lose either.
    stopped: watch::Receiver<bool>,
    trouble: Option<Trouble>,
}

#[derive(Default)]
struct Trouble {
    told: Option<Instant>,
    /// Since then.
    lost: u64,
}

impl Sending {
    async fn run(&mut self) {
        loop {
            let stopping = self.wait().await;
            loop {
                let batch = self.queue.take();
                if batch.is_empty() {
                    break;
                }
                self.export(batch).await;
                if !stopping && !self.queue.has_batch() {
                    break;
                }
            }
            if stopping {
                return;
            }
        }
    }

    /// Until a batch is there, or what there is has waited long enough, or the end: then true.
    async fn wait(&mut self) -> bool {
        tokio::select! {
            _ = self.stopped.wait_for(|stop| *stop) => true,
            () = self.queue.full.notified() => false,
            () = tokio::time::sleep(self.delay) => false,
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stopped.borrow() || self.stopped.has_changed().is_err()
    }

    async fn export(&mut self, batch: Vec<Bytes>) {
        let count = batch.len() as u64;
        let message = message(&self.resource, batch);
        let spans = self.metrics.trace_spans.clone();
        let counted = |result: &str, count: u64| spans.with_label_values(&[result]).inc_by(count);
        match self.try_for_a_while(&message).await {
            Ok(Accepted { rejected, why }) => {
                let rejected = rejected.min(count);
                counted("sent", count - rejected);
                counted("rejected", rejected);
                if rejected > 0 {
                    self.tell(rejected, &why);
                } else if self.trouble.take().is_some() {
                    tracing::info!("spans reach the collector again");
                }
            }
            Err(Refused { later, why, .. }) => {
                counted(if later { "unsent" } else { "rejected" }, count);
                self.tell(count, &why);
            }
        }
    }

    async fn try_for_a_while(&mut self, message: &[u8]) -> Result<Accepted, Refused> {
        let until = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let refused = match self.collector.send(message).await {
                Ok(accepted) => return Ok(accepted),
                Err(refused) => refused,
            };
            // A collector may name any time; one beyond our patience is as good as none.
            let patience = refused.after.unwrap_or(pause).max(pause).min(2 * PATIENCE);
            if !refused.later || Instant::now() + patience > until || self.is_stopping() {
                return Err(refused);
            }
            if self.trouble.is_none() {
                self.tell(0, &refused.why);
            }
            // At the end once more at once, and no more.
            tokio::select! {
                _ = self.stopped.wait_for(|stop| *stop) => {}
                () = tokio::time::sleep(patience) => {}
            }
            pause *= 2;
        }
    }

    fn tell(&mut self, lost: u64, why: &str) {
        let trouble = self.trouble.get_or_insert_default();
        trouble.lost += lost;
        if trouble.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            tracing::warn!(problem = why, lost = trouble.lost, "spans do not reach the collector");
            *trouble = Trouble { told: Some(Instant::now()), lost: 0 };
        }
    }
}

fn message(resource: &Resource, spans: Vec<Bytes>) -> Vec<u8> {
    let scope = Scope { name: "expert-router".into(), version: env!("CARGO_PKG_VERSION").into() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: SCHEMA_URL.into() }];
    ExportRequest { resource_spans: vec![ResourceSpans { resource: Some(resource.clone()), scope_spans }] }.encode_to_vec()
}
