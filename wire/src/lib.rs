//! The OpenAI-compatible wire: the fields we act on, the rest untouched; SSE; error bodies.
//!
//! In: bytes of requests and responses. Out: what the router acts on, and the bytes to send on, in which everything we do not act on
//! is as it came: numbers digit for digit, order of keys, unknown fields. Deliberately absent: I/O, and types for all of OpenAI's API.

pub mod answer;
pub mod described;
pub mod error;
mod json;
pub mod models;
pub mod request;
pub mod retry_after;
pub mod sse;
pub mod stored;
pub mod usage;

pub use described::Description;
pub use error::{ErrorBody, Kind};
pub use models::Model;
pub use request::{Endpoint, Inbound, Needs, Outbound, Prompt, Turn};
pub use retry_after::retry_after;
pub use usage::Usage;
