//! Scores of prompts that were seen before.
//!
//! Bounded by entries, least recently used go first. Texts are not kept: a key is 128 bits of a hash under two random keys, so that
//! nobody can make two prompts share one, and chance needs some 10^19 of them.

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;

use super::Prediction;
use crate::{features::Row, scorer::RowScores};

/// Stands for a text.
pub(super) type Key = (u64, u64);

/// The scores that are remembered.
#[derive(Debug)]
pub(super) struct Cache {
    hashers: (RandomState, RandomState),
    entries: Option<Mutex<LruCache<Key, Entry>>>,
}

#[derive(Debug, Clone)]
struct Entry {
    scores: RowScores,
    prompt_tokens: Option<u32>,
}

impl Cache {
    pub(super) fn new(entries: usize) -> Self {
        // Grown as it fills: a full table made at once would be memory for nothing in most processes.
        let entries = NonZeroUsize::new(entries).map(|cap| {
            let mut cache = LruCache::unbounded();
            cache.resize(cap);
            Mutex::new(cache)
        });
        Self { hashers: (RandomState::new(), RandomState::new()), entries }
    }

    pub(super) fn key(&self, text: &str) -> Key {
        (self.hashers.0.hash_one(text), self.hashers.1.hash_one(text))
    }

    pub(super) fn get(&self, key: Key) -> Option<Prediction> {
        let mut entries = self.entries.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry { scores: RowScores { quality, output_tokens }, prompt_tokens } = entries.get(&key)?.clone();
        let none = Duration::ZERO;
        Some(Prediction { quality, output_tokens, prompt_tokens, cached: true, tokenize: none, encode: none, queue: none })
    }

    pub(super) fn put(&self, key: Key, row: &Row, scores: &RowScores) {
        if let Some(entries) = &self.entries {
            let entry = Entry { scores: scores.clone(), prompt_tokens: row.prompt_tokens() };
            entries.lock().unwrap_or_else(PoisonError::into_inner).put(key, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = Cache::new(2);
        let scores = |value| RowScores { quality: vec![value], output_tokens: None };
        let row = Row { tokens: vec![1, 2], ..Row::default() };
        let keys = ["a", "b", "c"].map(|text| cache.key(text));
        cache.put(keys[0], &row, &scores(0.25));
        cache.put(keys[1], &row, &scores(0.5));
        assert!(cache.get(keys[0]).is_some_and(|found| found.cached && found.quality == [0.25] && found.prompt_tokens == Some(2)));
        cache.put(keys[2], &row, &scores(0.75));
        assert_eq!(keys.map(|key| cache.get(key).map(|found| found.quality[0])), [Some(0.25), None, Some(0.75)]);
    }

    #[test]
    fn a_cache_of_no_entries_remembers_nothing() {
        let cache = Cache::new(0);
        let key = cache.key("a");
        cache.put(key, &Row::default(), &RowScores { quality: vec![1.0], output_tokens: None });
        assert_eq!(cache.get(key), None);
    }
}
