//! What a cluster does with our objects: a real API server, real controllers, the operator with no more rights than the chart gives it.
//! One server for all tests here, a namespace for each.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod chart;
mod crds;
mod examples;
mod operator;
mod rules;
mod scale;
mod seen;
mod training;
