//! The load client: sends requests, and counts what becomes of each.

use std::process::ExitCode;

/// What it sends, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadOptions {}

/// Sends them.
pub(crate) fn run(_options: &LoadOptions) -> ExitCode {
    ExitCode::SUCCESS
}
