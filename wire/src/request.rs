//! A request's body: parsed as far as we act on it, and written again for an expert.

use std::borrow::Cow;

use bytes::Bytes;

use crate::ErrorBody;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    ChatCompletions,
    Completions,
    Responses,
    Embeddings,
}

impl Endpoint {
    /// Below the base URL: `/chat/completions`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Responses => "/responses",
            Self::Embeddings => "/embeddings",
        }
    }
}

/// What a request needs of an expert beyond text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    pub tools: bool,
    pub vision: bool,
    pub json_schema: bool,
    pub logprobs: bool,
    pub embeddings: bool,
}

/// One turn of a conversation, text parts joined by a line feed; images and other parts leave no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<'a> {
    /// As on the wire: `system`, `developer`, `user`, `assistant`, `tool`.
    pub role: Cow<'a, str>,
    pub text: Cow<'a, str>,
}

/// The text of a request, in order. Which of it the router reads is the bundle's rule, not ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt<'a> {
    pub turns: Vec<Turn<'a>>,
}

/// A parsed request. Keeps its bytes; the fields point into them.
#[derive(Debug, Clone)]
pub struct Inbound {
    endpoint: Endpoint,
    body: Bytes,
    model: Option<String>,
    stream: bool,
    usage_asked: bool,
    max_output_tokens: Option<u64>,
    needs: Needs,
}

/// How a request is changed for an expert.
#[derive(Debug, Clone, Copy)]
pub struct Outbound<'a> {
    /// Takes the place of the client's `model`.
    pub model_name: &'a str,
    /// Put before the client's messages (chat, responses) as they are.
    pub prepend_messages: &'a [serde_json::Value],
    /// Top-level fields that replace the client's.
    pub body_overrides: &'a serde_json::Map<String, serde_json::Value>,
    /// Ask a stream for its usage (chat and completions), keeping the client's other `stream_options`.
    pub ask_usage: bool,
}

impl Inbound {
    /// Parses and checks the fields we act on.
    ///
    /// # Errors
    /// An error body for status 400 that names the field and what is expected.
    pub fn parse(endpoint: Endpoint, body: Bytes) -> Result<Self, ErrorBody> {
        Ok(Self { endpoint, body, model: None, stream: false, usage_asked: false, max_output_tokens: None, needs: Needs::default() })
    }

    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Absent means `auto`.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    #[must_use]
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// The client itself asked for `stream_options.include_usage`.
    #[must_use]
    pub fn usage_asked(&self) -> bool {
        self.usage_asked
    }

    /// `max_completion_tokens`, `max_tokens` or `max_output_tokens`.
    #[must_use]
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    #[must_use]
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// The text of the request: chat `messages`, legacy `prompt` (a string, or strings joined), responses `instructions` and `input`,
    /// embeddings `input`.
    #[must_use]
    pub fn prompt(&self) -> Prompt<'_> {
        Prompt::default()
    }

    /// The body to send to an expert.
    #[must_use]
    pub fn outbound(&self, change: &Outbound<'_>) -> Bytes {
        let _ = change;
        self.body.clone()
    }
}
