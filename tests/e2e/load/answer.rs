//! Whether an answer is whole and valid. Written anew and not with the `wire` crate: a mistake there must not hide itself here.

use serde_json::Value;

/// What an answer said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    /// Tokens of prompt and completion.
    pub(crate) tokens: Option<(u64, u64)>,
}

/// Why it is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server said that it broke off.
    ErrorEvent(String),
    /// It does not say so, and is not whole.
    NotWhole(String),
}

/// Reads a chat completion that was not streamed.
///
/// # Errors
/// [`Fault::NotWhole`] with what is missing.
pub(crate) fn whole(body: &[u8]) -> Result<Answer, Fault> {
    let not_whole = |what: &str| Fault::NotWhole(what.to_owned());
    let value: Value = serde_json::from_slice(body).map_err(|error| Fault::NotWhole(format!("no JSON: {error}")))?;
    let choice = &value["choices"][0];
    let content = choice["message"]["content"].as_str().unwrap_or_default();
    if content.is_empty() {
        return Err(not_whole("no content"));
    }
    if choice["finish_reason"].as_str().is_none() {
        return Err(not_whole("no finish_reason"));
    }
    let tokens = tokens(&value).ok_or_else(|| not_whole("no usage"))?;
    Ok(Answer { tokens: Some(tokens) })
}

/// Reads a streamed chat completion to its end.
///
/// # Errors
/// [`Fault::ErrorEvent`] where the stream says that it broke off, [`Fault::NotWhole`] where it does not and is not whole.
pub(crate) fn stream(body: &[u8], usage_asked: bool) -> Result<Answer, Fault> {
    let not_whole = |what: &str| Fault::NotWhole(what.to_owned());
    let text = std::str::from_utf8(body).map_err(|_| not_whole("no UTF-8"))?;
    let (mut content, mut finished, mut done, mut answer) = (false, false, false, Answer::default());
    for data in text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim) {
        if done {
            return Err(not_whole("something after [DONE]"));
        }
        if data == "[DONE]" {
            done = true;
            continue;
        }
        let event: Value = serde_json::from_str(data).map_err(|error| Fault::NotWhole(format!("an event is no JSON: {error}")))?;
        if !event["error"].is_null() {
            return Err(Fault::ErrorEvent(event["error"]["code"].as_str().unwrap_or("error").to_owned()));
        }
        let choice = &event["choices"][0];
        content |= choice["delta"]["content"].as_str().is_some_and(|text| !text.is_empty());
        finished |= choice["finish_reason"].is_string();
        answer.tokens = tokens(&event).or(answer.tokens);
    }
    match (content, finished, done) {
        (true, true, true) if answer.tokens.is_some() == usage_asked => Ok(answer),
        (true, true, true) if usage_asked => Err(not_whole("usage was asked for and did not come")),
        (true, true, true) => Err(not_whole("usage came and was not asked for")),
        (_, _, false) => Err(not_whole("no [DONE]")),
        (_, false, _) => Err(not_whole("no finish_reason")),
        (false, ..) => Err(not_whole("no content")),
    }
}

/// The code of an error in OpenAI's shape.
#[must_use]
pub(crate) fn error_code(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let error = &value["error"];
    let code = error["code"].as_str().or_else(|| error["type"].as_str())?;
    Some(code.to_owned())
}

fn tokens(value: &Value) -> Option<(u64, u64)> {
    let usage = &value["usage"];
    Some((usage["prompt_tokens"].as_u64()?, usage["completion_tokens"].as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_stream(events: &[&str], usage_asked: bool, expect: Result<Option<(u64, u64)>, Fault>) {
        let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        assert_eq!(stream(body.as_bytes(), usage_asked).map(|answer| answer.tokens), expect, "{body}");
    }

    const PIECE: &str = r#"{"choices":[{"delta":{"content":"Yes"}}]}"#;
    const END: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;

    #[test]
    fn a_stream_is_whole_with_content_a_reason_and_its_end() {
        let not_whole = |what: &str| Err(Fault::NotWhole(what.to_owned()));
        check_stream(&[PIECE, END, "[DONE]"], false, Ok(None));
        check_stream(&[PIECE, END, USAGE, "[DONE]"], true, Ok(Some((3, 4))));
        check_stream(&[PIECE, END], false, not_whole("no [DONE]"));
        check_stream(&[PIECE, "[DONE]"], false, not_whole("no finish_reason"));
        check_stream(&[END, "[DONE]"], false, not_whole("no content"));
        check_stream(&[PIECE, END, "[DONE]", PIECE], false, not_whole("something after [DONE]"));
        check_stream(&[PIECE, END, "[DONE]"], true, not_whole("usage was asked for and did not come"));
        check_stream(&[PIECE, END, USAGE, "[DONE]"], false, not_whole("usage came and was not asked for"));
    }

    #[test]
    fn an_error_event_says_that_a_stream_broke_off() {
        let error = r#"{"error":{"code":"upstream_cut","message":"m"}}"#;
        check_stream(&[PIECE, error], false, Err(Fault::ErrorEvent("upstream_cut".into())));
    }

    #[test]
    fn an_answer_is_whole_with_content_a_reason_and_usage() {
        let body =
            r#"{"choices":[{"message":{"content":"Yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        assert_eq!(whole(body.as_bytes()).map(|answer| answer.tokens), Ok(Some((3, 4))));
        assert!(whole(&body.as_bytes()[..40]).is_err());
        assert_eq!(whole(body.replace("Yes", "").as_bytes()), Err(Fault::NotWhole("no content".into())));
    }

    #[test]
    fn errors_are_told_by_their_code() {
        assert_eq!(error_code(br#"{"error":{"code":"unhealthy","type":"x"}}"#).as_deref(), Some("unhealthy"));
        assert_eq!(error_code(br#"{"error":{"code":null,"type":"server_error"}}"#).as_deref(), Some("server_error"));
        assert_eq!(error_code(b"<html>"), None);
    }
}
