//! A response's bytes to an answer. Pure.

use routing::Prices;
use serde_json::Value;
use wire::Usage;

use crate::{nll, outcomes::Outcome};

/// What an expert answered, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Empty where there is none, as when it only calls tools.
    pub text: String,
    /// As the server counted; absent where it does not.
    pub usage: Option<Usage>,
    /// From sending the request to the end of the answer.
    pub seconds: f64,
    /// Its share of the expert's time, where the expert is paid by the hour.
    pub busy_seconds: Option<f64>,
    /// Absent where the expert has no price, or the usage was not told.
    pub cost_usd: Option<f64>,
    /// Mean negative log-likelihood per token; absent where the server returns no log-probabilities.
    pub nll: Option<f64>,
    /// `stop`, `length` and so on.
    pub finish_reason: Option<String>,
}

impl Answer {
    /// Reads a chat completion. `busy` requests shared the expert's time.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(bytes: &[u8], seconds: f64, busy: usize, prices: Option<&Prices>) -> Result<Self, String> {
        // Where a server cuts a letter in two, the rest of the answer is as good as paid for.
        let json = String::from_utf8_lossy(bytes);
        let body: Value = serde_json::from_str(&json).map_err(|error| format!("the answer is not JSON: {error}"))?;
        let choice = body["choices"].get(0).ok_or("the answer has no choices")?;
        if choice["error"].is_object() || choice["finish_reason"] == "error" {
            return Err(format!("the answer broke off: {}", error_message(choice.to_string().as_bytes())));
        }
        let message = choice.get("message").filter(|message| message.is_object()).ok_or("the answer's choice has no message")?;
        let text = match &message["content"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Array(parts) => text_of(parts),
            other => return Err(format!("the answer's content is not text: {other:.80}")),
        };
        let usage = Usage::of_body(json.as_bytes());
        let busy_seconds = seconds / busy.max(1) as f64;
        let cost_usd = prices.and_then(|prices| cost(prices, usage, busy_seconds));
        let busy_seconds = prices.filter(|prices| prices.per_hour > 0.0).map(|_| busy_seconds);
        let finish_reason = choice["finish_reason"].as_str().map(str::to_owned);
        Ok(Self { text, usage, seconds, busy_seconds, cost_usd, nll: nll::of_logprobs(&choice["logprobs"]), finish_reason })
    }

    /// As the outcomes file has it, not yet scored.
    #[must_use]
    pub fn outcome(&self, expert: &str) -> Outcome {
        let mut outcome = Outcome {
            expert: expert.to_owned(),
            nll: self.nll.map(|nll| rounded(nll, 1e6)),
            prompt_tokens: self.usage.map(|usage| usage.prompt_tokens as f64),
            completion_tokens: self.usage.map(|usage| usage.completion_tokens as f64),
            cached_tokens: self.usage.map(|usage| usage.cached_tokens as f64),
            seconds: Some(rounded(self.seconds, 1e4)),
            busy_seconds: self.busy_seconds.map(|seconds| rounded(seconds, 1e4)),
            // A millionth of a millionth: far below the price of a token.
            cost_usd: self.cost_usd.map(|cost| rounded(cost, 1e12)),
            response: Some(self.text.clone()),
            ..Outcome::default()
        };
        if let Some(reason) = &self.finish_reason {
            outcome.other.insert("finish_reason".into(), reason.as_str().into());
        }
        outcome
    }
}

/// The text among the parts of an answer; thoughts, which some servers put beside it, are no part of the answer.
fn text_of(parts: &[Value]) -> String {
    let is_text = |part: &&Value| part.get("type").is_none_or(|kind| kind == "text" || kind == "output_text");
    parts.iter().filter(is_text).filter_map(|part| part.as_str().or_else(|| part.get("text")?.as_str())).collect()
}

/// To so many parts of one, for a file that people read.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

fn cost(prices: &Prices, usage: Option<Usage>, busy_seconds: f64) -> Option<f64> {
    let by_tokens = prices.input_per_million > 0.0 || prices.output_per_million > 0.0;
    match usage {
        None if by_tokens => None,
        usage => Some(prices.cost_usd(usage.unwrap_or_default(), busy_seconds)),
    }
}

