//! Errors in OpenAI's shape.

use bytes::Bytes;

/// OpenAI's `error.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    InvalidRequest,
    Authentication,
    NotFound,
    RateLimit,
    Server,
    Unavailable,
    Timeout,
}

/// `{"error": {"message", "type", "param", "code"}}`. Messages carry no secret and no prompt text beyond a field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody {
    pub kind: Kind,
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// Machine-readable, snake case.
    pub code: Option<&'static str>,
}

impl ErrorBody {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.kind {
            Kind::InvalidRequest => 400,
            Kind::Authentication => 401,
            Kind::NotFound => 404,
            Kind::RateLimit => 429,
            Kind::Server => 500,
            Kind::Unavailable => 503,
            Kind::Timeout => 504,
        }
    }

    /// As JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        Bytes::new()
    }
}
