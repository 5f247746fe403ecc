//! From a body's bytes to an [`Inbound`], or to a refusal that names the field and what is expected.

use std::{borrow::Cow, ops::Range, str};

use bytes::Bytes;

use super::{Endpoint, Inbound, Needs, messages};
use crate::{ErrorBody, Kind, json};

pub(super) fn parse(endpoint: Endpoint, body: Bytes) -> Result<Inbound, ErrorBody> {
    let text = str::from_utf8(&body).map_err(|error| not_utf8(error.valid_up_to()))?;
    let fields = Fields::of_body(text)?;
    let mut needs = Needs { embeddings: endpoint == Endpoint::Embeddings, ..Needs::default() };
    check_prompt(endpoint, &fields, &mut needs)?;
    check_tools(&fields, &mut needs)?;
    needs.json_schema = wants_json(endpoint, &fields)?;
    needs.logprobs = wants_logprobs(endpoint, &fields)?;
    let model = fields.string("model")?.map(Cow::into_owned);
    let stream = fields.boolean("stream")?;
    let usage_asked = usage_asked(&fields)? && stream;
    let max_output_tokens = max_output_tokens(endpoint, &fields)?;
    let choices = fields.limit("n")?.unwrap_or(1).max(1);
    let members = fields.0.iter().map(|(key, value)| (span(text, key), span(text, value))).collect();
    Ok(Inbound { endpoint, members, model, stream, usage_asked, max_output_tokens, choices, needs, body })
}

fn check_prompt(endpoint: Endpoint, fields: &Fields<'_>, needs: &mut Needs) -> Result<(), ErrorBody> {
    match endpoint {
        Endpoint::ChatCompletions => messages::check_chat("messages", fields.required("messages", "an array of messages")?, needs),
        Endpoint::Completions => string_or_array("prompt", fields.required("prompt", STRING_OR_ARRAY)?),
        Endpoint::Embeddings => string_or_array("input", fields.required("input", STRING_OR_ARRAY)?),
        Endpoint::Responses => {
            fields.string("instructions")?;
            match fields.get("input")? {
                Some(input) => messages::check_items("input", input, needs),
                None if fields.names_a_stored_prompt()? => Ok(()),
                None => Err(missing("input", "a string or an array of items")),
            }
        }
    }
}

/// What `prompt` and the embeddings' `input` are.
const STRING_OR_ARRAY: &str = "a string or an array of strings or of token ids";

fn string_or_array(name: &str, value: &str) -> Result<(), ErrorBody> {
    match value.as_bytes().first() {
        Some(b'"') => Ok(()),
        Some(b'[') if json::elements(value).is_ok_and(|elements| !elements.is_empty()) => Ok(()),
        Some(b'[') => Err(empty(name, STRING_OR_ARRAY)),
        _ => Err(wrong(name, STRING_OR_ARRAY, value)),
    }
}

fn check_tools(fields: &Fields<'_>, needs: &mut Needs) -> Result<(), ErrorBody> {
    for name in ["tools", "functions"] {
        let Some(tools) = fields.get(name)? else { continue };
        needs.tools |= !array(name, "an array", tools)?.is_empty();
    }
    for name in ["tool_choice", "function_call"] {
        if let Some(choice) = fields.get(name)?
            && !choice.starts_with(['"', '{'])
        {
            return Err(wrong(name, "a string or an object", choice));
        }
    }
    Ok(())
}

/// `response_format` (chat), `text.format` (responses): whatever is not plain text is JSON of some kind.
fn wants_json(endpoint: Endpoint, fields: &Fields<'_>) -> Result<bool, ErrorBody> {
    let (path, format) = match endpoint {
        Endpoint::Responses => {
            let Some(text) = fields.object("text")? else { return Ok(false) };
            ("text.format", json::find(&text, "format"))
        }
        _ => ("response_format", fields.get("response_format")?),
    };
    let Some(format) = format else { return Ok(false) };
    let members = object(path, "an object with a `type`", format)?;
    let path = format!("{path}.type");
    let kind = json::find(&members, "type").ok_or_else(|| missing(&path, FORMATS))?;
    let kind = json::text(kind).ok_or_else(|| wrong(&path, FORMATS, kind))?;
    Ok(kind == "json_schema" || kind == "json_object")
}

/// What a format's `type` is.
const FORMATS: &str = "`text`, `json_object` or `json_schema`";

/// Chat says `logprobs: true`, legacy completions how many (0: of the chosen token alone), responses `top_logprobs` or an `include`.
fn wants_logprobs(endpoint: Endpoint, fields: &Fields<'_>) -> Result<bool, ErrorBody> {
    let logprobs = match fields.get("logprobs")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(count) if json::whole_number(count).is_some() => true,
        Some(other) => return Err(wrong("logprobs", "a boolean, or for completions a whole number", other)),
    };
    let top_logprobs = fields.limit("top_logprobs")?.unwrap_or(0) > 0;
    let included = endpoint == Endpoint::Responses
        && match fields.get("include")? {
            None => false,
            Some(include) => array("include", "an array of strings", include)?.contains(&"\"message.output_text.logprobs\""),
        };
    Ok(logprobs || top_logprobs || included)
}

