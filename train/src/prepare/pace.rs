//! How fast one expert is asked: so many at once, so many a second, and not at all while it asks for patience.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The pace of one expert.
pub(super) struct Pace {
    between: Duration,
    next: Mutex<Instant>,
    busy: AtomicUsize,
}

/// One request under way, until dropped.
pub(super) struct Busy<'a>(&'a AtomicUsize);

impl Pace {
    pub(super) fn new(rate: Option<f64>) -> Self {
        let between = rate.map_or(Duration::ZERO, |rate| Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX));
        Self { between, next: Mutex::new(Instant::now()), busy: AtomicUsize::new(0) }
    }

    /// Waits for this request's turn. Turns are handed out in order, each a step after the one before.
    pub(super) async fn turn(&self) {
        loop {
            let turn = {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                if *next <= now {
                    *next = now + self.between;
                    return;
                }
                *next
            };
            tokio::time::sleep_until(turn).await;
        }
    }

    /// Nobody's turn comes before that.
    pub(super) fn pause(&self, pause: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(Instant::now() + pause);
    }

    /// Counts a request as under way.
    pub(super) fn busy(&self) -> (Busy<'_>, usize) {
        let before = self.busy.fetch_add(1, Ordering::Relaxed);
        (Busy(&self.busy), before + 1)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Pace;

    #[tokio::test(start_paused = true)]
    async fn turns_come_at_the_rate_and_pauses_hold_for_all() {
        let (start, pace) = (Instant::now(), Pace::new(Some(4.0)));
        for _ in 0..5 {
            pace.turn().await;
        }
        assert_eq!(start.elapsed().as_millis() / 10, 100);
        pace.pause(Duration::from_secs(7));
        pace.turn().await;
        assert!(start.elapsed() >= Duration::from_secs(8));
    }
}
