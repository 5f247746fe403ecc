//! Chat messages as items of the responses API: an expert's `prependMessages` are written once, for both.

use serde_json::{Map, Value, json};

/// The items that say what this message says. What is no message, or already an item, stays as it is.
pub(super) fn of_message(message: &Value) -> Vec<Value> {
    let Value::Object(fields) = message else { return vec![message.clone()] };
    let Some(role) = fields.get("role").and_then(Value::as_str).filter(|_| !fields.contains_key("type")) else {
        return vec![message.clone()];
    };
    if role == "tool" {
        return vec![json!({"type": "function_call_output", "call_id": fields.get("tool_call_id"), "output": fields.get("content")})];
    }
    let calls = fields.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let said = fields.get("content").is_some_and(|content| !content.is_null());
    let mut items = Vec::new();
    if said || calls.is_empty() {
        items.push(item(role, fields));
    }
    items.extend(calls.iter().map(call));
    items
}

/// Servers differ in what they take without a `type`; with it they agree.
fn item(role: &str, fields: &Map<String, Value>) -> Value {
    let mut item = Map::from_iter([("type".to_owned(), json!("message"))]);
    for (name, value) in fields.iter().filter(|(name, _)| *name != "tool_calls") {
        let value = match value {
            Value::Array(parts) if name == "content" => parts.iter().map(|each| part(role, each)).collect(),
            other => other.clone(),
        };
        item.insert(name.clone(), value);
    }
    Value::Object(item)
}

/// A content part under the name the responses API has for it.
fn part(role: &str, part: &Value) -> Value {
    let mut part = part.clone();
    match part["type"].as_str() {
        Some("text") => part["type"] = json!(if role == "assistant" { "output_text" } else { "input_text" }),
        Some("image_url") => {
            let image = part["image_url"].clone();
            part = json!({"type": "input_image", "image_url": image["url"], "detail": image.get("detail").unwrap_or(&json!("auto"))});
        }
        _ => {}
    }
    part
}

fn call(call: &Value) -> Value {
    let function = &call["function"];
    json!({"type": "function_call", "call_id": call["id"], "name": function["name"], "arguments": function["arguments"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: Value, items: Value) {
        assert_eq!(json!(of_message(&message)), items);
    }

    #[test]
    fn messages_become_items() {
        check(json!({"role": "system", "content": "s"}), json!([{"type": "message", "role": "system", "content": "s"}]));
        check(
            json!({"role": "user", "content": [{"type": "text", "text": "u"}, {"type": "image_url", "image_url": {"url": "https://x.test/a"}}]}),
            json!([{"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "u"},
                {"type": "input_image", "image_url": "https://x.test/a", "detail": "auto"},
            ]}]),
        );
        check(
            json!({"role": "assistant", "content": [{"type": "text", "text": "a"}]}),
            json!([{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}]),
        );
    }

    #[test]
    fn calls_and_their_results_become_items() {
        check(
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
            json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]),
        );
        check(
            json!({"role": "tool", "tool_call_id": "c", "content": "o"}),
            json!([{"type": "function_call_output", "call_id": "c", "output": "o"}]),
        );
    }

    #[test]
    fn what_is_an_item_already_stays() {
        check(json!({"type": "item_reference", "id": "x"}), json!([{"type": "item_reference", "id": "x"}]));
        check(json!("odd"), json!(["odd"]));
    }

    #[test]
    fn odd_parts_never_panic() {
        for part in [json!(1), json!("text"), json!(null), json!({"type": "image_url", "image_url": 3}), json!([])] {
            of_message(&json!({"role": "user", "content": [part]}));
        }
        of_message(&json!({"role": "assistant", "tool_calls": [1, {"function": "f"}]}));
    }
}
