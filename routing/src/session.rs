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
