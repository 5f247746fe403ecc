//! Errors in OpenAI's shape, so that every OpenAI client raises its own exception type for them.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::Endpoint;

/// What went wrong, as far as a client acts on it: it fixes both the HTTP status and OpenAI's `error.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request's bytes are not what the endpoint expects.
    InvalidRequest,
    /// No client key, or an unknown one.
    Authentication,
    /// The client key is known, but may not do this.
    Permission,
    /// No such path or model.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The client took too long to send its request.
    RequestTimeout,
    /// The body is over the cap.
    PayloadTooLarge,
    /// A limit or a budget is used up.
    RateLimit,
    /// Our own fault.
    Server,
    /// An expert broke off, or answered something that is not HTTP.
    BadGateway,
    /// No expert is able to take the request now.
    Unavailable,
    /// An expert did not answer in time.
    Timeout,
}

impl Kind {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Authentication => 401,
            Self::Permission => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::PayloadTooLarge => 413,
            Self::RateLimit => 429,
            Self::Server => 500,
            Self::BadGateway => 502,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// What a status means, for errors of others that have to be put into words here.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Authentication,
            403 => Self::Permission,
            404 => Self::NotFound,
            405 => Self::MethodNotAllowed,
            408 => Self::RequestTimeout,
            413 => Self::PayloadTooLarge,
            429 => Self::RateLimit,
            502 => Self::BadGateway,
            503 => Self::Unavailable,
            504 => Self::Timeout,
            ..500 => Self::InvalidRequest,
            _ => Self::Server,
        }
    }

    /// OpenAI's `error.type`.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::InvalidRequest | Self::NotFound | Self::MethodNotAllowed | Self::RequestTimeout | Self::PayloadTooLarge => {
                "invalid_request_error"
            }
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::RateLimit => "rate_limit_error",
            Self::Server | Self::BadGateway => "server_error",
            Self::Unavailable => "service_unavailable_error",
            Self::Timeout => "timeout_error",
        }
    }
}

/// `{"error": {"message", "type", "param", "code"}}`. Messages carry no secret and no prompt text beyond a field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody {
    /// Fixes status and `type`.
    pub kind: Kind,
    /// A sentence a person can act on.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// Machine-readable, snake case.
    pub code: Option<&'static str>,
}

impl ErrorBody {
    /// An error that no single field is at fault for.
    #[must_use]
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, code: Some(code) }
    }

    /// The same error, blamed on `field`.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { param: Some(field.into()), ..self }
    }

    /// 404 for a model that is neither the router nor one of its experts. The name is the client's own and is shortened.
    #[must_use]
    pub fn unknown_model(model: &str) -> Self {
        let shown: String = model.chars().filter(|c| !c.is_control()).take(SHOWN_NAME_CHARS).collect();
        Self::new(Kind::NotFound, "model_not_found", format!("the model `{shown}` does not exist; GET /v1/models lists those that do"))
            .at("model")
    }

    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    /// As JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        json!({"error": self.fields()}).to_string().into()
    }

    /// As the last event of a stream whose 200 has long been sent. Clients raise it as an error; no `[DONE]` follows.
    #[must_use]
    pub fn to_event(&self, endpoint: Endpoint) -> Bytes {
        if endpoint != Endpoint::Responses {
            return format!("data: {}\n\n", json!({"error": self.fields()})).into();
        }
        let mut event = json!({"type": "error"});
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, self.fields()) {
            event.extend(fields.into_iter().filter(|(name, _)| name != "type"));
        }
        format!("event: error\ndata: {event}\n\n").into()
    }

    fn fields(&self) -> Value {
        json!({"message": self.message, "type": self.kind.type_name(), "param": self.param, "code": self.code})
    }
}

/// A model name from a client is echoed so far, which is enough to recognise it and too little to fill a log.
const SHOWN_NAME_CHARS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_has_openai_shape_and_every_field() {
        let error = ErrorBody::new(Kind::InvalidRequest, "invalid_type", "`messages`: expected an array").at("messages");
        let expect = r#"{"error":{"message":"`messages`: expected an array","type":"invalid_request_error","param":"messages","code":"invalid_type"}}"#;
        assert_eq!(error.to_bytes(), expect);
        assert_eq!(error.status(), 400);
    }

    #[test]
    fn missing_param_and_code_are_null() {
        let error = ErrorBody { kind: Kind::Timeout, message: "slow".into(), param: None, code: None };
        assert_eq!(error.to_bytes(), r#"{"error":{"message":"slow","type":"timeout_error","param":null,"code":null}}"#);
        assert_eq!(error.status(), 504);
    }

    #[test]
    fn event_is_one_event_in_each_dialect() {
        let error = ErrorBody::new(Kind::BadGateway, "upstream_broke_off", "line one\nline two");
        let chat = error.to_event(Endpoint::ChatCompletions);
        assert_eq!(
            chat,
            "data: {\"error\":{\"message\":\"line one\\nline two\",\"type\":\"server_error\",\"param\":null,\"code\":\"upstream_broke_off\"}}\n\n"
        );
        let responses = error.to_event(Endpoint::Responses);
        assert_eq!(
            responses,
            "event: error\ndata: {\"type\":\"error\",\"message\":\"line one\\nline two\",\"param\":null,\"code\":\"upstream_broke_off\"}\n\n"
        );
    }

    #[test]
    fn every_status_of_an_error_has_a_kind_and_kinds_keep_their_own() {
        for status in 400..600 {
            let kind = Kind::of_status(status);
            assert_eq!(kind.status() / 100, status / 100, "{status}");
            assert_eq!(Kind::of_status(kind.status()), kind, "{status}");
        }
    }

    #[test]
    fn unknown_model_is_echoed_short_and_without_control_characters() {
        let error = ErrorBody::unknown_model(&format!("gpt\n{}", "x".repeat(5000)));
        assert_eq!(error.status(), 404);
        assert!(error.message.len() < 200, "{}", error.message);
        assert!(error.message.starts_with("the model `gptxxx"));
    }
}
