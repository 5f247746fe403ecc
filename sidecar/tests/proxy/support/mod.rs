//! A router in process, scripted experts on free ports, and a client.

#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, reason = "each test file uses a part of this")]

mod client;
mod expert;
mod router;

use std::{future::Future, time::Duration};

pub use client::{Answer, Client};
pub use expert::{Expert, Seen, Step, chat, chunk, completion, events, json_response, response};
pub use router::{Router, budget, expert_json, snapshot};

/// Waits until something holds; fails after a time no healthy machine needs.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < until, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
