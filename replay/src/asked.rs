//! What a request asks: endpoint, model, prompt, streaming. Only the fields that change the answer are read.

use http::Method;
use serde::Deserialize;
use serde_json::Value;

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `GET /v1/models`
    Models,
    /// `GET /health`
    Health,
}

/// The fields of a request that an answer depends on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// The `model` field.
    pub model: String,
    /// The last user message, or the prompt.
    pub prompt: String,
    /// Whether the answer shall come as events.
    pub stream: bool,
    /// Whether a last event shall bear the usage.
    pub include_usage: bool,
    /// Whether each token's log-probability is wanted.
    pub logprobs: bool,
    /// How many texts shall be embedded.
    pub inputs: usize,
}

impl Endpoint {
    /// The endpoint of that path (with or without `/v1`), or why there is none: the status to answer with.
    pub fn of(method: &Method, path: &str) -> Result<Self, u16> {
        let (endpoint, expected) = match path.strip_prefix("/v1").unwrap_or(path) {
            "/chat/completions" => (Endpoint::Chat, Method::POST),
            "/completions" => (Endpoint::Completions, Method::POST),
            "/responses" => (Endpoint::Responses, Method::POST),
            "/embeddings" => (Endpoint::Embeddings, Method::POST),
            "/models" => (Endpoint::Models, Method::GET),
            "/health" => (Endpoint::Health, Method::GET),
            _ => return Err(404),
        };
        if *method == expected { Ok(endpoint) } else { Err(405) }
    }
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    model: String,
    #[serde(default)]
    messages: Vec<Value>,
    #[serde(default)]
    prompt: Value,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    logprobs: Value,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl Asked {
    /// Reads a request's body.
    pub fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Self, serde_json::Error> {
        let body: Body = serde_json::from_slice(body)?;
        let prompt = match endpoint {
            Endpoint::Chat => last_user_text(&body.messages),
            Endpoint::Completions => text_of(&body.prompt),
            _ => text_of(&body.input).or_else(|| last_user_text(body.input.as_array()?)),
        };
        Ok(Asked {
            model: body.model,
            prompt: prompt.unwrap_or_default(),
            stream: body.stream.unwrap_or(false),
            include_usage: body.stream_options.is_some_and(|options| options.include_usage),
            // A flag on chat, a number on completions.
            logprobs: body.logprobs.as_bool().unwrap_or_else(|| body.logprobs.is_number()),
            // An array of numbers is one text, given as tokens.
            inputs: body.input.as_array().filter(|inputs| !inputs.iter().any(Value::is_number)).map_or(1, Vec::len),
        })
    }
}

/// The text of the last message a user wrote.
pub(crate) fn last_user_text(messages: &[Value]) -> Option<String> {
    let last = messages.iter().rev().find(|message| message["role"] == "user")?;
    text_of(&last["content"])
}

/// A string, or the texts of content parts joined by line ends.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Vec<_> = parts.iter().filter_map(|part| part.as_str().or_else(|| part["text"].as_str())).collect();
            if texts.is_empty() { None } else { Some(texts.join("\n")) }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(endpoint: Endpoint, body: &str, prompt: &str, stream: bool) {
        let asked = Asked::parse(endpoint, body.as_bytes()).unwrap();
        assert_eq!((asked.prompt.as_str(), asked.stream), (prompt, stream), "{body}");
    }

    #[test]
    fn the_prompt_is_the_last_user_message_wherever_it_stands() {
        check(
            Endpoint::Chat,
            r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":"c"}]}"#,
            "b",
            false,
        );
        check(
            Endpoint::Chat,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"},{"type":"text","text":"b"}]}]}"#,
            "a\nb",
            false,
        );
        check(Endpoint::Completions, r#"{"prompt":["a"],"stream":true}"#, "a", true);
        check(Endpoint::Responses, r#"{"input":"a","stream":null}"#, "a", false);
        check(Endpoint::Responses, r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]}]}"#, "a", false);
        check(Endpoint::Chat, r#"{"messages":[]}"#, "", false);
    }

    #[test]
    fn paths_and_methods_are_told_apart() {
        assert_eq!(Endpoint::of(&Method::POST, "/v1/chat/completions"), Ok(Endpoint::Chat));
        assert_eq!(Endpoint::of(&Method::POST, "/chat/completions"), Ok(Endpoint::Chat));
        assert_eq!(Endpoint::of(&Method::GET, "/v1/chat/completions"), Err(405));
        assert_eq!(Endpoint::of(&Method::GET, "/v1/nothing"), Err(404));
    }
}
