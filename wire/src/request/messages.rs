//! Messages, their parts, and the items of the responses API: checked once, read for their text.

use std::borrow::Cow;

use super::{Endpoint, Inbound, Needs, Turn, parse};
use crate::{ErrorBody, json};

/// What a message's content is.
const CONTENT: &str = "a string or an array of content parts";

/// Checks chat `messages` as far as we read them.
pub(super) fn check_chat(path: &str, value: &str, needs: &mut Needs) -> Result<(), ErrorBody> {
    let messages = parse::array(path, "an array of messages", value)?;
    if messages.is_empty() {
        return Err(parse::empty(path, "at least one message"));
    }
    messages.iter().enumerate().try_for_each(|(index, message)| check_message(&format!("{path}[{index}]"), message, needs))
}

/// Checks responses `input` as far as we read it.
pub(super) fn check_items(path: &str, value: &str, needs: &mut Needs) -> Result<(), ErrorBody> {
    if value.starts_with('"') {
        return Ok(());
    }
    let items = parse::array(path, "a string or an array of items", value)?;
    items.iter().enumerate().try_for_each(|(index, item)| check_item(&format!("{path}[{index}]"), item, needs))
}

fn check_item(path: &str, item: &str, needs: &mut Needs) -> Result<(), ErrorBody> {
    let members = parse::object(path, "an item object", item)?;
    match string(path, "type", &members)?.as_deref() {
        None | Some("message") => check_message(path, item, needs),
        Some(kind) => {
            needs.tools |= kind.ends_with("_call") || kind.ends_with("_call_output");
            needs.vision |= kind == "computer_call_output";
            Ok(())
        }
    }
}

fn check_message(path: &str, message: &str, needs: &mut Needs) -> Result<(), ErrorBody> {
    let members = parse::object(path, "a message object", message)?;
    let role = string(path, "role", &members)?.ok_or_else(|| parse::missing(&format!("{path}.role"), "a string"))?;
    needs.tools |= matches!(&*role, "tool" | "function") || json::find(&members, "function_call").is_some();
    if let Some(calls) = json::find(&members, "tool_calls") {
        needs.tools |= !parse::array(&format!("{path}.tool_calls"), "an array", calls)?.is_empty();
    }
    let path = format!("{path}.content");
    match json::find(&members, "content") {
        Some(content) => check_content(&path, content, needs),
        // An assistant that calls tools says nothing; what other roles may leave out is their server's business.
        None if matches!(&*role, "user" | "system" | "developer") => Err(parse::missing(&path, CONTENT)),
        None => Ok(()),
    }
}

fn check_content(path: &str, content: &str, needs: &mut Needs) -> Result<(), ErrorBody> {
    if content.starts_with('"') {
        return Ok(());
    }
    let parts = parse::array(path, CONTENT, content)?;
    parts.iter().enumerate().try_for_each(|(index, part)| check_part(&format!("{path}[{index}]"), part, needs))
}

fn check_part(path: &str, part: &str, needs: &mut Needs) -> Result<(), ErrorBody> {
    let members = parse::object(path, "a content part object", part)?;
    let kind = string(path, "type", &members)?.ok_or_else(|| parse::missing(&format!("{path}.type"), "a string"))?;
    if is_text(&kind) {
        string(path, "text", &members)?.ok_or_else(|| parse::missing(&format!("{path}.text"), "a string"))?;
    }
    needs.vision |= matches!(&*kind, "image_url" | "input_image" | "image");
    Ok(())
}

fn string<'a>(path: &str, name: &str, members: &[(&'a str, &'a str)]) -> Result<Option<Cow<'a, str>>, ErrorBody> {
    let Some(value) = json::find(members, name) else { return Ok(None) };
    json::text(value).map(Some).ok_or_else(|| parse::wrong(&format!("{path}.{name}"), "a string", value))
}

fn is_text(kind: &str) -> bool {
    matches!(kind, "text" | "input_text" | "output_text")
}

/// The turns of a checked request; see [`Inbound::prompt`].
pub(super) fn turns(inbound: &Inbound) -> Vec<Turn<'_>> {
    read(inbound)
        .map(|message| match message {
            Read::Plain(turn) => turn,
            Read::Content(role, content) => Turn { role, text: content_text(content) },
        })
        .collect()
}

