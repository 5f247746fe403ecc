//! One request to one row, as `expert-router-train` reads it. Pure.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use wire::Endpoint;

use super::{Draft, Dropped, Ending};

/// The row, with its line feed.
///
/// # Errors
/// Why it is not for the log.
pub(super) fn line(draft: &Draft, ending: &Ending) -> Result<Vec<u8>, Dropped> {
    let body: Value = serde_json::from_slice(&draft.body).map_err(|_| Dropped::Unsuitable)?;
    let mut row = Map::new();
    row.insert("id".into(), json!(id()));
    row.insert("dataset".into(), json!(draft.router));
    let (field, mut asked) = asked(draft.endpoint, &body).ok_or(Dropped::Unsuitable)?;
    draft.policy.redactor.value(&mut asked);
    row.insert(field.into(), asked);
    let mut outcome = Map::new();
    outcome.insert("expert".into(), json!(ending.expert));
    let answer = draft.answer.as_ref().and_then(|answer| answered(draft.endpoint, draft.stream, answer));
    if let Some(answer) = answer.filter(|answer| !answer.is_empty()) {
        outcome.insert("response".into(), json!(draft.policy.redactor.text(&answer)));
    }
    if let Some(usage) = ending.usage {
        row.insert("prompt_tokens".into(), json!(usage.prompt_tokens));
        outcome.insert("prompt_tokens".into(), json!(usage.prompt_tokens));
        outcome.insert("completion_tokens".into(), json!(usage.completion_tokens));
        outcome.insert("cached_tokens".into(), json!(usage.cached_tokens));
    }
    let mut put = |field: &str, value: Option<f64>| value.map(|value| outcome.insert(field.into(), json!(value)));
    put("seconds", ending.seconds);
    put("cost_usd", ending.cost_usd);
    row.insert("outcomes".into(), json!([outcome]));
    row.insert("reason".into(), json!(ending.reason));
    row.insert("request_id".into(), json!(ending.request_id));
    row.insert("at".into(), json!(draft.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())));
    let mut line = serde_json::to_vec(&row).map_err(|_| Dropped::Unsuitable)?;
    line.push(b'\n');
    if line.len() > draft.policy.max_row_bytes { Err(Dropped::TooLarge) } else { Ok(line) }
}

/// Unlike that of any row of any process: a file of several logs has no id twice. Request ids are clients' to give, and may repeat.
fn id() -> String {
    static PROCESS: LazyLock<[u8; 8]> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let digest = Sha256::digest(format!("{now} {} {host}", std::process::id()));
        std::array::from_fn(|byte| digest[byte])
    });
    static ROWS: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", hex::encode(*PROCESS), ROWS.fetch_add(1, Ordering::Relaxed))
}

/// `prompt` with a text, or `messages` with a conversation as the chat endpoint takes it.
fn asked(endpoint: Endpoint, body: &Value) -> Option<(&'static str, Value)> {
    match endpoint {
        Endpoint::ChatCompletions => {
            Some(("messages", body.get("messages").filter(|it| it.as_array().is_some_and(|it| !it.is_empty()))?.clone()))
        }
        Endpoint::Completions => match body.get("prompt")? {
            Value::String(text) => Some(("prompt", json!(text))),
            Value::Array(one) => match one.as_slice() {
                [Value::String(text)] => Some(("prompt", json!(text))),
                _ => None,
            },
            _ => None,
        },
        Endpoint::Responses => responses(body),
        Endpoint::Embeddings => None,
    }
}

/// The responses API's input as a conversation; one that goes on from a stored response is only half of it.
fn responses(body: &Value) -> Option<(&'static str, Value)> {
    if body.get("previous_response_id").is_some_and(|id| !id.is_null()) || body.get("conversation").is_some_and(|it| !it.is_null()) {
        return None;
    }
    let system = body.get("instructions").and_then(Value::as_str).map(|text| json!({"role": "system", "content": text}));
    let said = match body.get("input")? {
        Value::String(text) => vec![json!({"role": "user", "content": text})],
        Value::Array(items) => items.iter().map(message).collect::<Option<Vec<_>>>()?,
        _ => return None,
    };
    let messages: Vec<Value> = system.into_iter().chain(said).collect();
    (!messages.is_empty()).then(|| ("messages", json!(messages)))
}

/// A message of text; other items are nothing that another expert could be asked.
fn message(item: &Value) -> Option<Value> {
    let role = item.get("role")?.as_str()?;
    let content = match item.get("content")? {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(|part| part.get("text").and_then(Value::as_str)).collect::<Option<Vec<_>>>()?.join("\n"),
        _ => return None,
    };
    Some(json!({"role": role, "content": content}))
}

