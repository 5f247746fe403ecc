//! Spans that wait to be sent, in a place of fixed size. Who adds to it never waits: what does not fit is counted and gone.

use std::{collections::VecDeque, sync::Mutex};

use bytes::Bytes;
use prometheus::IntCounter;
use tokio::sync::Notify;

use crate::state::lock;

/// Between requests and the thread that sends.
#[derive(Debug)]
pub(super) struct Queue {
    spans: Mutex<VecDeque<Bytes>>,
    capacity: usize,
    batch: usize,
    /// A batch is there.
    pub(super) full: Notify,
    dropped: IntCounter,
}

impl Queue {
    pub(super) fn new(capacity: usize, batch: usize, dropped: IntCounter) -> Self {
        // A batch that never fits would wait for ever.
        let batch = batch.min(capacity);
        Self { spans: Mutex::default(), capacity, batch, full: Notify::new(), dropped }
    }

    /// Takes spans in, as far as they fit. Somebody is woken only for a full batch: a wake for each request would cost it as much again.
    pub(super) fn push(&self, spans: impl ExactSizeIterator<Item = Bytes>) {
        let count = spans.len();
        let mut waiting = lock(&self.spans);
        let room = self.capacity.saturating_sub(waiting.len());
        let before = waiting.len();
        waiting.extend(spans.take(room));
        let after = waiting.len();
        drop(waiting);
        if before < self.batch && after >= self.batch {
            self.full.notify_one();
        }
        self.dropped.inc_by(count.saturating_sub(room) as u64);
    }

    /// The oldest, at most a batch.
    pub(super) fn take(&self) -> Vec<Bytes> {
        let mut waiting = lock(&self.spans);
        let count = waiting.len().min(self.batch);
        waiting.drain(..count).collect()
    }

    /// Whether a whole batch waits.
    pub(super) fn has_batch(&self) -> bool {
        lock(&self.spans).len() >= self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(count: usize) -> impl ExactSizeIterator<Item = Bytes> {
        std::iter::repeat_n(Bytes::from_static(b"span"), count)
    }

    #[test]
    fn what_does_not_fit_is_counted_and_the_rest_comes_in_batches() {
        let dropped = IntCounter::new("dropped", "help").unwrap();
        let queue = Queue::new(5, 2, dropped.clone());
        queue.push(spans(4));
        queue.push(spans(3));
        assert_eq!(dropped.get(), 2);
        let sizes: Vec<_> = (0..4).map(|_| queue.take().len()).collect();
        assert_eq!(sizes, [2, 2, 1, 0]);
    }

    #[test]
    fn a_batch_is_never_more_than_fits() {
        let queue = Queue::new(3, 512, IntCounter::new("dropped", "help").unwrap());
        queue.push(spans(3));
        assert!(queue.has_batch());
    }
}
