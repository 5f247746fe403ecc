//! Prompts of a known number of tokens, each another: a router remembers what it has seen, and the benchmark shall not profit from it.
//! Comes in: the encoder's vocabulary. Goes out: whole HTTP requests.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};

use super::load::Target;

/// Words that are one token each.
pub(super) struct Prompts {
    words: Vec<String>,
    next: AtomicU64,
}

/// SplitMix64: repeatable, and good enough to pick words and times.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to 1, without 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or(0)
    }
}

impl Prompts {
    /// From the vocabulary of the fetched encoder.
    pub(super) fn new() -> Result<Self> {
        let path = parts::encoder()?.join("vocab.txt");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let plain = |word: &&str| word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_lowercase());
        let words: Vec<String> = text.lines().filter(plain).take(8000).map(str::to_owned).collect();
        ensure!(words.len() > 1000, "{} has only {} plain words", path.display(), words.len());
        Ok(Prompts { words, next: AtomicU64::new(0) })
    }

    /// Numbers of so many prompts nobody used before: the first of them.
    pub(super) fn reserve(&self, count: u64) -> u64 {
        self.next.fetch_add(count, Ordering::Relaxed)
    }

    /// A text of so many tokens; another number, another text.
    pub(super) fn text(&self, number: u64, tokens: usize) -> String {
        let mut random = Random::new(number.wrapping_mul(0x0005_deec_e66d));
        let mut text = String::with_capacity(tokens * 8);
        for _ in 0..tokens {
            text.push_str(&self.words[random.below(self.words.len())]);
            text.push(' ');
        }
        text.pop();
        text
    }

    /// A chat request with such a text, from its request line to the end of its body.
    pub(super) fn request(&self, target: &Target, number: u64) -> Vec<u8> {
        let text = self.text(number, target.tokens);
        let body = format!(r#"{{"model":"{}","messages":[{{"role":"user","content":"{text}"}}],"max_tokens":64}}"#, target.model);
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            target.address,
            body.len()
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_number_of_words_and_differ() {
        let words = (0..2000).map(|number| format!("w{number}")).collect();
        let prompts = Prompts { words, next: AtomicU64::new(0) };
        let texts: std::collections::BTreeSet<_> = (0..100).map(|number| prompts.text(number, 20)).collect();
        assert_eq!(texts.len(), 100);
        assert!(texts.iter().all(|text| text.split(' ').count() == 20));
        assert_eq!((prompts.reserve(5), prompts.reserve(1)), (0, 5));
    }
}
