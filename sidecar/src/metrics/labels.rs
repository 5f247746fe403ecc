//! Values of labels: closed sets, whose members are numbered in the order of their lists, so that counters can be looked up by number.

/// What was asked for, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointLabel {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `GET /v1/models`, with and without a name.
    Models,
    /// `POST /v1/route`
    Route,
    /// Any other path.
    Other,
}

impl EndpointLabel {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::ChatCompletions, Self::Completions, Self::Responses, Self::Embeddings, Self::Models, Self::Route, Self::Other];

    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Models => "models",
            Self::Route => "route",
            Self::Other => "other",
        }
    }
}

/// What came of one request to an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// 2xx.
    Ok,
    /// 4xx but 429: the request's fault, or this router's, which the expert does not let in.
    ClientError,
    /// 429.
    RateLimited,
    /// 5xx, a redirect, or a page for people.
    ServerError,
    /// No connection.
    Connect,
    /// No first byte, or no whole answer, in time.
    Timeout,
    /// Connection closed before an answer.
    Reset,
    /// It was empty, or broke off before any of it was passed on.
    Cut,
    /// The client went away first, or this process ended.
    Cancelled,
}

impl AttemptResult {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::ClientError,
        Self::RateLimited,
        Self::ServerError,
        Self::Connect,
        Self::Timeout,
        Self::Reset,
        Self::Cut,
        Self::Cancelled,
    ];

    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Cut => "cut",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why an answer broke off after it had begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutCause {
    /// The expert closed or broke the connection.
    Upstream,
    /// Nothing came for too long.
    Idle,
    /// The whole took too long.
    Total,
    /// The stream ended properly as HTTP but without its closing event.
    Unfinished,
}

impl CutCause {
    pub(super) const ALL: [Self; 4] = [Self::Upstream, Self::Idle, Self::Total, Self::Unfinished];

    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Idle => "idle",
            Self::Total => "total",
            Self::Unfinished => "unfinished",
        }
    }
}

/// OpenTelemetry's `gen_ai.operation.name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Chat and responses.
    Chat,
    /// Legacy completions.
    TextCompletion,
    /// Embeddings.
    Embeddings,
}

impl Operation {
    pub(super) const ALL: [Self; 3] = [Self::Chat, Self::TextCompletion, Self::Embeddings];

    /// Of an endpoint.
    #[must_use]
    pub fn of(endpoint: wire::Endpoint) -> Self {
        match endpoint {
            wire::Endpoint::ChatCompletions | wire::Endpoint::Responses => Self::Chat,
            wire::Endpoint::Completions => Self::TextCompletion,
            wire::Endpoint::Embeddings => Self::Embeddings,
        }
    }

    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::TextCompletion => "text_completion",
            Self::Embeddings => "embeddings",
        }
    }
}

#[cfg(test)]
mod tests {
    use routing::Reason;

    use super::*;

    #[test]
    fn reasons_results_and_causes_are_numbered_in_the_order_of_their_lists() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
        for (number, result) in AttemptResult::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, number);
        }
        for (number, cause) in CutCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, number);
        }
        for (number, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, number);
        }
    }
}
