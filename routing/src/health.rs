//! Ejection and probing of one expert: a small state machine with the clock passed in; and the budget that retries are paid from.
//!
//! In: when requests start and how they end. Out: whether the expert is in rotation. `now` is any clock that does not run backwards, as
//! the time since a moment of the caller's choosing. Meant to sit behind a small mutex; no call does more than compare numbers.

use std::time::Duration;

use crate::snapshot::Health;

/// Retries a second that are always allowed, however few requests there are.
const RETRY_FLOOR_PER_SECOND: f64 = 3.0;
/// Retries that may be saved up.
const RETRY_BURST: f64 = 30.0;

/// The health of one expert as seen by its requests.
///
/// After `consecutiveFailures` failures it is ejected. When the time is up, exactly one request is let through as a probe: it alone
/// decides whether the expert is back or ejected again, for twice as long. Ends of other requests do not count meanwhile: they may have
/// begun before the trouble.
#[derive(Debug, Clone)]
pub struct Ejection {
    policy: Health,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InRotation { failures: u32 },
    Ejected { until: Duration, in_a_row: u32 },
    Probing { since: Duration, in_a_row: u32 },
}

/// Held by a request that was sent, and handed back at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an expert learns of the request's end by it"]
pub struct Ticket {
    probe: Option<Duration>,
}

impl Ticket {
    /// Whether the expert's return hangs on this request.
    #[must_use]
    pub fn is_probe(self) -> bool {
        self.probe.is_some()
    }
}

/// How a request ended, as far as the expert's health goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The expert did its part. An error that is the client's own (400, 401 of a forwarded key) is a success in this.
    Success,
    /// Connect error, time-out, 429, 5xx, a stream that broke off.
    Failure,
    /// Nobody can tell: the client hung up before an answer.
    Unknown,
}

impl Ejection {
    /// In rotation.
    #[must_use]
    pub fn new(policy: Health) -> Self {
        Self { policy, state: State::InRotation { failures: 0 } }
    }

    /// A changed policy holds from the next event on.
    pub fn set_policy(&mut self, policy: Health) {
        self.policy = policy;
    }

    /// Whether requests should go elsewhere: ejected and not due for a probe, or the probe is under way.
    #[must_use]
    pub fn is_ejected(&self, now: Duration) -> bool {
        match self.state {
            State::InRotation { .. } => false,
            State::Ejected { until, .. } => now < until,
            State::Probing { since, .. } => now < since.saturating_add(self.probe_patience()),
        }
    }

