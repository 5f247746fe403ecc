//! `expert-router-train`: from queries and experts to a router that has earned its place.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    refuse_telemetry();
    train::cli::Cli::parse().run()
}

/// ONNX Runtime's own builds tell their maker of processes and models, from before the moment an interface lets one refuse. Unless this is
/// set when they are loaded.
#[expect(unsafe_code, reason = "the first thing that main does: no other thread could read the environment meanwhile")]
fn refuse_telemetry() {
    // SAFETY: there is one thread.
    unsafe {
        std::env::set_var("ORT_DISABLE_TELEMETRY", "1");
    }
}
