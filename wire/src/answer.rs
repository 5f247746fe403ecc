//! An answer, as far as it has to be understood before it is passed on or paid for: whether it is one at all, and how much was written.
//!
//! In: a whole body, or the beginning of a stream. Out: the error that came in place of an answer, with the status it would have had;
//! bytes of text, to estimate tokens where the server counted none. Deliberately absent: what becomes of either.

use std::str;

use bytes::Bytes;
use memchr::memmem;

use crate::json;

/// An error that came with status 200: some servers and resellers answer before they know whether they can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The status it says it has, else one that fits its name, else 502.
    pub status: u16,
    /// In OpenAI's shape, so that it can be passed on with that status.
    pub body: Bytes,
}

/// The error in a whole body that should have been an answer.
#[must_use]
pub fn fault(body: &[u8]) -> Option<Fault> {
    // Nearly all answers end here, however long they are.
    memmem::find(body, br#""error""#)?;
    let members = json::members(str::from_utf8(body).ok()?).ok()?;
    if ["choices", "output", "data"].iter().any(|name| json::find(&members, name).is_some()) {
        return None;
    }
    fault_of(&members)
}

/// An error says so: by a member `error`, or by calling itself one.
pub(crate) fn fault_of(members: &[(&str, &str)]) -> Option<Fault> {
    if let Some(error) = json::find(members, "error").filter(|error| says_something(error)) {
        let inner = json::members(error).unwrap_or_default();
        return Some(Fault { status: status_of(&inner), body: format!(r#"{{"error":{error}}}"#).into() });
    }
    let named = |name| json::find(members, name).and_then(json::text).is_some_and(|text| text == "error");
    (named("object") || named("type")).then(|| bare_fault(members))
}

/// An error's own members, without the `error` around them.
pub(crate) fn bare_fault(members: &[(&str, &str)]) -> Fault {
    let inside: Vec<_> = members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Fault { status: status_of(members), body: format!(r#"{{"error":{{{}}}}}"#, inside.join(",")).into() }
}

/// `"error": {}`, `""` and `false` are how some servers say that there is none.
pub(crate) fn says_something(error: &str) -> bool {
    match error.as_bytes().first() {
        Some(b'{') => json::members(error).is_ok_and(|members| !members.is_empty()),
        Some(b'"') => error.len() > 2,
        _ => false,
    }
}

fn status_of(error: &[(&str, &str)]) -> u16 {
    let numbers = ["code", "status", "status_code"].iter().filter_map(|name| json::find(error, name));
    let mut statuses = numbers.filter_map(|value| value.trim_matches('"').parse().ok());
    if let Some(status) = statuses.find(|status| (400..600).contains(status)) {
        return status;
    }
    let words = ["code", "type"].iter().filter_map(|name| json::find(error, name).and_then(json::text));
    words.into_iter().find_map(|word| status_of_word(&word)).unwrap_or(502)
}

fn status_of_word(word: &str) -> Option<u16> {
    match word {
        "invalid_request_error" | "BadRequestError" => Some(400),
        "authentication_error" | "invalid_api_key" => Some(401),
        "rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota" => Some(429),
        "overloaded_error" | "service_unavailable_error" => Some(503),
        word => OVER_CONTEXT.contains(&word).then_some(400),
    }
}

/// What servers call a request that is longer than their model's context.
const OVER_CONTEXT: [&str; 2] = ["context_length_exceeded", "exceed_context_size_error"];

/// Is this error that the request is longer than the model's context? vLLM and others say so in words only.
#[must_use]
pub fn exceeds_context(body: &[u8]) -> bool {
    let Some(members) = str::from_utf8(body).ok().and_then(|text| json::members(text).ok()) else { return false };
    let Some(error) = json::find(&members, "error").and_then(|error| json::members(error).ok()) else { return false };
    let words = ["code", "type"].iter().filter_map(|name| json::find(&error, name).and_then(json::text));
    let said = json::find(&error, "message").and_then(json::text).is_some_and(|message| message.contains("context length"));
    said || words.into_iter().any(|word| OVER_CONTEXT.contains(&&*word))
}

/// Is it a JSON object, as every error in OpenAI's shape?
#[must_use]
pub fn is_object(body: &[u8]) -> bool {
    str::from_utf8(body).is_ok_and(|text| json::members(text).is_ok())
}

/// Bytes of text that the model wrote in a whole answer: all its choices, reasoning and tool calls, of vectors none. `None` where it is
/// no JSON object.
#[must_use]
pub fn text_bytes(body: &[u8]) -> Option<usize> {
    let members = json::members(str::from_utf8(body).ok()?).ok()?;
    let choices = listed(&members, "choices").map(|choice| {
        let text = json::find(&choice, "text").map_or(0, json::text_len);
        let message = json::find(&choice, "message").and_then(|message| json::members(message).ok());
        text + message.map_or(0, |message| message_bytes(&message))
    });
    let items = listed(&members, "output").map(|item| {
        let parts = listed(&item, "content").chain(listed(&item, "summary"));
        call_bytes(&item) + parts.map(|part| texts(&part, &["text", "refusal"])).sum::<usize>()
    });
    Some(choices.sum::<usize>() + items.sum::<usize>())
}

/// Text and reasoning of a message or of a piece of one, under the names servers use; and of tool calls what the model has to write.
pub(crate) fn message_bytes(message: &[(&str, &str)]) -> usize {
    let calls = listed(message, "tool_calls").filter_map(|call| json::members(json::find(&call, "function")?).ok());
    let calls = calls.chain(json::find(message, "function_call").and_then(|function| json::members(function).ok()));
    texts(message, &["content", "reasoning_content", "reasoning", "refusal"]) + calls.map(|call| call_bytes(&call)).sum::<usize>()
}

fn call_bytes(function: &[(&str, &str)]) -> usize {
    texts(function, &["name", "arguments"])
}

fn texts(members: &[(&str, &str)], names: &[&str]) -> usize {
    names.iter().filter_map(|name| json::find(members, name)).map(json::text_len).sum()
}

/// The objects in an array of that name.
fn listed<'a>(members: &[(&'a str, &'a str)], name: &str) -> impl Iterator<Item = json::Members<'a>> + use<'a> {
    let elements = json::find(members, name).and_then(|list| json::elements(list).ok()).unwrap_or_default();
    elements.into_iter().filter_map(|element| json::members(element).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_place_of_an_answer_has_the_status_it_speaks_of() {
        let check = |body: &str, status: Option<u16>| assert_eq!(fault(body.as_bytes()).map(|fault| fault.status), status, "{body}");
        check(r#"{"error":{"message":"no","code":429}}"#, Some(429));
        check(r#"{"error":{"message":"no","code":"503"}}"#, Some(503));
        check(r#"{"error":{"message":"no","code":200,"type":"rate_limit_error"}}"#, Some(429));
        check(r#"{"error":{"message":"no","type":"invalid_request_error","code":null}}"#, Some(400));
        check(r#"{"error":{"message":"no","code":"exceed_context_size_error"}}"#, Some(400));
        check(r#"{"error":"model is loading"}"#, Some(502));
        check(r#"{"object":"error","message":"no","code":400}"#, Some(400));
        check(r#"{"type":"error","message":"no"}"#, Some(502));
    }

    #[test]
    fn an_answer_is_no_error_whatever_it_says() {
        let check = |body: &str| assert_eq!(fault(body.as_bytes()), None, "{body}");
        check(r#"{"choices":[{"message":{"content":"an \"error\""}}],"error":null}"#);
        check(r#"{"choices":[],"error":{"message":"of one choice"}}"#);
        check(r#"{"object":"response","status":"failed","output":[],"error":{"message":"told by its status"}}"#);
        check(r#"{"object":"list","data":[],"error":""}"#);
        check(r#"{"error":{}}"#);
        check(r#"{"error":false}"#);
        check(r#"["error"]"#);
        check(r#"{"error":"#);
        assert_eq!(fault(b"\xff\"error\""), None);
    }

    #[test]
    fn a_fault_is_passed_on_in_openais_shape() {
        let check = |body: &str, shape: &str| assert_eq!(fault(body.as_bytes()).unwrap().body, shape);
        check(r#"{"error":{"message":"no"},"user_id":"u"}"#, r#"{"error":{"message":"no"}}"#);
        check(r#"{"object":"error","message":"no"}"#, r#"{"error":{"object":"error","message":"no"}}"#);
    }

    #[test]
    fn a_request_over_the_context_is_known_by_its_code_or_type() {
        assert!(exceeds_context(br#"{"error":{"code":"context_length_exceeded"}}"#));
        assert!(exceeds_context(br#"{"error":{"code":400,"type":"exceed_context_size_error"}}"#));
        assert!(exceeds_context(br#"{"error":{"code":400,"message":"This model's maximum context length is 8 tokens."}}"#));
        assert!(!exceeds_context(br#"{"error":{"code":"invalid_value","message":"context_length_exceeded"}}"#));
        assert!(!exceeds_context(b"context_length_exceeded"));
    }

    #[test]
    fn only_what_the_model_wrote_counts_as_text() {
        let check = |body: &str, bytes: Option<usize>| assert_eq!(text_bytes(body.as_bytes()), bytes, "{body}");
        check(r#"{"id":"long-id","choices":[{"message":{"role":"assistant","content":"four"}},{"message":{"content":"ab"}}]}"#, Some(6));
        check(r#"{"choices":[{"text":"abc","logprobs":{"tokens":["abc"]}}]}"#, Some(3));
        check(
            r#"{"choices":[{"message":{"content":null,"reasoning_content":"r","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}"#,
            Some(4),
        );
        check(
            r#"{"output":[{"type":"reasoning","summary":[{"text":"s"}]},{"type":"message","content":[{"type":"output_text","text":"abcd"}]},
                {"type":"function_call","name":"f","arguments":"{}"}]}"#,
            Some(8),
        );
        check(r#"{"data":[{"embedding":[0.25,0.5]}]}"#, Some(0));
        check("<html>", None);
    }
}
