//! Tokens counted by the expert's server, wherever a response carries them.

/// As the server said, chat (`prompt_tokens`..) and responses (`input_tokens`..) spellings alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// The part of `prompt_tokens` that came from the server's cache.
    pub cached_tokens: u64,
}

impl Usage {
    /// The usage of a whole (not streamed) response body, if it has one that makes sense.
    #[must_use]
    pub fn of_body(body: &[u8]) -> Option<Self> {
        let _ = body;
        None
    }
}
