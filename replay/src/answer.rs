//! One recorded answer: its text, its tokens, its time.

use std::time::Duration;

/// What an expert answered, as a recording has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Tokens of the prompt, as the usage reports them.
    pub prompt_tokens: u64,
    /// Those of them that came from a cache.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// From the request to the last token, at speed 1.
    pub duration: Duration,
    /// The log-probability reported for each token.
    pub logprob: f64,
}

/// Time per token where a recording tells none: a small model on one busy core.
const SECONDS_PER_TOKEN: f64 = 0.02;

impl Answer {
    /// An answer of that text, its tokens guessed from its length, at no time at all.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        let completion_tokens = guess_tokens(&text);
        Answer { text, prompt_tokens: 10, cached_tokens: 0, completion_tokens, duration: Duration::ZERO, logprob: -0.5 }
    }

    /// The same with other token counts: prompt, cached, completion.
    #[must_use]
    pub fn tokens(mut self, prompt: u64, cached: u64, completion: u64) -> Self {
        (self.prompt_tokens, self.cached_tokens, self.completion_tokens) = (prompt, cached, completion);
        self
    }

    /// The same, taking that long at speed 1.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// The time an answer of so many tokens takes where none was recorded.
    pub(crate) fn usual_duration(completion_tokens: u64) -> Duration {
        Duration::from_secs_f64(completion_tokens.min(1_000_000) as f64 * SECONDS_PER_TOKEN)
    }

    /// Text for a recording that kept counts only: one short word a token.
    pub(crate) fn filler(completion_tokens: u64) -> String {
        let words = ["so", "it", "goes", "on", "and", "on"];
        let count = usize::try_from(completion_tokens).unwrap_or(usize::MAX).min(100_000);
        (0..count).map(|index| words[index % words.len()]).collect::<Vec<_>>().join(" ")
    }

    /// The text cut into as many pieces as the answer has tokens, or as it has characters if these are fewer.
    pub(crate) fn pieces(&self) -> Vec<&str> {
        let starts: Vec<usize> = self.text.char_indices().map(|(start, _)| start).collect();
        let count = usize::try_from(self.completion_tokens).unwrap_or(usize::MAX).clamp(1, starts.len().max(1));
        let at = |index: usize| starts.get(index * starts.len() / count).copied().unwrap_or(self.text.len());
        (0..count).map(|index| &self.text[at(index)..if index + 1 == count { self.text.len() } else { at(index + 1) }]).collect()
    }
}

/// Four characters a token, the usual rule of thumb.
pub(crate) fn guess_tokens(text: &str) -> u64 {
    text.chars().count().div_ceil(4).max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_as_many_as_tokens_and_join_to_the_text() {
        for (text, tokens, expected) in [("abcdef", 3, 3), ("ab", 9, 2), ("", 4, 1), ("añb→c", 2, 2), ("x", 0, 1)] {
            let answer = Answer::text(text).tokens(1, 0, tokens);
            let pieces = answer.pieces();
            assert_eq!((pieces.concat().as_str(), pieces.len()), (text, expected), "{text:?} in {tokens}");
            assert!(expected == 1 || pieces.iter().all(|piece| !piece.is_empty()));
        }
    }
}
