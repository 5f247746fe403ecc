//! `expert-router-train prepare` as a process, against experts that answer from a recording and fail by a script.
//!
//! What is asked of it: nothing is lost, nothing is paid for twice, no limit is passed, and every end says what it was.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod faults;
mod input;
mod interrupts;
mod money;
mod support;