/// The text of an answer, of its first choice where there are several. None where it was cut at the most tokens the client would have: that
/// is not what the expert has to say.
fn answered(endpoint: Endpoint, stream: bool, answer: &[u8]) -> Option<String> {
    if !stream {
        let body = serde_json::from_slice(answer).ok()?;
        return if is_cut(endpoint, &body) { None } else { whole(endpoint, &body) };
    }
    let text = std::str::from_utf8(answer).ok()?;
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data:")?.trim()).ok());
    events.map(|event| if is_cut(endpoint, &event) { None } else { Some(piece(endpoint, &event).unwrap_or_default()) }).collect()
}

/// Whether an answer, or the event that ends one, says that there was more to come.
fn is_cut(endpoint: Endpoint, body: &Value) -> bool {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => first(body).is_some_and(|choice| choice["finish_reason"] == "length"),
        Endpoint::Responses => body["status"] == "incomplete" || body["type"] == "response.incomplete",
        Endpoint::Embeddings => false,
    }
}

fn first(value: &Value) -> Option<&Value> {
    value.get("choices")?.as_array()?.iter().find(|choice| choice.get("index").is_none_or(|index| index == 0))
}

fn whole(endpoint: Endpoint, body: &Value) -> Option<String> {
    match endpoint {
        Endpoint::ChatCompletions => first(body)?.pointer("/message/content")?.as_str().map(str::to_owned),
        Endpoint::Completions => first(body)?.get("text")?.as_str().map(str::to_owned),
        Endpoint::Responses => {
            let parts = body.get("output")?.as_array()?.iter().filter_map(|item| item.get("content")?.as_array()).flatten();
            Some(parts.filter(|part| part["type"] == "output_text").filter_map(|part| part.get("text")?.as_str()).collect())
        }
        Endpoint::Embeddings => None,
    }
}