    /// In rotation, and its last request that tells went well: more of them do it no harm.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.state == State::InRotation { failures: 0 }
    }

    /// How long until the expert may be tried again; zero where it may now.
    #[must_use]
    pub fn ejected_for(&self, now: Duration) -> Duration {
        match self.state {
            State::InRotation { .. } => Duration::ZERO,
            State::Ejected { until, .. } => until.saturating_sub(now),
            State::Probing { since, .. } => since.saturating_add(self.probe_patience()).saturating_sub(now),
        }
    }

    /// A request is sent. The first one after an ejection's time is up is the probe; requests sent while ejected (pinned, or as a last
    /// resort) are no probes and change nothing.
    pub fn begin(&mut self, now: Duration) -> Ticket {
        match self.state {
            State::Ejected { in_a_row, .. } | State::Probing { in_a_row, .. } if !self.is_ejected(now) => {
                self.state = State::Probing { since: now, in_a_row };
                Ticket { probe: Some(now) }
            }
            _ => Ticket { probe: None },
        }
    }

    /// A request ended. Says whether this ejected the expert, for the log.
    pub fn end(&mut self, ticket: Ticket, outcome: Outcome, now: Duration) -> bool {
        match (self.state, outcome) {
            (State::InRotation { .. }, Outcome::Success) => self.state = State::InRotation { failures: 0 },
            (State::InRotation { failures }, Outcome::Failure) => return self.failed(failures.saturating_add(1), now),
            (State::Probing { since, in_a_row }, _) if ticket.probe == Some(since) => return self.probed(outcome, in_a_row, now),
            _ => {}
        }
        false
    }

    fn failed(&mut self, failures: u32, now: Duration) -> bool {
        let limit = self.policy.consecutive_failures;
        if limit == 0 || failures < limit {
            self.state = State::InRotation { failures };
            return false;
        }
        self.eject(0, now);
        true
    }

    fn probed(&mut self, outcome: Outcome, in_a_row: u32, now: Duration) -> bool {
        match outcome {
            Outcome::Success => self.state = State::InRotation { failures: 0 },
            Outcome::Failure => self.eject(in_a_row.saturating_add(1), now),
            // The next request is the probe.
            Outcome::Unknown => self.state = State::Ejected { until: now, in_a_row },
        }
        outcome == Outcome::Failure
    }

    fn eject(&mut self, in_a_row: u32, now: Duration) {
        let seconds = u64::from(self.policy.base_ejection_seconds).checked_shl(in_a_row.min(32)).unwrap_or(u64::MAX);
        let seconds = seconds.min(u64::from(self.policy.max_ejection_seconds));
        self.state = State::Ejected { until: now.saturating_add(Duration::from_secs(seconds)), in_a_row };
    }

    /// A probe whose end nobody reported must not keep the expert out for ever.
    fn probe_patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.policy.max_ejection_seconds.max(1)))
    }
}

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
    use proptest::prelude::*;

    use super::*;

    const POLICY: Health = Health { consecutive_failures: 3, base_ejection_seconds: 4, max_ejection_seconds: 30 };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Sends and ends one request.
    fn request(health: &mut Ejection, outcome: Outcome, now: Duration) -> bool {
        let ticket = health.begin(now);
        health.end(ticket, outcome, now)
    }

    fn ejected_at_zero() -> Ejection {
        let mut health = Ejection::new(POLICY);
        let ejections = (0..3).filter(|_| request(&mut health, Outcome::Failure, at(0))).count();
        assert_eq!(ejections, 1);
        health
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let mut health = Ejection::new(POLICY);
        for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Success, Outcome::Failure, Outcome::Unknown, Outcome::Failure] {
            assert!(!request(&mut health, outcome, at(1)));
        }
        assert!(!health.is_ejected(at(1)));
        assert!(request(&mut health, Outcome::Failure, at(1)));
        assert!(health.is_ejected(at(1)));
        assert_eq!(health.ejected_for(at(2)), at(3));
    }

    #[test]
    fn an_expert_is_well_while_its_last_request_that_tells_was() {
        let mut health = Ejection::new(POLICY);
        let mut after = |outcome| {
            request(&mut health, outcome, at(0));
            health.is_well()
        };
        assert!(after(Outcome::Unknown));
        assert!(!after(Outcome::Failure));
        assert!(!after(Outcome::Unknown));
        assert!(after(Outcome::Success));
        assert!(!ejected_at_zero().is_well());
    }

    #[test]
    fn zero_failures_never_eject() {
        let mut health = Ejection::new(Health { consecutive_failures: 0, ..POLICY });
        assert!((0..100).all(|_| !request(&mut health, Outcome::Failure, at(0))));
        assert!(!health.is_ejected(at(0)));
    }

    #[test]
    fn exactly_one_probe_is_let_through_and_its_success_brings_the_expert_back() {
        let mut health = ejected_at_zero();
        assert!(health.is_ejected(at(3)) && !health.is_ejected(at(4)));
        let probe = health.begin(at(4));
        assert!(probe.is_probe() && health.is_ejected(at(4)));
        assert!(!health.begin(at(4)).is_probe());
        assert!(!health.end(probe, Outcome::Success, at(5)));
        assert!(!health.is_ejected(at(5)));
        assert!(!request(&mut health, Outcome::Failure, at(5)), "failures are counted anew");
    }

    #[test]
    fn each_failed_probe_doubles_the_ejection_up_to_the_limit() {
        let mut health = ejected_at_zero();
        let mut now = at(0);
        for expected in [4, 8, 16, 30, 30, 30] {
            assert_eq!(health.ejected_for(now), at(expected));
            now += at(expected);
            assert!(request(&mut health, Outcome::Failure, now));
        }
    }

    #[test]
    fn requests_that_are_no_probe_do_not_bring_an_expert_back() {
        let mut health = Ejection::new(POLICY);
        let early = health.begin(at(0));
        for _ in 0..3 {
            request(&mut health, Outcome::Failure, at(0));
        }
        assert!(!health.end(early, Outcome::Success, at(1)));
        request(&mut health, Outcome::Success, at(1));
        assert!(health.is_ejected(at(1)));
    }

    #[test]
    fn a_probe_that_tells_nothing_hands_on_to_the_next_request() {
        let mut health = ejected_at_zero();
        let probe = health.begin(at(4));
        health.end(probe, Outcome::Unknown, at(6));
        assert!(!health.is_ejected(at(6)));
        assert!(health.begin(at(6)).is_probe());
    }

    #[test]
    fn a_probe_that_never_ends_is_replaced_and_then_ignored() {
        let mut health = ejected_at_zero();
        let lost = health.begin(at(4));
        assert!(health.is_ejected(at(33)) && !health.is_ejected(at(34)));
        let second = health.begin(at(34));
        health.end(lost, Outcome::Success, at(35));
        assert!(health.is_ejected(at(35)));
        health.end(second, Outcome::Success, at(35));
        assert!(!health.is_ejected(at(35)));
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

    proptest! {
        #[test]
        fn whatever_happens_the_expert_comes_back_in_the_end(
            policy in (0_u32..5, any::<u32>(), any::<u32>()), events in prop::collection::vec((0_u8..3, 0_u64..50), 0..60),
        ) {
            let policy = Health { consecutive_failures: policy.0, base_ejection_seconds: policy.1, max_ejection_seconds: policy.2 };
            let (mut health, mut now) = (Ejection::new(policy), at(0));
            for (kind, pause) in events {
                now += at(pause);
                request(&mut health, [Outcome::Success, Outcome::Failure, Outcome::Unknown][usize::from(kind)], now);
            }
            now += health.ejected_for(now);
            prop_assert!(!health.is_ejected(now));
            request(&mut health, Outcome::Success, now);
            prop_assert!(!health.is_ejected(now));
        }
    }
}
