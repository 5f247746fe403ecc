//! The JSON of whole answers, errors and lists in OpenAI's shapes. No streaming (see `events`), no I/O.

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::asked::{Asked, Endpoint};

/// What an answer is about, besides its text: the same for all its events.
pub(crate) struct About<'a> {
    pub(crate) answer: &'a Answer,
    pub(crate) asked: &'a Asked,
    /// The model's name in the response.
    pub(crate) model: &'a str,
    /// The number of the request, for the identifiers.
    pub(crate) number: usize,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Whether usage is told at all.
    pub(crate) usage: bool,
}

/// The whole answer, for a request that does not stream.
pub(crate) fn whole(endpoint: Endpoint, about: &About<'_>) -> Value {
    match endpoint {
        Endpoint::Completions => {
            let choice =
                json!({"index": 0, "text": about.answer.text, "logprobs": about.logprobs(&about.answer.pieces()), "finish_reason": "stop"});
            about.with_usage(about.head("cmpl", "text_completion", json!([choice])))
        }
        Endpoint::Responses => about.response("completed"),
        Endpoint::Embeddings => embeddings(about),
        _ => {
            let message = json!({"role": "assistant", "content": about.answer.text, "refusal": null});
            let logprobs = about.logprobs(&about.answer.pieces());
            let choice = json!({"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"});
            about.with_usage(about.head("chatcmpl", "chat.completion", json!([choice])))
        }
    }
}

impl About<'_> {
    /// The fields that begin every chat or completion object.
    pub(crate) fn head(&self, prefix: &str, object: &str, choices: Value) -> Value {
        json!({"id": format!("{prefix}-replay-{}", self.number), "object": object, "created": self.created, "model": self.model, "choices": choices})
    }

    /// The counts as chat and completions tell them.
    pub(crate) fn usage(&self) -> Value {
        let Answer { prompt_tokens: prompt, cached_tokens: cached, completion_tokens: completion, .. } = *self.answer;
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached}})
    }

    /// The log-probabilities of these tokens, or null where none are wanted.
    pub(crate) fn logprobs(&self, tokens: &[&str]) -> Value {
        if !self.asked.logprobs {
            return Value::Null;
        }
        let entry = |token: &&str| json!({"token": token, "logprob": self.answer.logprob, "bytes": token.as_bytes(), "top_logprobs": []});
        json!({"content": tokens.iter().map(entry).collect::<Vec<_>>()})
    }

    /// A response object of the Responses API in that state.
    pub(crate) fn response(&self, status: &str) -> Value {
        let done = status == "completed";
        let output = if done { json!([self.response_item("completed")]) } else { json!([]) };
        let mut made = json!({"id": format!("resp-replay-{}", self.number), "object": "response", "created_at": self.created,
            "status": status, "error": null, "incomplete_details": null, "model": self.model, "output": output,
            "parallel_tool_calls": true, "tool_choice": "auto", "tools": []});
        if done && self.usage {
            let Answer { prompt_tokens: prompt, cached_tokens: cached, completion_tokens: completion, .. } = *self.answer;
            made["usage"] = json!({"input_tokens": prompt, "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": completion, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": prompt + completion});
        }
        made
    }

    /// The message inside a response object.
    pub(crate) fn response_item(&self, status: &str) -> Value {
        let content = if status == "completed" { json!([self.response_part(&self.answer.text)]) } else { json!([]) };
        json!({"id": format!("msg-replay-{}", self.number), "type": "message", "role": "assistant", "status": status, "content": content})
    }

    /// The text part inside that message.
    pub(crate) fn response_part(&self, text: &str) -> Value {
        json!({"type": "output_text", "text": text, "annotations": []})
    }

    fn with_usage(&self, mut object: Value) -> Value {
        if self.usage {
            object["usage"] = self.usage();
        }
        object
    }
}

/// Vectors that depend on nothing but their place: whoever compares meanings needs a real server.
fn embeddings(about: &About<'_>) -> Value {
    let vector = |index: usize| (0..16).map(|place| ((index + place) as f64 * 0.7).sin() / 4.0).collect::<Vec<_>>();
    let entry = |index| json!({"object": "embedding", "index": index, "embedding": vector(index)});
    let mut made = json!({"object": "list", "model": about.model, "data": (0..about.asked.inputs).map(entry).collect::<Vec<_>>()});
    if about.usage {
        made["usage"] = json!({"prompt_tokens": about.answer.prompt_tokens, "total_tokens": about.answer.prompt_tokens});
    }
    made
}

/// An error in OpenAI's shape.
pub(crate) fn error(code: u16, message: &str) -> Value {
    let kind = match code {
        401 => "authentication_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code.to_string()}})
}

/// The list of models.
pub(crate) fn models<'a>(names: impl Iterator<Item = &'a str>) -> Value {
    let data: Vec<_> = names.map(|name| json!({"id": name, "object": "model", "created": 0, "owned_by": "replay"})).collect();
    json!({"object": "list", "data": data})
}
