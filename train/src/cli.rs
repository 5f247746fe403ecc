//! The command line: one subcommand a step, its arguments in the step's own file.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{bench_quality, evaluate, fetch, fit, job, prepare, publish, run};

/// From queries and experts to a router that has earned its place.
#[derive(Debug, Parser)]
#[command(name = "expert-router-train", version, about, long_about = None)]
pub struct Cli {
    /// The step to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The steps, in the order in which `run` does them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Asks every expert every query and scores the answers.
    Prepare(prepare::PrepareArgs),
    /// Trains a router on outcomes and writes a bundle.
    Fit(fit::FitArgs),
    /// Compares a bundle with its experts on held-out outcomes.
    Evaluate(evaluate::EvaluateArgs),
    /// Prepare, fit and evaluate in one go, resumable, into one folder.
    Run(run::RunArgs),
    /// Puts a bundle, with its evaluation and report, to where serving finds it.
    Publish(publish::PublishArgs),
    /// Fetches a bundle from wherever it was published, checked, whole or not at all.
    Fetch(fetch::FetchArgs),
    /// The steps as Jobs of the operator do them.
    #[command(hide = true)]
    Job(job::JobArgs),
    /// Trains every kind of router on every pool of a folder of outcomes and compares them.
    #[command(hide = true)]
    BenchQuality(bench_quality::BenchQualityArgs),
}

impl Cli {
    /// Does the step. A failure is told on standard error, with what led to it; the exit code is then 1,
    /// or what [`prepare::Stopped`] says.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Prepare(arguments) => arguments.run(),
            Command::Fit(arguments) => arguments.run(),
            Command::Evaluate(arguments) => arguments.run(),
            Command::Run(arguments) => arguments.run(),
            Command::Publish(arguments) => arguments.run(),
            Command::Fetch(arguments) => arguments.run(),
            Command::Job(arguments) => arguments.run(),
            Command::BenchQuality(arguments) => arguments.run(),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                error.downcast_ref::<prepare::Stopped>().map_or(ExitCode::FAILURE, |stopped| stopped.exit_code().into())
            }
        }
    }
}
