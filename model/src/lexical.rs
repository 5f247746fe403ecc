//! Features of text that need no tokenizer: hashed words and word pairs, and the text's surface. Used by training and serving alike.

use serde::{Deserialize, Serialize};

/// How words become row numbers. Part of the bundle; a change of the code below is a new `version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashRules {
    pub version: u32,
    /// Rows are `hash % 2^bits` unless `rows` says which hashes have one.
    pub bits: u8,
    /// Sorted hashes (`< 2^bits`) that have a row; a hash's row is its position, others are left out. Kept in the bundle as
    /// `lexical_rows.bin` (little-endian u32), not in its JSON.
    #[serde(skip)]
    pub rows: Vec<u32>,
    /// 1: words, 2: words and pairs of neighbours.
    pub ngrams: u8,
}
