//! Which expert a conversation is with: bounded in memory, forgotten after a time without use.
//!
//! In: a hash that names the conversation (of the session header's value, or of its first messages) and the time. Out: its expert.

use std::time::Duration;

use lru::LruCache;

use crate::{snapshot::Session, table::ExpertIndex};

/// The conversations under way. The one unused for longest goes first when there are too many.
#[derive(Debug)]
pub struct Sessions {
    most: usize,
    time_to_live: Duration,
    /// Unbounded as far as the cache knows: a bounded one would take its memory at once.
    entries: LruCache<u128, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    expert: ExpertIndex,
    used: Duration,
}

impl Sessions {
    /// None yet.
    #[must_use]
    pub fn new(policy: &Session) -> Self {
        let mut sessions = Self { most: 0, time_to_live: Duration::ZERO, entries: LruCache::unbounded() };
        sessions.set_policy(policy);
        sessions
    }

    /// Limits may change while conversations go on.
    pub fn set_policy(&mut self, policy: &Session) {
        self.most = policy.max_sessions;
        self.time_to_live = Duration::from_secs(policy.ttl_seconds);
        self.shrink();
    }

    /// The expert the conversation is with, unless it was forgotten.
    pub fn get(&mut self, key: u128, now: Duration) -> Option<ExpertIndex> {
        let entry = *self.entries.peek(&key)?;
        if now.saturating_sub(entry.used) > self.time_to_live {
            self.entries.pop(&key);
            return None;
        }
        Some(entry.expert)
    }

    /// The conversation was answered by this expert.
    pub fn put(&mut self, key: u128, expert: ExpertIndex, now: Duration) {
        self.entries.put(key, Entry { expert, used: now });
        self.shrink();
        // Whoever is oldest and stale goes along, so that an idle table empties as requests come.
        if self.entries.peek_lru().is_some_and(|(_, entry)| now.saturating_sub(entry.used) > self.time_to_live) {
            self.entries.pop_lru();
        }
    }

    /// Another table came: `place` gives an expert's new index, or `None` where it has left. Conversations with experts that left are
    /// forgotten.
    pub fn rebind(&mut self, place: impl Fn(ExpertIndex) -> Option<ExpertIndex>) {
        let gone: Vec<u128> = self.entries.iter().filter(|(_, entry)| place(entry.expert).is_none()).map(|(key, _)| *key).collect();
        for key in &gone {
            self.entries.pop(key);
        }
        for (_, entry) in self.entries.iter_mut() {
            entry.expert = place(entry.expert).unwrap_or(entry.expert);
        }
    }

    /// How many are remembered, stale ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn shrink(&mut self) {
        while self.entries.len() > self.most {
            self.entries.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(max_sessions: usize) -> Sessions {
        Sessions::new(&Session { header: "x".into(), ttl_seconds: 10, max_sessions, switch_gain: 0.0 })
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_conversation_is_remembered_until_it_was_unused_for_too_long() {
        let mut sessions = sessions(9);
        sessions.put(7, 2, at(0));
        assert_eq!(sessions.get(7, at(10)), Some(2));
        sessions.put(7, 3, at(10));
        assert_eq!(sessions.get(7, at(20)), Some(3));
        assert_eq!(sessions.get(7, at(21)), None);
        assert!(sessions.is_empty());
        assert_eq!(sessions.get(8, at(0)), None);
    }

    #[test]
    fn the_one_unused_for_longest_goes_first() {
        let mut sessions = sessions(2);
        sessions.put(1, 0, at(0));
        sessions.put(2, 0, at(1));
        sessions.put(1, 0, at(2));
        sessions.put(3, 0, at(3));
        assert_eq!([1, 2, 3].map(|key| sessions.get(key, at(3))), [Some(0), None, Some(0)]);
    }

    #[test]
    fn an_absurd_bound_takes_no_memory_in_advance() {
        let mut sessions = sessions(usize::MAX);
        sessions.put(1, 0, at(0));
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn stale_conversations_leave_as_others_come() {
        let mut sessions = sessions(100);
        (0..10).for_each(|key| sessions.put(key, 0, at(0)));
        (10..20).for_each(|key| sessions.put(key, 0, at(20)));
        assert_eq!(sessions.len(), 10);
    }

    #[test]
    fn another_table_moves_experts_and_forgets_those_that_left() {
        let mut sessions = sessions(9);
        (0..3).for_each(|expert| sessions.put(expert as u128, expert, at(0)));
        sessions.rebind(|expert| [Some(1), None, Some(0)][expert]);
        assert_eq!([0, 1, 2].map(|key| sessions.get(key, at(0))), [Some(1), None, Some(0)]);
    }

    #[test]
    fn a_smaller_bound_holds_at_once() {
        let mut sessions = sessions(9);
        (0..5).for_each(|key| sessions.put(key, 0, at(0)));
        sessions.set_policy(&Session { header: "x".into(), ttl_seconds: 10, max_sessions: 2, switch_gain: 0.0 });
        assert_eq!(sessions.len(), 2);
    }
}