fn piece(endpoint: Endpoint, event: &Value) -> Option<String> {
    let text = match endpoint {
        Endpoint::ChatCompletions => first(event)?.pointer("/delta/content")?,
        Endpoint::Completions => first(event)?.get("text")?,
        Endpoint::Responses => event.get("delta").filter(|_| event["type"] == "response.output_text.delta")?,
        Endpoint::Embeddings => return None,
    };
    text.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::{Bytes, BytesMut};
    use routing::snapshot::RequestLog;
    use wire::Usage;

    use super::*;
    use crate::aside::log::Policy;

    fn draft(endpoint: Endpoint, body: &Value, answer: Option<&str>) -> Draft {
        let policy = Policy::compile(&RequestLog { include_responses: true, max_row_bytes: 1000, ..RequestLog::default() }).unwrap();
        Draft {
            policy: Arc::new(policy),
            router: "chat".into(),
            endpoint,
            stream: body["stream"] == true,
            body: Bytes::from(body.to_string()),
            answer: answer.map(BytesMut::from),
            at: UNIX_EPOCH,
        }
    }

    fn ending() -> Ending {
        Ending {
            request_id: "r".into(),
            expert: "small".into(),
            reason: Some("quality"),
            usage: Some(Usage { prompt_tokens: 7, completion_tokens: 3, cached_tokens: 2 }),
            seconds: Some(0.5),
            cost_usd: None,
        }
    }

    fn row(endpoint: Endpoint, body: Value, answer: Option<&str>) -> Value {
        serde_json::from_slice(&line(&draft(endpoint, &body, answer), &ending()).unwrap()).unwrap()
    }

    #[test]
    fn a_request_becomes_a_row_that_training_reads() {
        let answer =
            r#"{"choices": [{"index": 1, "message": {"content": "no"}}, {"index": 0, "message": {"content": "of ann@example.com"}}]}"#;
        let body = json!({"model": "auto", "messages": [{"role": "user", "content": "Who is bob@example.com?"}]});
        let mut row = row(Endpoint::ChatCompletions, body, Some(answer));
        assert!(row["id"].as_str().unwrap().len() > 16);
        row["id"] = json!("");
        assert_eq!(
            row,
            json!({
                "id": "", "dataset": "chat", "messages": [{"role": "user", "content": "Who is [email]?"}], "prompt_tokens": 7,
                "outcomes": [{"expert": "small", "response": "of [email]", "prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 2,
                              "seconds": 0.5}],
                "reason": "quality", "request_id": "r", "at": 0,
            })
        );
    }

    #[test]
    fn each_endpoint_s_question_and_answer_are_found() {
        let response = |row: &Value| row["outcomes"][0]["response"].as_str().map(str::to_owned);
        let streamed = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"on\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"e\"}}]}\r\n\r\ndata: [DONE]\n\n";
        let chat = row(Endpoint::ChatCompletions, json!({"messages": [{"role": "user", "content": "x"}], "stream": true}), Some(streamed));
        assert_eq!(response(&chat).as_deref(), Some("one"));
        let completion = row(Endpoint::Completions, json!({"prompt": ["x"]}), Some(r#"{"choices":[{"text":"two"}]}"#));
        assert_eq!((completion["prompt"].as_str(), response(&completion).as_deref()), (Some("x"), Some("two")));
        let whole = r#"{"output":[{"type":"reasoning"},{"content":[{"type":"output_text","text":"three"}]}]}"#;
        let responses = row(
            Endpoint::Responses,
            json!({"instructions": "be", "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]}),
            Some(whole),
        );
        assert_eq!(responses["messages"], json!([{"role": "system", "content": "be"}, {"role": "user", "content": "x"}]));
        assert_eq!(response(&responses).as_deref(), Some("three"));
        let streamed = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"four\"}\n\n";
        let responses = row(Endpoint::Responses, json!({"input": "x", "stream": true}), Some(streamed));
        assert_eq!(response(&responses).as_deref(), Some("four"));
        assert_eq!(response(&row(Endpoint::Completions, json!({"prompt": "x"}), None)), None);
    }

    #[test]
    fn an_answer_that_was_cut_short_is_no_response() {
        let chat = json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 1});
        let (prompt, input) = (json!({"prompt": "x", "max_tokens": 1}), json!({"input": "x", "max_output_tokens": 1}));
        let streamed = |body: &Value| {
            let mut body = body.clone();
            body["stream"] = json!(true);
            body
        };
        let [cut, stops, of_other] = [("length", 0), ("stop", 0), ("length", 1)].map(|(why, index)| {
            format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"on\"}},\"finish_reason\":null}}]}}\n\n\
                 data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}},\"finish_reason\":\"{why}\"}}]}}\n\ndata: [DONE]\n\n"
            )
        });
        let events = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"on\"}\n\n\
                      data: {\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\"}}\n\n";
        for (endpoint, body, answer, response) in [
            (Endpoint::ChatCompletions, &chat, r#"{"choices":[{"message":{"content":"on"},"finish_reason":"length"}]}"#, None),
            (Endpoint::ChatCompletions, &chat, r#"{"choices":[{"message":{"content":"on"},"finish_reason":"stop"}]}"#, Some("on")),
            (Endpoint::ChatCompletions, &streamed(&chat), cut.as_str(), None),
            (Endpoint::ChatCompletions, &streamed(&chat), stops.as_str(), Some("on")),
            (Endpoint::ChatCompletions, &streamed(&chat), of_other.as_str(), Some("on")),
            (Endpoint::Completions, &prompt, r#"{"choices":[{"text":"on","finish_reason":"length"}]}"#, None),
            (Endpoint::Responses, &input, r#"{"status":"incomplete","output":[{"content":[{"type":"output_text","text":"on"}]}]}"#, None),
            (Endpoint::Responses, &streamed(&input), events, None),
        ] {
            let row = row(endpoint, body.clone(), Some(answer));
            let outcome = &row["outcomes"][0];
            assert_eq!((outcome["expert"].as_str(), outcome["response"].as_str()), (Some("small"), response), "{answer}");
        }
    }

    #[test]
    fn what_nobody_else_could_be_asked_is_left_out() {
        let check =
            |endpoint, body: Value, expect| assert_eq!(line(&draft(endpoint, &body, None), &ending()).unwrap_err(), expect, "{body}");
        check(Endpoint::Completions, json!({"prompt": [1, 2]}), Dropped::Unsuitable);
        check(Endpoint::Responses, json!({"input": "and then?", "previous_response_id": "r1"}), Dropped::Unsuitable);
        check(Endpoint::Responses, json!({"input": [{"type": "function_call_output", "output": "7"}]}), Dropped::Unsuitable);
        check(Endpoint::ChatCompletions, json!({"messages": []}), Dropped::Unsuitable);
        check(Endpoint::Completions, json!({"prompt": "x".repeat(1000)}), Dropped::TooLarge);
    }

    #[test]
    fn no_two_rows_have_the_same_id() {
        let ids: std::collections::BTreeSet<String> = (0..1000).map(|_| id()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
