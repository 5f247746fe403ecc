//! Text to token ids by `tokenizer.json`, with head and tail kept where it is too long.
//!
//! In: a text already cut by the bundle's rules. Out: at most `max_tokens` ids, special tokens at both ends included. Deliberately
//! absent: the file's own truncation and padding (one in the wild pads every text to 128 tokens), and a cache.

use tokenizers::Tokenizer;

use crate::text::{head_and_tail, split};

/// Characters read for each token kept. Words of more than this many characters are rare, and what lies between head and tail is
/// thrown away anyhow; without the bound, a prompt of megabytes would be tokenised to keep 256 tokens.
const CHARS_PER_TOKEN: usize = 16;

/// What a bundle may ask for.
pub const MAX_TOKENS: std::ops::RangeInclusive<usize> = 4..=32_768;

/// A tokenizer with the bundle's limits.
#[derive(Debug)]
pub struct Tokens {
    tokenizer: Tokenizer,
    /// Special tokens before and after the text, as `[CLS]` and `[SEP]`.
    before: Vec<i64>,
    after: Vec<i64>,
    /// Tokens of text kept of the head and the tail.
    head: usize,
    tail: usize,
}

impl Tokens {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// What is wrong with the file or the limit.
    pub fn new(json: &[u8], max_tokens: usize, head_percent: u8) -> Result<Self, String> {
        if !MAX_TOKENS.contains(&max_tokens) {
            return Err(format!("max_tokens must be from {} to {}, not {max_tokens}", MAX_TOKENS.start(), MAX_TOKENS.end()));
        }
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
        let (before, after) = specials(&tokenizer)?;
        let room = max_tokens.checked_sub(before.len() + after.len()).filter(|room| *room > 0);
        let room = room.ok_or_else(|| format!("max_tokens {max_tokens} leaves no room beside the special tokens"))?;
        let (head, tail) = split(room, head_percent);
        Ok(Self { tokenizer, before, after, head, tail })
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// What the tokenizer says (a model without a token for the unknown may fail).
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, String> {
        let (first, last) = head_and_tail(text, self.head * CHARS_PER_TOKEN, self.tail * CHARS_PER_TOKEN);
        let mut ids = self.before.clone();
        let first = self.plain(first)?;
        let last = if last.is_empty() { Vec::new() } else { self.plain(last)? };
        if first.len() + last.len() <= self.head + self.tail {
            ids.extend(first.iter().chain(&last).map(|id| i64::from(*id)));
        } else {
            let tail = if last.is_empty() { &first } else { &last };
            ids.extend(first.iter().take(self.head).map(|id| i64::from(*id)));
            ids.extend(tail[tail.len().saturating_sub(self.tail)..].iter().map(|id| i64::from(*id)));
        }
        ids.extend(&self.after);
        Ok(ids)
    }

    /// About how many ids a text will have, without tokenising it.
    #[must_use]
    pub fn estimate(&self, text: &str) -> usize {
        let specials = self.before.len() + self.after.len();
        // Four bytes a token are common in English, fewer elsewhere; what this is for (which texts to run together) bears an error.
        (text.len() / 4).min(self.head + self.tail) + specials
    }

    /// The most ids a text can have.
    #[must_use]
    pub fn most(&self) -> usize {
        self.before.len() + self.head + self.tail + self.after.len()
    }

    fn plain(&self, text: &str) -> Result<Vec<u32>, String> {
        self.tokenizer.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).map_err(|error| error.to_string())
    }
}

/// What the file's post-processor puts before and after a text, found by letting it work on one: so that it need not be understood.
fn specials(tokenizer: &Tokenizer) -> Result<(Vec<i64>, Vec<i64>), String> {
    let ids = |special| tokenizer.encode_fast("a", special).map(|encoding| encoding.get_ids().to_vec()).map_err(|error| error.to_string());
    let (bare, dressed) = (ids(false)?, ids(true)?);
    let at = match bare.is_empty() {
        true => None,
        false => dressed.windows(bare.len()).position(|window| window == bare),
    };
    let at = at.ok_or("the post-processor changes the text's own tokens")?;
    let wide = |ids: &[u32]| ids.iter().map(|id| i64::from(*id)).collect();
    Ok((wide(&dressed[..at]), wide(&dressed[at + bare.len()..])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tokenizer;

    fn check(text: &str, max_tokens: usize, head_percent: u8, expect: &[i64]) {
        let tokens = Tokens::new(&tokenizer(), max_tokens, head_percent).unwrap();
        assert_eq!(tokens.encode(text).unwrap(), expect, "{text:?}");
    }

    #[test]
    fn special_tokens_stand_around_and_the_files_own_padding_and_truncation_are_not_heeded() {
        check("one", 16, 50, &[2, 4, 3]);
        check("one two three four one two three four", 16, 50, &[2, 4, 5, 6, 7, 4, 5, 6, 7, 3]);
        check("", 16, 50, &[2, 3]);
    }

    #[test]
    fn head_and_tail_stay_of_a_text_that_is_too_long() {
        check("one one one two three four four", 6, 50, &[2, 4, 4, 7, 7, 3]);
        check("one one one two three four four", 6, 100, &[2, 4, 4, 4, 5, 3]);
        check("one one one two three four four", 6, 0, &[2, 5, 6, 7, 7, 3]);
        // So long that most of it is not tokenised at all.
        let long = format!("one two {} three four", "one ".repeat(100_000));
        check(&long, 6, 50, &[2, 4, 5, 6, 7, 3]);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for (json, max_tokens) in [(&b"{}"[..], 16), (b"not json", 16), (&tokenizer(), 2), (&tokenizer(), 1 << 20)] {
            assert!(Tokens::new(json, max_tokens, 50).is_err());
        }
    }
}
