//! The server-sent events of a streamed answer, each with the share of the answer's time after which it is due.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::asked::Endpoint;
use crate::format::About;

/// An event and when it is due: 0 at once, 1 when the whole answer is.
pub(crate) struct Event {
    pub(crate) due: f64,
    pub(crate) bytes: Bytes,
}

/// All events of an answer, `[DONE]` included where the endpoint has it.
pub(crate) fn events(endpoint: Endpoint, about: &About<'_>) -> Vec<Event> {
    match endpoint {
        Endpoint::Responses => responses(about),
        _ => chunks(endpoint == Endpoint::Chat, about),
    }
}

fn chunks(chat: bool, about: &About<'_>) -> Vec<Event> {
    let (prefix, object) = if chat { ("chatcmpl", "chat.completion.chunk") } else { ("cmpl", "text_completion") };
    let choice = |delta: Value, text: &str, logprobs: Value, finish: Value| {
        if chat {
            json!([{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}])
        } else {
            json!([{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}])
        }
    };
    let mut made = Vec::new();
    if chat {
        made.push(data(
            0.0,
            &about.head(prefix, object, choice(json!({"role": "assistant", "content": ""}), "", Value::Null, Value::Null)),
        ));
    }
    let pieces = about.answer.pieces();
    for (index, piece) in pieces.iter().enumerate() {
        let choices = choice(json!({"content": piece}), piece, about.logprobs(&[piece]), Value::Null);
        made.push(data((index + 1) as f64 / pieces.len() as f64, &about.head(prefix, object, choices)));
    }
    made.push(data(1.0, &about.head(prefix, object, choice(json!({}), "", Value::Null, json!("stop")))));
    if about.usage && about.asked.include_usage {
        let mut last = about.head(prefix, object, json!([]));
        last["usage"] = about.usage();
        made.push(data(1.0, &last));
    }
    made.push(Event { due: 1.0, bytes: Bytes::from_static(b"data: [DONE]\n\n") });
    made
}

fn responses(about: &About<'_>) -> Vec<Event> {
    let item = format!("msg-replay-{}", about.number);
    let place = |kind: &str, mut fields: Value| {
        fields["type"] = json!(kind);
        fields["item_id"] = json!(item);
        fields["output_index"] = json!(0);
        fields["content_index"] = json!(0);
        fields
    };
    let mut made = vec![
        (0.0, json!({"type": "response.created", "response": about.response("in_progress")})),
        (0.0, json!({"type": "response.output_item.added", "output_index": 0, "item": about.response_item("in_progress")})),
        (0.0, place("response.content_part.added", json!({"part": about.response_part("")}))),
    ];
    let pieces = about.answer.pieces();
    for (index, piece) in pieces.iter().enumerate() {
        let due = (index + 1) as f64 / pieces.len() as f64;
        made.push((due, place("response.output_text.delta", json!({"delta": piece, "logprobs": []}))));
    }
    made.push((1.0, place("response.output_text.done", json!({"text": about.answer.text, "logprobs": []}))));
    made.push((1.0, place("response.content_part.done", json!({"part": about.response_part(&about.answer.text)}))));
    made.push((1.0, json!({"type": "response.output_item.done", "output_index": 0, "item": about.response_item("completed")})));
    made.push((1.0, json!({"type": "response.completed", "response": about.response("completed")})));
    made.into_iter().enumerate().map(|(number, (due, fields))| named(due, number, fields)).collect()
}

fn data(due: f64, value: &Value) -> Event {
    Event { due, bytes: format!("data: {value}\n\n").into() }
}

/// The Responses API names its events and numbers them.
fn named(due: f64, number: usize, mut fields: Value) -> Event {
    fields["sequence_number"] = json!(number);
    let name = fields["type"].as_str().unwrap_or_default().to_owned();
    Event { due, bytes: format!("event: {name}\ndata: {fields}\n\n").into() }
}
