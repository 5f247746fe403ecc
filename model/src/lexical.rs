//! Features of text that need no tokenizer: hashed words and word pairs, and the text's surface. Used by training and serving alike.
//!
//! In: a text already cut by the bundle's rules. Out: row numbers with `1 + ln(count)`, and [`SURFACE`] numbers. Deliberately absent:
//! document frequencies, norms, scales (the graph's), and any word that only one data set would have.

mod surface;
mod words;

use serde::{Deserialize, Serialize};

pub use surface::{SURFACE, SURFACE_VERSION, surface};

/// The version of the hash this code computes.
pub const HASH_VERSION: u32 = 1;

/// Bits of a hash that a bundle may ask for.
pub const HASH_BITS: std::ops::RangeInclusive<u8> = 8..=24;

/// How words become row numbers. Part of the bundle; a change of the code below is a new `version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashRules {
    /// [`HASH_VERSION`] of the code that trained.
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

/// Hash rules made ready to use: which hashes have a row is a bit set with running counts, 48 KiB at 18 bits, so that a look-up stays in
/// the nearest cache where a search in the sorted list would leave it twelve times.
#[derive(Debug, Clone)]
pub struct Lexicon {
    mask: u32,
    pairs: bool,
    /// Empty: every hash is its own row.
    present: Vec<u64>,
    /// Rows before each word of `present`.
    before: Vec<u32>,
}

/// Row numbers of a text, ascending, and the weight of each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// Ascending, each once.
    pub rows: Vec<u32>,
    /// `1 + ln(count)`.
    pub weights: Vec<f32>,
    hashes: Vec<u32>,
}

impl HashRules {
    /// What is wrong with the rules, where they came from outside.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self) -> Result<(), String> {
        if self.version != HASH_VERSION {
            return Err(format!("hash version {} is not {HASH_VERSION}", self.version));
        }
        if !HASH_BITS.contains(&self.bits) {
            return Err(format!("hash bits must be from {} to {}", HASH_BITS.start(), HASH_BITS.end()));
        }
        if !(1..=2).contains(&self.ngrams) {
            return Err("ngrams must be 1 or 2".into());
        }
        if self.rows.windows(2).any(|pair| pair[0] >= pair[1]) || self.rows.last().is_some_and(|last| *last >= 1 << self.bits) {
            return Err(format!("rows must ascend and be below 2^{}", self.bits));
        }
        Ok(())
    }

    /// How many rows the graph's table must have.
    #[must_use]
    pub fn row_count(&self) -> usize {
        if self.rows.is_empty() { 1 << self.bits } else { self.rows.len() }
    }
}

impl Lexicon {
    /// Rules checked by [`HashRules::check`]; rows beyond the bits are ignored.
    #[must_use]
    pub fn new(rules: &HashRules) -> Self {
        let size = 1_usize << rules.bits.min(*HASH_BITS.end());
        let mut present = if rules.rows.is_empty() { Vec::new() } else { vec![0_u64; size.div_ceil(64)] };
        for row in &rules.rows {
            if let Some(word) = present.get_mut((row >> 6) as usize) {
                *word |= 1 << (row & 63);
            }
        }
        let before = present.iter().scan(0, |sum, word| Some(std::mem::replace(sum, *sum + word.count_ones()))).collect();
        Self { mask: size as u32 - 1, pairs: rules.ngrams >= 2, present, before }
    }

    /// The features of a text; `features` is overwritten, and its room used again.
    pub fn features(&self, text: &str, features: &mut Features) {
        let Features { rows, weights, hashes } = features;
        hashes.clear();
        let mut previous = None;
        words::each_word(text, |hash| {
            self.push(words::finish(hash), hashes);
            if let (true, Some(previous)) = (self.pairs, previous.replace(hash)) {
                self.push(words::finish(words::pair(previous, hash)), hashes);
            }
        });
        hashes.sort_unstable();
        rows.clear();
        weights.clear();
        for run in hashes.chunk_by(|one, other| one == other) {
            rows.push(run[0]);
            weights.push(log_count(run.len()));
        }
    }

    fn push(&self, hash: u32, rows: &mut Vec<u32>) {
        let hash = hash & self.mask;
        if self.present.is_empty() {
            rows.push(hash);
            return;
        }
        let (word, bit) = ((hash >> 6) as usize, hash & 63);
        let here = self.present[word];
        if here >> bit & 1 == 1 {
            rows.push(self.before[word] + (here & ((1 << bit) - 1)).count_ones());
        }
    }
}

/// `1 + ln(count)`; most counts are one.
fn log_count(count: usize) -> f32 {
    if count == 1 { 1.0 } else { 1.0 + (count as f32).ln() }
}

#[cfg(test)]
mod tests;
