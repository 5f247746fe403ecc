//! What is done with a request beside answering it: a model in shadow is asked, a row is kept for training.
//!
//! Both happen after the answer has gone out (phase *meter*), on threads of their own that give way to all others, behind queues that are
//! never waited for. Here is what a request notes for them on its way. Deliberately absent: any way to fail or to delay a request.

pub mod log;
pub mod shadow;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

use wire::Inbound;

use crate::{
    decide::{Choice, Considered},
    failure::Outcome,
    meter::Record,
    shared::Shared,
    state::State,
};

/// What a request has noted so far. Nothing, as a rule.
#[derive(Debug, Default)]
pub struct Aside {
    shadow: Option<Box<shadow::Job>>,
    draft: Option<Box<log::Draft>>,
}

impl Aside {
    /// Somebody was chosen: whether this is one of the requests that more is done with. The same request id, the same verdict.
    pub fn decided(&mut self, shared: &Shared, state: &std::sync::Arc<State>, id: &str, inbound: &Inbound, choice: &mut Choice) {
        let Some(considered) = choice.considered.take() else { return };
        if let Some(shadow) = &state.shadow
            && is_among("shadow", id, shadow.percent)
        {
            let Considered { request, states } = considered;
            let (body, endpoint) = (inbound.body().clone(), inbound.endpoint());
            let job = shadow::Job { state: state.clone(), body, endpoint, request, states, chosen: choice.decision.expert };
            self.shadow = Some(Box::new(job));
        }
        if let (Some(policy), Some(log)) = (&state.request_log, &shared.request_log)
            && is_among("log", id, policy.percent)
        {
            self.draft = log.draft(policy, inbound, &state.table.snapshot().router).map(Box::new);
        }
    }

    /// A piece of the answer, or all of it.
    pub fn piece(&mut self, bytes: &[u8]) {
        if let Some(draft) = &mut self.draft {
            draft.piece(bytes);
        }
    }

    /// The request has ended.
    pub fn end(&mut self, shared: &Shared, record: &Record<'_>) {
        if let Some(job) = self.shadow.take() {
            shared.shadow.ask(job, &shared.metrics);
        }
        let well = record.outcome == Outcome::Ok && (200..300).contains(&record.status);
        if let (Some(draft), Some(log), Some(expert), true) = (self.draft.take(), &shared.request_log, record.expert, well) {
            log.keep(*draft, ending(record, expert));
        }
    }
}

/// Whether a request is among so many in a hundred, by its id and by what for: who is in shadow need not be in the log.
#[must_use]
pub fn is_among(purpose: &str, id: &str, percent: u8) -> bool {
    let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
    hasher.write(purpose.as_bytes());
    hasher.write_u8(0xff);
    hasher.write(id.as_bytes());
    hasher.finish() % 100 < u64::from(percent)
}

/// This thread, and those it starts, give way to those that serve.
pub(crate) fn give_way() {
    // Without the right to, all threads are alike: nothing is lost but the manners.
    let _ = rustix::process::nice(10);
}

/// What of a record a row needs.
fn ending(record: &Record<'_>, expert: &str) -> log::Ending {
    log::Ending {
        request_id: record.request_id.to_owned(),
        expert: expert.to_owned(),
        reason: record.reason.map(routing::Reason::as_str),
        // Estimates teach nothing.
        usage: record.money.filter(|money| !money.estimated).map(|money| money.usage),
        seconds: record.answer.map(|answer| answer.as_secs_f64()),
        cost_usd: record.cost_usd().filter(|_| record.money.is_some_and(|money| !money.estimated)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_requests_is_taken_and_the_same_ones_again() {
        let taken =
            |purpose: &str, percent| (0..10_000).filter(|id| is_among(purpose, &format!("request-{id}"), percent)).collect::<Vec<_>>();
        let ten = taken("log", 10);
        assert!((800..1200).contains(&ten.len()), "{}", ten.len());
        assert_eq!(ten, taken("log", 10));
        assert!(ten.iter().all(|id| taken("log", 20).contains(id)), "a larger share has the smaller one in it");
        assert_ne!(ten, taken("shadow", 10));
        assert_eq!(taken("log", 100).len(), 10_000);
    }
}
