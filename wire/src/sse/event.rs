//! One event: what it means to us, and whether the client gets to see it.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Seen, boundary};
use crate::{Description, Endpoint, Usage, answer, json, request::Edit, stored};

/// What happens to an event on its way to the client.
#[derive(Debug)]
pub(super) enum Fate {
    /// It goes on as it is.
    Kept,
    /// It said nothing but the usage that we asked for.
    Hidden,
    /// It goes on without that usage.
    Rewritten(Bytes),
}

/// An event, read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) seen: Seen,
    pub(super) content_bytes: usize,
    /// Of the response that begins.
    pub(super) response_id: Option<Box<str>>,
    pub(super) description: Option<Description>,
    pub(super) fate: Fate,
}

/// Reads a whole event with its line ends. What is no JSON object is kept: it means nothing to us and may to the client.
pub(super) fn read(endpoint: Endpoint, hide_usage: bool, describe: bool, event: &[u8]) -> Read {
    let lines = Lines::of(event);
    let seen = Seen { error: lines.error, ..Seen::default() };
    let mut read = Read { seen, content_bytes: 0, response_id: None, description: None, fate: Fate::Kept };
    if lines.data.trim_ascii() == b"[DONE]" {
        read.seen.done = true;
        return read;
    }
    let Ok(Ok(members)) = std::str::from_utf8(&lines.data).map(json::members) else { return read };
    read.seen.error |= json::find(&members, "error").is_some_and(answer::says_something);
    if endpoint == Endpoint::Responses {
        read_response(&members, &lines, &mut read);
        if describe {
            read.description = json::find(&members, "response")
                .and_then(|response| json::members(response).ok())
                .map(|response| Description::of_object(&response));
        }
    } else {
        read_chunk(&members, hide_usage, event, &mut read);
        read.description = describe.then(|| Description::of_object(&members));
    }
    read.seen.content = read.content_bytes > 0;
    read
}

/// A chunk of chat or legacy completions.
fn read_chunk(members: &[(&str, &str)], hide_usage: bool, event: &[u8], read: &mut Read) {
    let choices = json::find(members, "choices").and_then(|choices| json::elements(choices).ok());
    for choice in choices.iter().flatten() {
        let Ok(choice) = json::members(choice) else { continue };
        let text = json::find(&choice, "text").map_or(0, json::text_len);
        let delta =
            json::find(&choice, "delta").and_then(|delta| json::members(delta).ok()).map_or(0, |delta| answer::message_bytes(&delta));
        read.content_bytes += text + delta;
    }
    let Some(usage) = json::find(members, "usage") else { return };
    read.seen.usage = Usage::of_object(usage);
    if hide_usage {
        read.fate = match choices {
            Some(choices) if choices.is_empty() => Fate::Hidden,
            _ => Fate::Rewritten(without_usage(members, event)),
        };
    }
}

/// An event of the responses API, which names itself in `type`, and in `event:` besides.
fn read_response(members: &[(&str, &str)], lines: &Lines<'_>, read: &mut Read) {
    let name = json::find(members, "type").and_then(json::text);
    let name = name.as_deref().or(lines.name).unwrap_or("");
    let response = || json::find(members, "response").and_then(|response| json::members(response).ok()).unwrap_or_default();
    match name {
        "response.created" => read.response_id = stored::id_of(&response()),
        "response.completed" | "response.incomplete" | "response.failed" => {
            read.seen.done = true;
            read.seen.error |= name == "response.failed";
            read.seen.usage = json::find(&response(), "usage").and_then(Usage::of_object);
        }
        "error" => read.seen.error = true,
        _ if name.ends_with(".delta") => read.content_bytes = json::find(members, "delta").map_or(0, json::text_len),
        _ => {}
    }
}

/// The same event, its data without `usage`; other lines stay.
fn without_usage(members: &[(&str, &str)], event: &[u8]) -> Bytes {
    let mut data = Edit::of(members.to_vec());
    data.remove("usage");
    let mut data = Some(data.write(event.len()));
    let mut rewritten = Vec::with_capacity(event.len());
    for (line, end) in boundary::lines(event) {
        if field(line, b"data").is_none() {
            rewritten.extend_from_slice(line);
            rewritten.extend_from_slice(end);
        } else if let Some(data) = data.take() {
            rewritten.extend_from_slice(b"data: ");
            // JSON allows line ends between tokens, as several `data` lines give; one line has to do without.
            rewritten.extend(data.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
            rewritten.extend_from_slice(end);
        }
    }
    rewritten.into()
}

/// The lines of an event that we read.
struct Lines<'a> {
    /// All `data` lines, joined by line feeds.
    data: Cow<'a, [u8]>,
    /// The last `event` line.
    name: Option<&'a str>,
    /// An `event: error`, or the `error:` line that llama.cpp once sent in place of `data`.
    error: bool,
}

impl<'a> Lines<'a> {
    fn of(event: &'a [u8]) -> Self {
        let mut data: Option<Cow<'a, [u8]>> = None;
        let mut name = None;
        let mut error = false;
        for (line, _) in boundary::lines(event.strip_prefix(BYTE_ORDER_MARK).unwrap_or(event)) {
            if let Some(value) = field(line, b"data") {
                match &mut data {
                    None => data = Some(Cow::Borrowed(value)),
                    Some(before) => {
                        let before = before.to_mut();
                        before.push(b'\n');
                        before.extend_from_slice(value);
                    }
                }
            } else if let Some(value) = field(line, b"event") {
                name = std::str::from_utf8(value).ok();
                error |= value == b"error";
            } else {
                error |= field(line, b"error").is_some();
            }
        }
        Self { data: data.unwrap_or_default(), name, error }
    }
}

/// A stream may begin with one.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The value of a line that is this field, less the one space it may begin with.
pub(super) fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?;
    if value.is_empty() {
        return Some(value);
    }
    let value = value.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}
