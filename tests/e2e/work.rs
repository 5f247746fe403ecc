//! The run itself: a cluster, the loop, then whatever was asked for, one after the other. Whatever fails, the report of what went before
//! is written, and how things stand.

use std::process::ExitCode;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cluster::Cluster,
    collect,
    options::{Kind, Options},
    progress::say,
    report::Report,
    supervise::{FAILED, INTERRUPTED},
    trials, whole_loop,
};

/// Goes through it.
pub(crate) fn run(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.context("starting a runtime").and_then(|runtime| {
        let ended = runtime.block_on(parts(options));
        // A task that is still waiting for something that is gone would be waited for.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

async fn parts(options: &Options) -> Result<u8> {
    let interrupted = interrupted()?;
    tokio::pin!(interrupted);
    say("the cluster is brought up");
    let cluster = tokio::select! {
        cluster = Cluster::up(options) => cluster.context("bringing up the cluster")?,
        () = &mut interrupted => return Ok(INTERRUPTED),
    };
    let mut report = Report::new(options);
    let ended = tokio::select! {
        ended = in_order(&cluster, options, &mut report) => ended.map(|()| 0),
        () = &mut interrupted => Ok(INTERRUPTED),
    };
    report.write()?;
    if !matches!(ended, Ok(0)) {
        say("writing down how things stand");
        collect::collect(&cluster, options).await;
    }
    if let Err(error) = &ended {
        eprintln!("e2e: {error:#}");
    }
    if options.keep && !matches!(ended, Ok(INTERRUPTED)) {
        keep(options);
        interrupted.await;
    }
    cluster.down().await.context("taking down the cluster")?;
    Ok(ended.unwrap_or(FAILED))
}

async fn in_order(cluster: &Cluster, options: &Options, report: &mut Report) -> Result<()> {
    let installed = match options.without_loop {
        true => trials::without_loop(cluster, options).await.context("the chart")?,
        false => whole_loop::run(cluster, options, report).await.context("the loop")?,
    };
    trials::run(cluster, &installed, options, report).await
}

/// Ends when somebody asks the run to end.
fn interrupted() -> Result<impl Future<Output = ()>> {
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let [terminate, interrupt, hangup] = &mut signals;
    for signal in [&terminate, &interrupt, &hangup] {
        if let Err(error) = signal {
            anyhow::bail!("listening for signals: {error}");
        }
    }
    Ok(async move {
        let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = signals else { return };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

fn keep(options: &Options) {
    say("the cluster stays until this is interrupted (Ctrl-C)");
    if options.cluster == Kind::Own {
        let kubectl = parts::control_plane("kubectl").map(|path| path.display().to_string()).unwrap_or_default();
        let inside = "$(pgrep --oldest --full 'e2e first --group')";
        say(format!("sudo nsenter --target {inside} --all {kubectl} --kubeconfig /run/e2e/pki/administrator.kubeconfig get pods -A"));
    }
}
