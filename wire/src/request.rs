//! A request's body: parsed as far as we act on it, and written again for an expert.
//!
//! In: a body from a client. Out: the facts a route is chosen by, the text of the prompt, and the body for the chosen expert. The
//! client's bytes are kept and sliced, never rewritten as a whole: what we do not act on goes out as it came in.

#[cfg(test)]
mod fuzz;
mod items;
mod messages;
mod outbound;
mod parse;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, ops::Range, str};

use bytes::Bytes;

use crate::{ErrorBody, json};
pub(crate) use outbound::Edit;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// Chat: `messages` in, one or more messages out.
    ChatCompletions,
    /// Legacy completions: `prompt` in, its continuation out.
    Completions,
    /// The responses API: `instructions` and `input` in, a list of items out.
    Responses,
    /// Text in, vectors out. Never routed: vectors of two models do not compare.
    Embeddings,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 4] = [Self::ChatCompletions, Self::Completions, Self::Responses, Self::Embeddings];

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

    /// The endpoint of that path below the base URL.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }
}

/// What a request needs of an expert beyond text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Tools or functions are offered, or were called earlier in the conversation.
    pub tools: bool,
    /// There is an image.
    pub vision: bool,
    /// The answer has to be JSON, by a schema or not.
    pub json_schema: bool,
    /// Log-probabilities are asked for.
    pub logprobs: bool,
    /// Vectors are asked for.
    pub embeddings: bool,
}

/// One turn of a conversation, text parts joined by a line feed; images and other parts leave no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<'a> {
    /// As on the wire: `system`, `developer`, `user`, `assistant`, `tool`.
    pub role: Cow<'a, str>,
    /// Empty where a turn has none, as an assistant's that only calls tools.
    pub text: Cow<'a, str>,
}

/// The text of a request, in order. Which of it the router reads is the bundle's rule, not ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt<'a> {
    /// Oldest first.
    pub turns: Vec<Turn<'a>>,
}

/// A parsed request. Keeps its bytes; the fields point into them.
#[derive(Debug, Clone)]
pub struct Inbound {
    endpoint: Endpoint,
    /// UTF-8 and a JSON object: [`Inbound::parse`] has seen to that.
    body: Bytes,
    /// Key and value of each top-level member, in the client's order.
    members: Vec<(Range<usize>, Range<usize>)>,
    model: Option<String>,
    stream: bool,
    usage_asked: bool,
    max_output_tokens: Option<u64>,
    choices: u64,
    needs: Needs,
}

/// How a request is changed for an expert.
///
/// Order: overrides first, then `model`, then the messages, then the usage: so an override of `messages` is prepended to like the
/// client's own, and an override of `stream_options` cannot switch metering off.
#[derive(Debug, Clone, Copy)]
pub struct Outbound<'a> {
    /// Takes the place of the client's `model`.
    pub model_name: &'a str,
    /// Put before the client's messages: in chat as they are, in responses as the items that say the same. A system message of the client's stays, after these: the expert's
    /// instructions come first and the application's add to them. A responses request that continues a stored one
    /// (`previous_response_id`) gets none: they were there when it began. Legacy completions and embeddings have no messages.
    pub prepend_messages: &'a [serde_json::Value],
    /// Top-level fields that replace the client's where there is one, and are added where there is none. `null` takes the field out, as
    /// in a JSON merge patch. A limit on output also replaces the client's under its other name (`max_tokens`, `max_completion_tokens`).
    /// `model` and `stream` are not overridden: the first has a field of its own, the second is a promise to the client.
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
        parse::parse(endpoint, body)
    }

    /// As given to [`Inbound::parse`].
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Absent means `auto`.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The answer is wanted as a stream.
    #[must_use]
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// The client itself asked for `stream_options.include_usage`.
    #[must_use]
    pub fn usage_asked(&self) -> bool {
        self.usage_asked
    }

    /// `max_completion_tokens`, `max_tokens` or `max_output_tokens`. A negative one means no limit to several servers, and here.
    #[must_use]
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    /// `n`: answers wanted, 1 where it is absent. Each is generated, and paid for.
    #[must_use]
    pub fn choices(&self) -> u64 {
        self.choices
    }

    /// Top-level fields that are numbers, such as `temperature`; what is there and is none counts as absent.
    #[must_use]
    pub fn numbers<const N: usize>(&self, names: [&str; N]) -> [Option<f64>; N] {
        let members = self.members();
        names.map(|name| json::find(&members, name).filter(|json| json::kind(json) == "a number").and_then(|json| json.parse().ok()))
    }

    /// What the request needs of an expert beyond text.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// The text of the request: chat `messages`, legacy `prompt` (a string, or strings joined), responses `instructions` and `input`,
    /// embeddings `input`. What is given as token ids has no text.
    #[must_use]
    pub fn prompt(&self) -> Prompt<'_> {
        Prompt { turns: messages::turns(self) }
    }

    /// What stays the same while a conversation grows: its messages up to the first of the user's, roles and texts, other parts (images)
    /// as they are. The same conversation as a string and as a list of parts gives the same bytes. None where there is no user's message
    /// yet, for a conversation the server keeps (`previous_response_id`), and for endpoints without conversations.
    #[must_use]
    pub fn conversation_opening(&self) -> Option<Vec<u8>> {
        messages::opening(self)
    }

    /// The stored response that this one goes on from: only the server that keeps it can answer.
    #[must_use]
    pub fn previous_response_id(&self) -> Option<Cow<'_, str>> {
        if self.endpoint != Endpoint::Responses {
            return None;
        }
        json::find(&self.members(), "previous_response_id").and_then(json::text)
    }

    /// The body to send to an expert. The client's own bytes, not copied, where nothing changes.
    #[must_use]
    pub fn outbound(&self, change: &Outbound<'_>) -> Bytes {
        outbound::outbound(self, change)
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("parse refuses what is not UTF-8")
    }

    fn members(&self) -> json::Members<'_> {
        let text = self.text();
        self.members.iter().map(|(key, value)| (&text[key.clone()], &text[value.clone()])).collect()
    }
}
