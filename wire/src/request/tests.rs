//! Refusals, and what else the fixtures do not show.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Endpoint, Inbound, Outbound};

fn refused(endpoint: Endpoint, body: impl Into<Bytes>, param: Option<&str>, message: &str) {
    let body = body.into();
    let error = Inbound::parse(endpoint, body.clone()).expect_err(&String::from_utf8_lossy(&body));
    assert_eq!((error.param.as_deref(), &*error.message, error.status()), (param, message, 400));
}

fn refused_chat(fields: &str, param: &str, message: &str) {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{fields}}}"#);
    refused(Endpoint::ChatCompletions, body, Some(param), message);
}

fn refused_messages(messages: &str, param: &str, message: &str) {
    refused(Endpoint::ChatCompletions, format!(r#"{{"messages":{messages}}}"#), Some(param), message);
}

fn accepted(endpoint: Endpoint, body: &str) -> Inbound {
    Inbound::parse(endpoint, Bytes::from(body.to_owned())).unwrap_or_else(|error| panic!("{body}: {}", error.message))
}

#[test]
fn bodies_that_are_no_json_object_are_refused() {
    let chat = |body: &'static [u8], message: &str| refused(Endpoint::ChatCompletions, body, None, message);
    chat(b"", "the body is empty; expected a JSON object");
    chat(b" \r\n", "the body is empty; expected a JSON object");
    chat(b"[1]", "the body: expected a JSON object, got an array");
    chat(b"null", "the body: expected a JSON object, got null");
    chat(b"{\"a\":\"\xff\"}", "the body is not UTF-8: byte 6 begins no character");
    chat(b"{\"a\":1,}", "the body is not JSON: trailing comma at line 1 column 8");
    chat(b"{\"a\":1} x", "the body is not JSON: trailing characters at line 1 column 9");
    chat(b"model=auto", "the body is not JSON: expected value at line 1 column 1");
    chat(b"{\"messages\":[", "the body is not JSON: EOF while parsing a list at line 1 column 13");
}

#[test]
fn depth_bombs_are_refused() {
    let bomb = format!(r#"{{"messages":{}"#, "[".repeat(1_000_000));
    refused(Endpoint::ChatCompletions, bomb, None, "the body nests arrays and objects more than 128 deep");
    let unread = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],"x":{}{}}}"#, r#"{"a":"#.repeat(200), "}".repeat(200));
    refused(Endpoint::ChatCompletions, unread, None, "the body nests arrays and objects more than 128 deep");
}