fn usage_asked(fields: &Fields<'_>) -> Result<bool, ErrorBody> {
    let Some(options) = fields.object("stream_options")? else { return Ok(false) };
    match json::find(&options, "include_usage") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(wrong("stream_options.include_usage", "a boolean", other)),
    }
}

fn max_output_tokens(endpoint: Endpoint, fields: &Fields<'_>) -> Result<Option<u64>, ErrorBody> {
    match endpoint {
        Endpoint::ChatCompletions => {
            let (new, old) = (fields.limit("max_completion_tokens")?, fields.limit("max_tokens")?);
            Ok(new.or(old))
        }
        Endpoint::Completions => fields.limit("max_tokens"),
        Endpoint::Responses => fields.limit("max_output_tokens"),
        Endpoint::Embeddings => Ok(None),
    }
}

/// The top level of a body, asked by name. A field we act on may be there once only: which of two an expert would read is not ours to
/// guess, and two readers that disagree can be played against each other.
struct Fields<'a>(json::Members<'a>);

impl<'a> Fields<'a> {
    fn of_body(text: &'a str) -> Result<Self, ErrorBody> {
        if text.trim_ascii().is_empty() {
            return Err(refused("empty_body", "the body is empty; expected a JSON object".into()));
        }
        if json::too_deep(text) {
            return Err(refused("too_deep", format!("the body nests arrays and objects more than {} deep", json::MAX_DEPTH)));
        }
        json::members(text).map(Self).map_err(|error| not_an_object(text, &error))
    }

    fn get(&self, name: &str) -> Result<Option<&'a str>, ErrorBody> {
        if self.0.iter().filter(|(key, _)| json::is_key(key, name)).count() > 1 {
            return Err(refused("duplicate_field", format!("`{name}` is there more than once; expected one")).at(name));
        }
        Ok(json::find(&self.0, name))
    }

    fn required(&self, name: &str, expected: &str) -> Result<&'a str, ErrorBody> {
        self.get(name)?.ok_or_else(|| missing(name, expected))
    }

    fn boolean(&self, name: &str) -> Result<bool, ErrorBody> {
        match self.get(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(wrong(name, "a boolean", other)),
        }
    }

    fn string(&self, name: &str) -> Result<Option<Cow<'a, str>>, ErrorBody> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        json::text(value).map(Some).ok_or_else(|| wrong(name, "a string", value))
    }

    fn object(&self, name: &str) -> Result<Option<json::Members<'a>>, ErrorBody> {
        self.get(name)?.map(|value| object(name, "an object", value)).transpose()
    }

    /// A whole number; none where it is negative.
    fn limit(&self, name: &str) -> Result<Option<u64>, ErrorBody> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        match value.strip_prefix('-') {
            None => json::whole_number(value).map(Some),
            Some(digits) => json::whole_number(digits).map(|_| None),
        }
        .ok_or_else(|| wrong(name, "a whole number", value))
    }

    /// Responses may name their input instead of bringing it.
    fn names_a_stored_prompt(&self) -> Result<bool, ErrorBody> {
        Ok(self.get("previous_response_id")?.or(self.get("prompt")?).or(self.get("conversation")?).is_some())
    }
}

/// The members of the object at `path`.
pub(super) fn object<'a>(path: &str, expected: &str, value: &'a str) -> Result<json::Members<'a>, ErrorBody> {
    json::members(value).map_err(|_| wrong(path, expected, value))
}

/// The elements of the array at `path`.
pub(super) fn array<'a>(path: &str, expected: &str, value: &'a str) -> Result<Vec<&'a str>, ErrorBody> {
    json::elements(value).map_err(|_| wrong(path, expected, value))
}

pub(super) fn missing(path: &str, expected: &str) -> ErrorBody {
    refused("missing_field", format!("`{path}` is missing; expected {expected}")).at(path)
}

pub(super) fn empty(path: &str, expected: &str) -> ErrorBody {
    refused("empty_array", format!("`{path}` is empty; expected {expected}")).at(path)
}

pub(super) fn wrong(path: &str, expected: &str, value: &str) -> ErrorBody {
    let got = if expected.starts_with("a whole number") && json::kind(value) == "a number" { "another number" } else { json::kind(value) };
    refused("invalid_type", format!("`{path}`: expected {expected}, got {got}")).at(path)
}

fn refused(code: &'static str, message: String) -> ErrorBody {
    ErrorBody::new(Kind::InvalidRequest, code, message)
}

fn not_utf8(at: usize) -> ErrorBody {
    refused("invalid_utf8", format!("the body is not UTF-8: byte {at} begins no character"))
}

fn not_an_object(text: &str, error: &serde_json::Error) -> ErrorBody {
    match json::kind(text) {
        kind @ ("an array" | "a string" | "a boolean" | "null" | "a number") => {
            refused("invalid_type", format!("the body: expected a JSON object, got {kind}"))
        }
        _ => refused("invalid_json", format!("the body is not JSON: {error}")),
    }
}

/// Where `part`, a slice of `whole`, lies in it.
fn span(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}