/// What an error body says, cut short. Servers put it in several places.
pub(super) fn error_message(bytes: &[u8]) -> String {
    let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let told = [body.pointer("/error/message"), body.get("error"), body.get("message"), body.get("detail")];
    let text =
        told.into_iter().flatten().find_map(Value::as_str).map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), str::to_owned);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "no message".into() } else { text.chars().take(200).collect() }
}

#[cfg(test)]
mod tests {
    use routing::Prices;

    use super::{Answer, error_message};

    const BODY: &str = r#"{"choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"Rome."},
        "logprobs":{"content":[{"token":"Rome","logprob":-0.25},{"token":".","logprob":-0.75}]}}],
        "usage":{"completion_tokens":2,"prompt_tokens":40,"prompt_tokens_details":{"cached_tokens":36}}}"#;

    #[test]
    fn an_answer_has_text_tokens_cost_and_likelihood() {
        let prices = Prices { input_per_million: 1.0, output_per_million: 10.0, cached_input_per_million: Some(0.5), ..Prices::default() };
        let answer = Answer::parse(BODY.as_bytes(), 0.5, 1, Some(&prices)).unwrap();
        assert_eq!((answer.text.as_str(), answer.nll, answer.finish_reason.as_deref()), ("Rome.", Some(0.5), Some("stop")));
        assert!((answer.cost_usd.unwrap() - (4.0 + 18.0 + 20.0) / 1e6).abs() < 1e-12);
        let outcome = answer.outcome("atlas");
        assert_eq!((outcome.prompt_tokens, outcome.completion_tokens, outcome.cached_tokens), (Some(40.0), Some(2.0), Some(36.0)));
    }

    #[test]
    fn without_usage_there_are_no_tokens_and_no_price_by_them() {
        let body = br#"{"choices":[{"message":{"content":null}}]}"#;
        let by_token = Prices { input_per_million: 1.0, ..Prices::default() };
        let by_hour = Prices { per_hour: 3600.0, ..Prices::default() };
        assert_eq!(Answer::parse(body, 2.0, 1, Some(&by_token)).unwrap().cost_usd, None);
        assert_eq!(Answer::parse(body, 2.0, 4, Some(&by_hour)).unwrap().cost_usd, Some(0.5), "four share the hour");
        assert_eq!(Answer::parse(body, 2.0, 1, None).unwrap().text, "");
    }

    #[test]
    fn text_in_parts_is_put_together_without_the_thoughts_beside_it() {
        let body = br#"{"choices":[{"message":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"9?"}]},
            {"type":"text","text":"It is "},{"type":"text","text":"4."}]}}]}"#;
        assert_eq!(Answer::parse(body, 0.0, 1, None).unwrap().text, "It is 4.");
    }

    #[test]
    fn a_letter_cut_in_two_does_not_cost_the_answer() {
        let body = [&b"{\"choices\":[{\"message\":{\"content\":\"Rome \xf0\x9f\"}}],\"usage\":{\"prompt_tokens\":3}}"[..]].concat();
        let answer = Answer::parse(&body, 0.0, 1, None).unwrap();
        assert_eq!((answer.text.as_str(), answer.usage.map(|usage| usage.prompt_tokens)), ("Rome \u{fffd}", Some(3)));
    }

    #[test]
    fn what_is_no_completion_is_an_error() {
        let broken =
            Answer::parse(br#"{"choices":[{"finish_reason":"error","error":{"message":"gone"},"message":{"content":""}}]}"#, 0.0, 1, None);
        assert_eq!(broken.unwrap_err(), "the answer broke off: gone");
        for body in ["", "{", "[]", "{}", r#"{"choices":[]}"#, r#"{"choices":[{}]}"#, r#"{"choices":[{"message":{"content":7}}]}"#] {
            assert!(Answer::parse(body.as_bytes(), 0.0, 1, None).is_err(), "{body}");
        }
    }

    #[test]
    fn error_bodies_are_read_in_any_shape() {
        assert_eq!(error_message(br#"{"error":{"message":"too long"}}"#), "too long");
        assert_eq!(error_message(br#"{"detail":"no"}"#), "no");
        assert_eq!(error_message(b"<h1>Bad\n gateway</h1>"), "<h1>Bad gateway</h1>");
        assert_eq!(error_message(b""), "no message");
        assert_eq!(error_message(&[b'x'; 900]).len(), 200);
    }
}
