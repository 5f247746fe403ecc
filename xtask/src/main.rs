//! The project's own tasks. The Makefile names them; anything longer than a line lives here.
//!
//! A task that needs more than what fetching needs stands behind a feature of its name, so that a fresh clone fetches within seconds.

#[cfg(feature = "audit")]
mod audit;
#[cfg(feature = "bench")]
mod bench;
mod collector;
#[cfg(feature = "definitions")]
mod definitions;
#[cfg(feature = "demo")]
mod demo;
mod fetch;
#[cfg(feature = "generate")]
mod generate;
mod go;
#[cfg(feature = "images")]
mod images;
mod kubernetes;
mod nodes;
mod prometheus;

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
    /// Build Kubernetes' control plane for the tests into the user's cache folder
    Kubernetes(kubernetes::Arguments),
    /// Build what makes a node for the end-to-end run (kubelet, containerd, CoreDNS ...) into the user's cache folder
    Nodes,
    /// Build OpenTelemetry's Collector for the tests into the user's cache folder, where PATH lacks it
    Collector,
    /// Build Prometheus and promtool for the tests into the user's cache folder, where PATH lacks them
    Prometheus(prometheus::Arguments),
    /// Fetch the definitions (CRDs) of other projects that the tests of the cluster install
    #[cfg(feature = "definitions")]
    Definitions,
    /// Pack the three images as OCI archives, without a container engine
    #[cfg(feature = "images")]
    Images(images::Arguments),
    /// Check licences and sources of all dependencies
    #[cfg(feature = "audit")]
    Audit(audit::Arguments),
    /// Measure added latency, throughput, memory and start-up
    #[cfg(feature = "bench")]
    Bench(bench::Arguments),
    /// The whole loop on real answers: ask experts, score, train, evaluate, serve, show what it saves
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    /// Write the files that are made from code, or check that they are up to date
    #[cfg(feature = "generate")]
    Generate(generate::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Fetch(arguments) => fetch::run(&arguments),
        Task::Kubernetes(arguments) => kubernetes::run(&arguments),
        Task::Nodes => nodes::run(),
        Task::Collector => collector::run(),
        Task::Prometheus(arguments) => prometheus::run(&arguments),
        #[cfg(feature = "definitions")]
        Task::Definitions => definitions::run(),
        #[cfg(feature = "images")]
        Task::Images(arguments) => images::run(&arguments),
        #[cfg(feature = "audit")]
        Task::Audit(arguments) => audit::run(&arguments),
        #[cfg(feature = "bench")]
        Task::Bench(arguments) => bench::run(&arguments),
        #[cfg(feature = "demo")]
        Task::Demo(arguments) => demo::run(&arguments),
        #[cfg(feature = "generate")]
        Task::Generate(arguments) => generate::run(&arguments),
    }
}

/// The folder of the workspace.
#[cfg(any(feature = "audit", feature = "bench", feature = "demo", feature = "generate"))]
fn workspace() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(ToOwned::to_owned).unwrap_or_default()
}
