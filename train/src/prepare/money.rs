//! What may be spent. A request is sent only if its worst case still fits beside what was spent and what is under way.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// The purse that all requests share.
pub(super) struct Money {
    limit_usd: f64,
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    spent_usd: f64,
    reserved_usd: f64,
    under_way: usize,
}

/// There is not enough left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spent;

impl Money {
    pub(super) fn new(limit_usd: Option<f64>, spent_usd: f64) -> Self {
        let state = State { spent_usd, ..State::default() };
        Self { limit_usd: limit_usd.unwrap_or(f64::INFINITY), state: Mutex::new(state), settled: Notify::new() }
    }

    pub(super) fn spent_usd(&self) -> f64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).spent_usd
    }

    /// Sets money aside. Where there is too little, waits for what is under way: it mostly costs less than its worst case.
    pub(super) async fn reserve(&self, most_usd: f64) -> Result<(), Spent> {
        loop {
            let settled = self.settled.notified();
            {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.spent_usd + state.reserved_usd + most_usd <= self.limit_usd {
                    state.reserved_usd += most_usd;
                    state.under_way += 1;
                    return Ok(());
                }
                if state.under_way == 0 {
                    return Err(Spent);
                }
            }
            settled.await;
        }
    }

    /// An attempt that may have been paid for is counted as spent, and the reserve stays for the next. False: there may be no next.
    pub(super) fn lose(&self, most_usd: f64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.spent_usd += most_usd;
        state.spent_usd + state.reserved_usd <= self.limit_usd
    }

    /// Gives back what was set aside and takes what it cost.
    pub(super) fn settle(&self, most_usd: f64, cost_usd: f64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.spent_usd += cost_usd;
        state.reserved_usd = (state.reserved_usd - most_usd).max(0.0);
        state.under_way -= 1;
        drop(state);
        self.settled.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::{Money, Spent};

    #[tokio::test]
    async fn the_worst_case_of_what_is_under_way_counts() {
        let money = Money::new(Some(10.0), 5.0);
        money.reserve(4.0).await.unwrap();
        let waits = money.reserve(2.0);
        tokio::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending(), "4 are set aside, 1 is left");
        money.settle(4.0, 1.0);
        assert_eq!(waits.await, Ok(()));
        money.settle(2.0, 2.0);
        assert!((money.spent_usd() - 8.0).abs() < 1e-12);
        assert_eq!(money.reserve(2.5).await, Err(Spent));
    }

    #[tokio::test]
    async fn a_lost_attempt_may_have_been_paid_for() {
        let money = Money::new(Some(5.0), 0.0);
        money.reserve(2.0).await.unwrap();
        assert!(money.lose(2.0), "2 lost and 2 set aside");
        assert!(!money.lose(2.0), "4 lost and 2 set aside");
    }
}
