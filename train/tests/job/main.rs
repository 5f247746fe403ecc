//! Training as Jobs do it, by the binary, and bundles on their way to those who serve: over disks, the web, and an object store's protocol.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may panic as tests do")]

mod places;
mod server;
mod steps;
