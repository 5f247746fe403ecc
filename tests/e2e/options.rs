//! What can be asked for.

use std::{ffi::OsString, fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

/// The whole loop on a real cluster, under load and under faults.
#[derive(Debug, Parser)]
#[command(name = "e2e", args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// Further roles of this program.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Send requests and count what becomes of each (runs in a Pod)
    Load(crate::load::LoadOptions),
    /// Answer requests once a file is written (runs in a Pod)
    Expert(crate::expert::ExpertOptions),
    /// The run itself, in the namespaces that were made for it
    #[command(hide = true)]
    Work(Options),
    /// The first process of those namespaces
    #[command(hide = true)]
    First(First),
}

/// What the first process of the namespaces runs.
#[derive(Debug, clap::Args)]
pub(crate) struct First {
    /// The control groups to remove at the end
    #[arg(long)]
    pub(crate) group: String,
    /// The run's folder
    #[arg(long)]
    pub(crate) work: PathBuf,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

/// How a run goes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Where the cluster comes from
    #[arg(long, env = "E2E_CLUSTER", value_name = "KIND", default_value = "own")]
    pub(crate) cluster: Kind,
    /// Only these parts; the loop is always gone through first, for the others need what it leaves
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub(crate) only: Vec<Part>,
    /// How long the mixed load goes on
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    pub(crate) soak_minutes: u32,
    /// Leave the loop out: only the chart is installed, and tried
    #[arg(long)]
    pub(crate) without_loop: bool,
    /// How often each kind of change is timed
    #[arg(long, value_name = "TIMES", default_value_t = 10)]
    pub(crate) live_times: u32,
    /// How long the API server is away
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) api_server_seconds: u32,
    /// Of the faults, only those with this in their names
    #[arg(long, value_name = "WORDS")]
    pub(crate) fault: Option<String>,
    /// Leave the cluster standing at the end until interrupted
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where the report, and after a failure logs, events and states go
    #[arg(long, value_name = "FOLDER", default_value = "target/e2e")]
    pub(crate) output: PathBuf,
    /// Where the archives of the images are
    #[arg(long, value_name = "FOLDER", default_value = "target/images")]
    pub(crate) images: PathBuf,
    /// What stands before the images' names
    #[arg(long, value_name = "REGISTRY", default_value = "localhost")]
    pub(crate) repository: String,
    /// The control groups of the nodes, set by the process that supervises the run
    #[arg(long, hide = true)]
    pub(crate) group: Option<String>,
}

/// Where a cluster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Brought up for the run, in namespaces of its own.
    Own,
    /// That of `KUBECONFIG`.
    Existing,
}

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// From two manifests to requests routed by what was trained.
    Loop,
    /// Who may do what.
    Privilege,
    /// How soon a change decides requests.
    Live,
    /// What breaks, and what is lost by it.
    Faults,
    /// A long mixed load.
    Soak,
}

impl Options {
    /// Whether this part is asked for.
    pub(crate) fn asks_for(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Where the programs of an own cluster, and the containers, write what they say.
    pub(crate) fn logs(&self) -> Result<PathBuf> {
        let logs = self.output.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        logs.canonicalize().with_context(|| format!("finding {}", logs.display()))
    }
}