/// See [`Inbound::conversation_opening`].
pub(super) fn opening(inbound: &Inbound) -> Option<Vec<u8>> {
    if !matches!(inbound.endpoint, Endpoint::ChatCompletions | Endpoint::Responses)
        || json::find(&inbound.members(), "previous_response_id").is_some()
    {
        return None;
    }
    let mut bytes = Vec::new();
    for message in read(inbound) {
        let (role, content) = match message {
            Read::Plain(turn) => (turn.role, turn.text),
            Read::Content(role, content) => (role, content_identity(content)),
        };
        // Each with its length before it, or one message could be written so as to pass for two.
        for piece in [role.as_bytes(), content.as_bytes()] {
            bytes.extend_from_slice(&(piece.len() as u64).to_be_bytes());
            bytes.extend_from_slice(piece);
        }
        if role == "user" {
            return Some(bytes);
        }
    }
    None
}

/// A message as far as it is read.
enum Read<'a> {
    /// Its text stands outside any message.
    Plain(Turn<'a>),
    /// Its role and the JSON of its content.
    Content(Cow<'a, str>, &'a str),
}

fn read(inbound: &Inbound) -> impl Iterator<Item = Read<'_>> {
    let members = inbound.members();
    let (instructions, name) = match inbound.endpoint {
        Endpoint::ChatCompletions => (None, "messages"),
        Endpoint::Completions => (None, "prompt"),
        Endpoint::Responses => (json::find(&members, "instructions").and_then(json::text), "input"),
        Endpoint::Embeddings => (None, "input"),
    };
    let instructions = instructions.map(|text| Read::Plain(Turn { role: "system".into(), text }));
    let value = json::find(&members, name).unwrap_or("null");
    let (plain, listed) = match inbound.endpoint {
        Endpoint::ChatCompletions => (None, json::elements(value).unwrap_or_default()),
        Endpoint::Responses if value.starts_with('[') => (None, json::elements(value).unwrap_or_default()),
        _ => (Some(strings(value)).filter(|_| value != "null"), Vec::new()),
    };
    let plain = plain.map(|text| Read::Plain(Turn { role: "user".into(), text }));
    instructions.into_iter().chain(plain).chain(listed.into_iter().filter_map(message))
}

fn message(json: &str) -> Option<Read<'_>> {
    let members = json::members(json).ok()?;
    if let Some(role) = json::find(&members, "role").and_then(json::text) {
        return Some(Read::Content(role, json::find(&members, "content").unwrap_or("null")));
    }
    let kind = json::find(&members, "type").and_then(json::text)?;
    let output = json::find(&members, "output").filter(|_| kind.ends_with("_call_output"))?;
    Some(Read::Content("tool".into(), output))
}

/// A string, or an array's strings joined by line feeds.
fn strings(json: &str) -> Cow<'_, str> {
    if let Some(text) = json::text(json) {
        return text;
    }
    joined(json::elements(json).unwrap_or_default().into_iter().filter_map(json::text))
}

fn content_text(content: &str) -> Cow<'_, str> {
    if let Some(text) = json::text(content) {
        return text;
    }
    joined(json::elements(content).unwrap_or_default().into_iter().filter_map(part_text))
}

/// As [`content_text`], with parts that have no text as they are.
fn content_identity(content: &str) -> Cow<'_, str> {
    if let Some(text) = json::text(content) {
        return text;
    }
    let parts = json::elements(content).unwrap_or_default();
    joined(parts.into_iter().map(|part| part_text(part).unwrap_or(Cow::Borrowed(part))))
}

fn part_text(part: &str) -> Option<Cow<'_, str>> {
    let members = json::members(part).ok()?;
    let kind = json::find(&members, "type").and_then(json::text)?;
    json::find(&members, "text").filter(|_| is_text(&kind)).and_then(json::text)
}

fn joined<'a>(mut texts: impl Iterator<Item = Cow<'a, str>>) -> Cow<'a, str> {
    let Some(first) = texts.next() else { return Cow::Borrowed("") };
    texts.fold(first, |all, next| Cow::Owned(all.into_owned() + "\n" + &next))
}
