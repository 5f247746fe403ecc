//! What became of one request, as its client saw it. The Pod that sends and the process that counts share these types.

use serde::{Deserialize, Serialize};

/// How a request ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Whole and valid.
    Answered,
    /// An error, or nothing at all, instead of an answer: lost before its first byte.
    Failed,
    /// Not a byte came on a connection that had answered before: the server closed it while the request was on its way. HTTP leaves it to
    /// clients whether they send such a request again, and most do. Counted by itself, for nothing was lost that such a client would miss.
    Raced,
    /// Broke off after its first byte, and the client could see that: by an error event or a broken transfer.
    Cut,
    /// Seemed to end well and is not whole. Never to happen.
    Silent,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Sent as `x-request-id`; the proxies log it.
    pub(crate) id: String,
    /// What was going on when it was sent.
    pub(crate) phase: String,
    /// When it was sent, milliseconds since 1970.
    pub(crate) sent_at: u64,
    /// A stream was asked for.
    pub(crate) stream: bool,
    /// Connections were kept between requests.
    pub(crate) kept: bool,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// The response's status; 0 without one.
    pub(crate) status: u16,
    /// `error.code` of the router's errors, or what went wrong.
    pub(crate) detail: String,
    /// Who answered, by the router's header.
    pub(crate) expert: String,
    /// Why, likewise.
    pub(crate) reason: String,
    /// What it cost, likewise.
    pub(crate) cost_usd: Option<f64>,
    /// Tokens of prompt and answer, where the answer told.
    pub(crate) tokens: Option<(u64, u64)>,
    /// To the first byte of the body.
    pub(crate) first_byte_ms: f64,
    /// To the end.
    pub(crate) total_ms: f64,
}
