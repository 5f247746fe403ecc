//! The body for an expert: the client's, with a few members cut out and others put in.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use super::{Endpoint, Inbound, Outbound, items};
use crate::json;

/// See [`Outbound`] for what is changed and in which order.
pub(super) fn outbound(inbound: &Inbound, change: &Outbound<'_>) -> Bytes {
    let ask_usage = change.ask_usage && inbound.stream && matches!(inbound.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    let same_model = inbound.model.as_deref() == Some(change.model_name);
    if same_model && change.body_overrides.is_empty() && change.prepend_messages.is_empty() && (inbound.usage_asked || !ask_usage) {
        return inbound.body.clone();
    }
    let mut body = Edit::of(inbound.members());
    for (name, value) in change.body_overrides {
        match value {
            _ if name == "model" || name == "stream" => {}
            Value::Null => body.remove(name),
            value => {
                let same = other_name(name).filter(|other| !change.body_overrides.contains_key(*other));
                same.iter().for_each(|other| body.remove(other));
                body.set(name, value.to_string());
            }
        }
    }
    if !same_model {
        body.set("model", Value::from(change.model_name).to_string());
    }
    if !change.prepend_messages.is_empty() {
        prepend(inbound.endpoint, change.prepend_messages, &mut body);
    }
    if ask_usage {
        ask_for_usage(&mut body);
    }
    body.write(inbound.body.len()).into()
}

/// Chat's limit on output has an old and a new name. Beside an override under one of them the client's under the other would be refused by
/// some servers, and be what others go by.
fn other_name(limit: &str) -> Option<&'static str> {
    match limit {
        "max_tokens" => Some("max_completion_tokens"),
        "max_completion_tokens" => Some("max_tokens"),
        _ => None,
    }
}

fn prepend(endpoint: Endpoint, messages: &[Value], body: &mut Edit<'_>) {
    let name = match endpoint {
        Endpoint::ChatCompletions => "messages",
        Endpoint::Responses if body.get("previous_response_id").is_none() => "input",
        Endpoint::Responses | Endpoint::Completions | Endpoint::Embeddings => return,
    };
    let shaped = |message| if endpoint == Endpoint::Responses { items::of_message(message) } else { vec![message.clone()] };
    let mut list: Vec<Cow<'_, str>> = messages.iter().flat_map(shaped).map(|message| message.to_string().into()).collect();
    match body.get(name) {
        None => {}
        Some(text) if text.starts_with('"') => list.push(format!(r#"{{"type":"message","role":"user","content":{text}}}"#).into()),
        Some(array) => {
            let inside = array.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or("").trim_ascii();
            list.extend(Some(inside).filter(|inside| !inside.is_empty()).map(Cow::from));
        }
    }
    let list = format!("[{}]", list.join(","));
    body.set(name, list);
}

fn ask_for_usage(body: &mut Edit<'_>) {
    let options = body.get("stream_options").and_then(|options| json::members(options).ok()).unwrap_or_default();
    let mut options = Edit::of(options);
    options.set("include_usage", "true".into());
    let options = options.write(0);
    body.set("stream_options", options);
}

/// An object's members, some of them still the client's text.
pub(crate) struct Edit<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Edit<'a> {
    pub(crate) fn of(members: json::Members<'a>) -> Self {
        Self(members.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| json::is_key(key, name)).map(|(_, value)| &**value).filter(|value| *value != "null")
    }

    /// In the place of the first of that name, or at the end.
    fn set(&mut self, name: &str, value: String) {
        let place = self.0.iter().position(|(key, _)| json::is_key(key, name));
        let Some(place) = place else {
            self.0.push((Value::from(name).to_string().into(), value.into()));
            return;
        };
        self.0[place].1 = value.into();
        let mut index = 0;
        self.0.retain(|(key, _)| {
            index += 1;
            index <= place + 1 || !json::is_key(key, name)
        });
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| !json::is_key(key, name));
    }

    /// `size` is a guess that saves growing.
    pub(crate) fn write(&self, size: usize) -> String {
        let mut text = String::with_capacity(size + 128);
        text.push('{');
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(key);
            text.push(':');
            text.push_str(value);
        }
        text.push('}');
        text
    }
}
