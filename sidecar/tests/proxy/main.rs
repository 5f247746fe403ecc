//! The proxy whole: in process, and as the binary, before experts that do as they are told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop where it is")]

mod support;

mod answers;
mod aside;
mod forwarding;
mod health;
mod limits;
mod metering;
mod odd;
mod process;
mod reload;
mod routing;
mod sessions;
mod streaming;
mod transport;
