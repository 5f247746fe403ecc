//! The project's own tasks. The Makefile names them; anything longer than a line lives here.

mod fetch;

use clap::{Parser, Subcommand};

/// Tasks of this repository: what the Makefile calls.
#[derive(Debug, Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Fetch third-party files, pinned by version and hash, into the user's cache folder
    Fetch(fetch::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Fetch(arguments) => fetch::run(&arguments),
    }
}
