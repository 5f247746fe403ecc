//! Ejection, probing and pausing of one expert: a small state machine with the clock passed in.
//!
//! In: when requests start and how they end. Out: whether the expert is in rotation. `now` is any clock that does not run backwards, as
//! the time since a moment of the caller's choosing. Meant to sit behind a small mutex; no call does more than compare numbers.

use std::time::Duration;

use crate::snapshot::Health;

/// The health of one expert as seen by its requests.
///
/// After `consecutiveFailures` failures it is ejected. When the time is up, exactly one request is let through as a probe: it alone
/// decides whether the expert is back or ejected again, for twice as long. Ends of other requests do not count meanwhile: they may have
/// begun before the trouble.
///
/// An expert that asks for a pause (`Retry-After`) is left alone until then, and after that is as before: it knows better than we when it
/// has room again. The request that brings a pause about counts as a failure, those that come to the same meanwhile do not: they were
/// under way together. So an expert that is never ready when it said is ejected in the end.
#[derive(Debug, Clone)]
pub struct Ejection {
    policy: Health,
    state: State,
    /// The expert asked for no requests before then.
    paused_until: Duration,
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
    /// A failure, and the expert wants no more requests for so long.
    Pause(Duration),
    /// Nobody can tell: the client hung up before an answer.
    Unknown,
}

/// What a request's end did to its expert, for the log and the counters: how long it is out from now on, where it was not before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effect {
    /// Ejected, or ejected again by a probe.
    pub ejected_for: Option<Duration>,
    /// A pause began.
    pub paused_for: Option<Duration>,
}

impl Ejection {
    /// In rotation.
    #[must_use]
    pub fn new(policy: Health) -> Self {
        Self { policy, state: State::InRotation { failures: 0 }, paused_until: Duration::ZERO }
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

    /// How long the expert asked to be left alone yet; zero where it did not.
    #[must_use]
    pub fn paused_for(&self, now: Duration) -> Duration {
        self.paused_until.saturating_sub(now)
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

    /// A request ended.
    pub fn end(&mut self, ticket: Ticket, outcome: Outcome, now: Duration) -> Effect {
        let mut effect = Effect::default();
        let mut told = outcome;
        if let Outcome::Pause(wait) = outcome {
            let was_paused = !self.paused_for(now).is_zero();
            self.pause(wait, now);
            effect.paused_for = Some(self.paused_for(now)).filter(|left| !was_paused && !left.is_zero());
            told = if was_paused && !ticket.is_probe() { Outcome::Unknown } else { Outcome::Failure };
        }
        if self.ejected_by(ticket, told, now) {
            effect.ejected_for = Some(self.ejected_for(now));
        }
        effect
    }

    /// No request's wish makes an earlier one shorter, and nobody is left alone for longer than the policy ejects.
    fn pause(&mut self, wait: Duration, now: Duration) {
        let most = Duration::from_secs(u64::from(self.policy.max_ejection_seconds));
        self.paused_until = self.paused_until.max(now.saturating_add(wait.min(most)));
    }

    fn ejected_by(&mut self, ticket: Ticket, outcome: Outcome, now: Duration) -> bool {
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
            // The next request is the probe.
            Outcome::Unknown => self.state = State::Ejected { until: now, in_a_row },
            Outcome::Failure | Outcome::Pause(_) => {
                self.eject(in_a_row.saturating_add(1), now);
                return true;
            }
        }
        false
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

#[cfg(test)]
mod tests;
