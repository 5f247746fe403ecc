//! The budget that retries are paid from, with the clock passed in.

use std::time::Duration;

/// Retries a second that are always allowed, however few requests there are.
const RETRY_FLOOR_PER_SECOND: f64 = 3.0;
/// Retries that may be saved up.
const RETRY_BURST: f64 = 30.0;

/// Retries on experts that are not well are paid from this: a share of the requests, and a few a second in any case. Where everything fails,
/// the load on the experts grows by that share and no more.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    per_request: f64,
    balance: f64,
    /// When the floor was last paid in.
    paid: Duration,
}

impl RetryBudget {
    /// `percent` retries per 100 requests; starts with a second's worth.
    #[must_use]
    pub fn new(percent: u32, now: Duration) -> Self {
        Self { per_request: f64::from(percent) / 100.0, balance: RETRY_FLOOR_PER_SECOND, paid: now }
    }

    /// A changed share holds from the next request on.
    pub fn set_percent(&mut self, percent: u32) {
        self.per_request = f64::from(percent) / 100.0;
    }

    /// A request arrived.
    pub fn deposit(&mut self) {
        self.balance = (self.balance + self.per_request).min(RETRY_BURST);
    }

    /// Pays for one retry, if there is enough.
    pub fn withdraw(&mut self, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.paid);
        self.paid = self.paid.max(now);
        self.balance = (self.balance + elapsed.as_secs_f64() * RETRY_FLOOR_PER_SECOND).min(RETRY_BURST);
        // Fifty times 0.2 is a little less than ten.
        let enough = self.balance >= 1.0 - 1e-9;
        if enough {
            self.balance -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn retries_are_a_share_of_requests_above_a_floor() {
        let mut budget = RetryBudget::new(20, at(0));
        assert_eq!((0..10).filter(|_| budget.withdraw(at(0))).count(), 3, "a second's worth to start with");
        (0..50).for_each(|_| budget.deposit());
        assert_eq!((0..100).filter(|_| budget.withdraw(at(0))).count(), 10, "20 of 100");
        assert_eq!((0..100).filter(|_| budget.withdraw(at(2))).count(), 6, "three a second");
        assert_eq!((0..100).filter(|_| budget.withdraw(at(9_000))).count(), 30, "no more than the burst is saved up");
        assert!(!budget.withdraw(at(5)), "a clock that runs backwards pays nothing");
    }
}
