//! `expert-router-train`: from queries and experts to a router that has earned its place.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    train::cli::Cli::parse().run()
}
