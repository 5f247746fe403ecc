//! The outside of a run: checks what it needs, makes the namespaces, passes signals on, and leaves nothing behind.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    cluster::Cluster,
    faults, live,
    options::{Options, Part},
    privilege, report, soak, whole_loop,
};

/// A check failed.
const FAILED: u8 = 1;
/// It cannot run here: what is missing was said.
pub(crate) const CANNOT: u8 = 3;

/// Runs everything that is asked for.
pub(crate) fn run(options: &Options) -> ExitCode {
    work(options)
}

/// The run itself, in the namespaces that were made for it.
pub(crate) fn work(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(parts(options)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

async fn parts(options: &Options) -> Result<()> {
    let cluster = Cluster::up(options).await?;
    let mut report = report::Report::new(options);
    let ended = in_order(&cluster, options, &mut report).await;
    report.write()?;
    cluster.down().await?;
    ended
}

async fn in_order(cluster: &Cluster, options: &Options, report: &mut report::Report) -> Result<()> {
    let installed = whole_loop::run(cluster, options, report).await?;
    if options.asks_for(Part::Privilege) {
        privilege::run(cluster, &installed, report).await?;
    }
    if options.asks_for(Part::Live) {
        live::run(cluster, &installed, report).await?;
    }
    if options.asks_for(Part::Faults) {
        faults::run(cluster, &installed, report).await?;
    }
    if options.asks_for(Part::Soak) {
        soak::run(cluster, &installed, options, report).await?;
    }
    Ok(())
}
