//! Tokens counted by the expert's server, wherever a response carries them.

use memchr::memmem;
use serde_json::value::RawValue;

use crate::json;

/// As the server said, chat (`prompt_tokens`..) and responses (`input_tokens`..) spellings alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub prompt_tokens: u64,
    /// All output tokens, reasoning included.
    pub completion_tokens: u64,
    /// The part of `prompt_tokens` that came from the server's cache.
    pub cached_tokens: u64,
}

/// A count over this (a trillion tokens) is a server's mistake, not a request's usage; priced, it would ruin every sum it enters.
const MAX_TOKENS: u64 = 1_000_000_000_000;

impl Usage {
    /// The usage of a whole (not streamed) response body, if it has one that makes sense.
    #[must_use]
    pub fn of_body(body: &[u8]) -> Option<Self> {
        let members = json::members(std::str::from_utf8(body).ok()?).ok()?;
        Self::of_object(json::find(&members, "usage")?)
    }

    /// The value of a `usage` field. None if it counts nothing, or nothing a request can use.
    pub(crate) fn of_object(usage: &str) -> Option<Self> {
        let members = json::members(usage).ok()?;
        let prompt = counted(&members, &["prompt_tokens", "input_tokens"])?;
        let completion = counted(&members, &["completion_tokens", "output_tokens"])?;
        let details =
            ["prompt_tokens_details", "input_tokens_details"].iter().find_map(|name| json::members(json::find(&members, name)?).ok());
        let cached = match details.map_or(Some(None), |details| counted(&details, &["cached_tokens"]))? {
            // Where DeepSeek's servers and Moonshot's say it.
            None => counted(&members, &["prompt_cache_hit_tokens", "cached_tokens"])?,
            cached => cached,
        };
        if prompt.is_none() && completion.is_none() {
            return None;
        }
        let prompt_tokens = prompt.unwrap_or(0);
        let completion_tokens = completion.unwrap_or(0).saturating_add(reasoning_beside(&members, prompt_tokens, completion));
        // A server that caches more than it reads is wrong about one of the two; the smaller discount is the safer reading.
        let cached_tokens = cached.unwrap_or(0).min(prompt_tokens);
        Some(Self { prompt_tokens, completion_tokens, cached_tokens })
    }
}

/// Reasoning that a server counts beside the completion instead of in it, as xAI's does: only then is the total the sum of all three.
fn reasoning_beside(usage: &[(&str, &str)], prompt: u64, completion: Option<u64>) -> u64 {
    let reasoning = || {
        let details = json::members(json::find(usage, "completion_tokens_details")?).ok()?;
        let reasoning = tokens(json::find(&details, "reasoning_tokens")?)?;
        let total = tokens(json::find(usage, "total_tokens")?)?;
        (total == prompt.saturating_add(completion?).saturating_add(reasoning)).then_some(reasoning)
    };
    reasoning().unwrap_or(0)
}

/// What is kept of each end of a body.
const KEPT: usize = 4096;

/// Looks for the usage of a body too long to be kept: most servers write it last, some first.
#[derive(Debug, Default)]
pub struct Seeker {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Seeker {
    /// The next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = KEPT - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let surplus = (self.tail.len() + bytes.len()).saturating_sub(KEPT);
        self.tail.drain(..surplus.min(self.tail.len()));
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
    }

    /// The usage, if one of the ends has it whole.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        in_fragment(&self.tail).or_else(|| in_fragment(&self.head))
    }
}

/// The last `"usage": {..}` of a piece of JSON. Inside a string its quotes would be escaped.
fn in_fragment(json: &[u8]) -> Option<Usage> {
    const NAME: &[u8] = br#""usage""#;
    let after = &json[memmem::rfind(json, NAME)? + NAME.len()..];
    let value = after.trim_ascii_start().strip_prefix(b":")?;
    let usage = serde_json::Deserializer::from_slice(value).into_iter::<&RawValue>().next()?.ok()?;
    Usage::of_object(usage.get())
}

/// The first of these names that is there. `Some(None)`: none is. None: one is, and makes no sense.
#[expect(clippy::option_option, reason = "absent and absurd differ: the first is 0, the second spoils the whole usage")]
fn counted(members: &[(&str, &str)], names: &[&str]) -> Option<Option<u64>> {
    match names.iter().find_map(|name| json::find(members, name)) {
        None => Some(None),
        Some(count) => tokens(count).map(Some),
    }
}