#[test]
fn prompts_that_are_missing_or_of_a_wrong_type_are_refused() {
    refused(Endpoint::ChatCompletions, "{}", Some("messages"), "`messages` is missing; expected an array of messages");
    refused(Endpoint::ChatCompletions, r#"{"messages":null}"#, Some("messages"), "`messages` is missing; expected an array of messages");
    refused_messages("{}", "messages", "`messages`: expected an array of messages, got an object");
    refused_messages("[]", "messages", "`messages` is empty; expected at least one message");
    let expected = "a string or an array of strings or of token ids";
    refused(Endpoint::Completions, "{}", Some("prompt"), &format!("`prompt` is missing; expected {expected}"));
    refused(Endpoint::Completions, r#"{"prompt":[]}"#, Some("prompt"), &format!("`prompt` is empty; expected {expected}"));
    refused(Endpoint::Embeddings, r#"{"input":7}"#, Some("input"), &format!("`input`: expected {expected}, got a number"));
    refused(Endpoint::Responses, "{}", Some("input"), "`input` is missing; expected a string or an array of items");
    refused(Endpoint::Responses, r#"{"input":{}}"#, Some("input"), "`input`: expected a string or an array of items, got an object");
}

#[test]
fn messages_at_fault_are_named_with_their_place() {
    let user = r#"{"role":"user","content":"hi"}"#;
    let content = "a string or an array of content parts";
    refused_messages(&format!("[{user},3]"), "messages[1]", "`messages[1]`: expected a message object, got a number");
    refused_messages(r#"[{"content":"hi"}]"#, "messages[0].role", "`messages[0].role` is missing; expected a string");
    refused_messages(r#"[{"role":1,"content":"hi"}]"#, "messages[0].role", "`messages[0].role`: expected a string, got a number");
    let at = "messages[2].content";
    refused_messages(&format!(r#"[{user},{user},{{"role":"user"}}]"#), at, &format!("`{at}` is missing; expected {content}"));
    refused_messages(
        &format!(r#"[{user},{user},{{"role":"user","content":5}}]"#),
        at,
        &format!("`{at}`: expected {content}, got a number"),
    );
    let at = "messages[0].content[1]";
    let parts = |part: &str| format!(r#"[{{"role":"user","content":[{{"type":"text","text":"a"}},{part}]}}]"#);
    refused_messages(&parts("\"b\""), at, &format!("`{at}`: expected a content part object, got a string"));
    refused_messages(&parts("{}"), &format!("{at}.type"), &format!("`{at}.type` is missing; expected a string"));
    refused_messages(&parts(r#"{"type":"text"}"#), &format!("{at}.text"), &format!("`{at}.text` is missing; expected a string"));
    let calls = r#"[{"role":"assistant","tool_calls":"x"}]"#;
    refused_messages(calls, "messages[0].tool_calls", "`messages[0].tool_calls`: expected an array, got a string");
    let items = r#"{"input":[{"role":"user","content":"a"},{"type":4}]}"#;
    refused(Endpoint::Responses, items, Some("input[1].type"), "`input[1].type`: expected a string, got a number");
}

#[test]
fn fields_of_a_wrong_type_are_refused() {
    refused_chat(r#""model":["auto"]"#, "model", "`model`: expected a string, got an array");
    refused_chat(r#""stream":"yes""#, "stream", "`stream`: expected a boolean, got a string");
    refused_chat(r#""stream_options":true"#, "stream_options", "`stream_options`: expected an object, got a boolean");
    let usage = "stream_options.include_usage";
    refused_chat(r#""stream_options":{"include_usage":1}"#, usage, &format!("`{usage}`: expected a boolean, got a number"));
    refused_chat(r#""max_tokens":"9""#, "max_tokens", "`max_tokens`: expected a whole number, got a string");
    refused_chat(
        r#""max_completion_tokens":1e400"#,
        "max_completion_tokens",
        "`max_completion_tokens`: expected a whole number, got another number",
    );
    refused_chat(r#""n":1.5"#, "n", "`n`: expected a whole number, got another number");
    refused_chat(r#""tools":{}"#, "tools", "`tools`: expected an array, got an object");
    refused_chat(r#""tool_choice":1"#, "tool_choice", "`tool_choice`: expected a string or an object, got a number");
    refused_chat(r#""response_format":"json""#, "response_format", "`response_format`: expected an object with a `type`, got a string");
    let kind = "response_format.type";
    refused_chat(r#""response_format":{}"#, kind, &format!("`{kind}` is missing; expected `text`, `json_object` or `json_schema`"));
    refused_chat(r#""logprobs":"all""#, "logprobs", "`logprobs`: expected a boolean, or for completions a whole number, got a string");
}

#[test]
fn a_field_we_act_on_may_be_there_once() {
    refused_chat(r#""model":"a","model":"b""#, "model", "`model` is there more than once; expected one");
    refused_chat(r#""model":"a","mod\u0065l":null"#, "model", "`model` is there more than once; expected one");
    refused_chat(r#""messages":[]"#, "messages", "`messages` is there more than once; expected one");
    accepted(Endpoint::ChatCompletions, r#"{"seed":1,"messages":[{"role":"user","content":"hi"}],"seed":2}"#);
}

#[test]
fn null_is_as_good_as_absent() {
    let fields =
        ["model", "stream", "stream_options", "max_tokens", "n", "tools", "tool_choice", "functions", "response_format", "logprobs"];
    let nulls: Vec<String> = fields.iter().map(|name| format!("\"{name}\":null")).collect();
    let inbound = accepted(Endpoint::ChatCompletions, &format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{}}}"#, nulls.join(",")));
    assert_eq!((inbound.model(), inbound.stream(), inbound.max_output_tokens(), inbound.choices()), (None, false, None, 1));
    assert_eq!(inbound.needs(), super::Needs::default());
}

#[test]
fn absurd_limits_are_read_without_harm() {
    let limit = |json: &str| {
        let body = format!(r#"{{"prompt":"a","max_tokens":{json},"n":{json}}}"#);
        let inbound = accepted(Endpoint::Completions, &body);
        (inbound.max_output_tokens(), inbound.choices())
    };
    assert_eq!(limit("-1"), (None, 1));
    assert_eq!(limit("0"), (Some(0), 1));
    assert_eq!(limit("999999999999999999999999"), (Some(u64::MAX), u64::MAX));
}

#[test]
fn a_cut_emoji_is_read_and_passes() {
    let body = r#"{"model":"a","messages":[{"role":"user","content":"x\ud83d"}]}"#;
    let inbound = accepted(Endpoint::ChatCompletions, body);
    assert!(inbound.prompt().turns[0].text.starts_with("x\u{fffd}"));
    let change = Outbound { model_name: "b", prepend_messages: &[], body_overrides: &Map::new(), ask_usage: false };
    assert_eq!(inbound.outbound(&change), body.replace("\"a\"", "\"b\""));
}

#[test]
fn an_unchanged_body_is_not_copied() {
    let body = Bytes::from_static(br#"{"model":"qwen","messages":[{"role":"user","content":"hi"}]}"#);
    let inbound = Inbound::parse(Endpoint::ChatCompletions, body.clone()).unwrap();
    let change = Outbound { model_name: "qwen", prepend_messages: &[], body_overrides: &Map::new(), ask_usage: true };
    assert_eq!(inbound.outbound(&change).as_ptr(), body.as_ptr());
}

#[test]
fn a_limit_on_output_replaces_the_clients_under_either_name() {
    let sent = |client: &str, overrides: Value| {
        let inbound =
            accepted(Endpoint::ChatCompletions, &format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{client}}}"#));
        let Value::Object(overrides) = overrides else { panic!("an object") };
        let change = Outbound { model_name: "m", prepend_messages: &[], body_overrides: &overrides, ask_usage: false };
        let mut body: Value = serde_json::from_slice(&inbound.outbound(&change)).unwrap();
        let fields = body.as_object_mut().unwrap();
        fields.retain(|name, _| name.starts_with("max"));
        body
    };
    let (old, new) = (r#""max_tokens":7"#, r#""max_completion_tokens":7"#);
    for client in [old, new] {
        assert_eq!(sent(client, json!({"max_tokens": 90})), json!({"max_tokens": 90}));
        assert_eq!(sent(client, json!({"max_completion_tokens": 90})), json!({"max_completion_tokens": 90}));
    }
    let both = json!({"max_tokens": 90, "max_completion_tokens": 80});
    assert_eq!(sent(old, both.clone()), both);
    assert_eq!(sent(new, json!({"max_tokens": null})), json!({"max_completion_tokens": 7}));
}

#[test]
fn opening_stays_while_the_conversation_grows() {
    let opening = |messages: Value| accepted(Endpoint::ChatCompletions, &json!({"messages": messages}).to_string()).conversation_opening();
    let system = json!({"role": "system", "content": "Be brief."});
    let user = json!({"role": "user", "content": "hi"});
    let parts = json!({"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]});
    let answer = json!({"role": "assistant", "content": "hello"});
    let first = opening(json!([system, user])).unwrap();
    assert_eq!(opening(json!([system, user, answer, {"role": "user", "content": "and?"}])).unwrap(), first);
    assert_eq!(opening(json!([system, parts, answer])).unwrap(), first);
    assert_ne!(opening(json!([user])).unwrap(), first);
    assert_ne!(opening(json!([system, {"role": "user", "content": "ho"}])).unwrap(), first);
    assert_eq!(opening(json!([system])), None);
    let image = |url| json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    assert_ne!(opening(image("a")), opening(image("b")));
}

#[test]
fn opening_of_responses_is_the_same_as_string_and_as_items() {
    let opening = |body: Value| accepted(Endpoint::Responses, &body.to_string()).conversation_opening();
    let user = json!({"role": "user", "content": "hi"});
    let first = opening(json!({"instructions": "Be brief.", "input": "hi"}));
    assert!(first.is_some());
    assert_eq!(opening(json!({"instructions": "Be brief.", "input": [user, {"role": "assistant", "content": "x"}]})), first);
    assert_eq!(opening(json!({"instructions": "Be brief.", "input": "hi", "previous_response_id": "r"})), None);
}