/// Some servers count in floats: `12.0` is 12.
fn tokens(json: &str) -> Option<u64> {
    let count: f64 = json.parse().ok().filter(|_| json::kind(json) == "a number")?;
    if count.fract() == 0.0 && (0.0..=MAX_TOKENS as f64).contains(&count) { Some(count as u64) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: Option<(u64, u64, u64)>) {
        let expect =
            expect.map(|(prompt_tokens, completion_tokens, cached_tokens)| Usage { prompt_tokens, completion_tokens, cached_tokens });
        assert_eq!(Usage::of_body(body.as_bytes()), expect, "{body}");
    }

    #[test]
    fn reads_both_spellings() {
        check(
            r#"{"id":"c","usage":{"completion_tokens":7,"prompt_tokens":40,"prompt_tokens_details":{"cached_tokens":36}}}"#,
            Some((40, 7, 36)),
        );
        check(r#"{"usage":{"input_tokens":32,"output_tokens":5,"input_tokens_details":{"cached_tokens":24}}}"#, Some((32, 5, 24)));
        check(r#"{"object":"list","usage":{"prompt_tokens":9,"total_tokens":9}}"#, Some((9, 0, 0)));
        check(r#"{"usage":{"prompt_tokens":9.0,"completion_tokens":1e1,"prompt_tokens_details":null}}"#, Some((9, 10, 0)));
    }

    #[test]
    fn cached_tokens_are_found_where_other_servers_say_them() {
        check(r#"{"usage":{"prompt_tokens":40,"completion_tokens":7,"prompt_cache_hit_tokens":30}}"#, Some((40, 7, 30)));
        check(r#"{"usage":{"prompt_tokens":40,"completion_tokens":7,"cached_tokens":20}}"#, Some((40, 7, 20)));
        check(
            r#"{"usage":{"prompt_tokens":40,"completion_tokens":7,"prompt_cache_hit_tokens":30,"prompt_tokens_details":{"cached_tokens":0}}}"#,
            Some((40, 7, 0)),
        );
    }

    #[test]
    fn reasoning_is_output_whether_it_is_counted_in_the_completion_or_beside_it() {
        let usage = |total: u64, reasoning: &str| {
            format!(
                r#"{{"usage":{{"prompt_tokens":10,"completion_tokens":5,"total_tokens":{total},"completion_tokens_details":{{"reasoning_tokens":{reasoning}}}}}}}"#
            )
        };
        check(&usage(15, "3"), Some((10, 5, 0)));
        check(&usage(18, "3"), Some((10, 8, 0)));
        check(&usage(19, "3"), Some((10, 5, 0)));
        check(&usage(15, "-3"), Some((10, 5, 0)));
        check(&usage(15, "null"), Some((10, 5, 0)));
    }

    #[test]
    fn the_usage_of_a_long_body_is_found_at_either_end() {
        let check = |body: &str, expect: Option<u64>| {
            for piece in [1, 1000, 4096, 100_000] {
                let mut seeker = Seeker::default();
                body.as_bytes().chunks(piece).for_each(|piece| seeker.push(piece));
                assert_eq!(seeker.usage().map(|usage| usage.prompt_tokens), expect, "{piece}");
            }
        };
        let data = "0.125,".repeat(3000);
        check(&format!(r#"{{"data":[{data}1],"usage" : {{"prompt_tokens":7,"total_tokens":7}}}}"#), Some(7));
        check(&format!(r#"{{"usage":{{"prompt_tokens":8}},"data":[{data}1]}}"#), Some(8));
        check(&format!(r#"{{"data":[{data}1]}}"#), None);
        check(&format!(r#"{{"data":[{data}1],"text":"\"usage\":{{\"prompt_tokens\":9}}"}}"#), None);
        check(&format!(r#"{{"data":[{data}1],"usage":{{"prompt_tok"#), None);
        check(r#"{"usage":{"prompt_tokens":5}}"#, Some(5));
    }

    #[test]
    fn absent_usage_is_none() {
        check("", None);
        check("[1]", None);
        check(r#"{"usage":null}"#, None);
        check(r#"{"usage":{}}"#, None);
        check(r#"{"usage":[12,3]}"#, None);
        assert_eq!(Usage::of_body(&[0xff, 0xfe]), None);
    }

    #[test]
    fn absurd_counts_are_no_usage() {
        for count in ["-1", "1e400", "1.5", "\"12\"", "99999999999999999999999999", "1000000000001", "{}", "true"] {
            check(&format!(r#"{{"usage":{{"prompt_tokens":{count},"completion_tokens":3}}}}"#), None);
            check(&format!(r#"{{"usage":{{"prompt_tokens":3,"completion_tokens":{count}}}}}"#), None);
        }
        check(r#"{"usage":{"prompt_tokens":3,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9}}}"#, Some((3, 1, 3)));
    }
}
