//! `expert-router-operator`: flags, log, signals, leadership; all else is the library.

use std::{
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
};

use clap::Parser;
use kube::Client;
use operator::{
    Config, Context, Flags,
    admin::{self, Health},
    config::LogFormat,
    controllers,
    leader::Election,
    metrics::Metrics,
    webhook,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Err(problem) = log(flags.log_format, &flags.log) {
        eprintln!("expert-router-operator: {problem}");
        return ExitCode::from(2);
    }
    let run = || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(run(flags.into()))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("expert-router-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = stop.clone();
    let (metrics, health) = (Arc::new(Metrics::default()), Arc::new(Health::default()));
    let ending = health.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
        }
        ending.stopping.store(true, Ordering::Relaxed);
        stopping.cancel();
    });
    let listener = TcpListener::bind(config.admin).await?;
    tokio::spawn(admin::serve(listener, metrics.clone(), health.clone()));
    let client = Client::try_default().await?;
    let context = Arc::new(Context::new(client.clone(), config.clone(), metrics.clone()));
    let ready = health.ready.clone();
    let (webhook_client, webhook_config, webhook_metrics) = (client.clone(), config.clone(), metrics.clone());
    let failing = stop.clone();
    let webhook = tokio::spawn(async move {
        let served = webhook::serve(webhook_client, &webhook_config, webhook_metrics, ready).await;
        // Without its webhook a replica is of no use: it ends, and whoever runs it sees why.
        failing.cancel();
        served
    });
    lead(&config, context, &metrics, &stop).await?;
    if webhook.is_finished() {
        webhook.await??;
    }
    Ok(())
}

/// Reconciles while this replica leads.
async fn lead(config: &Config, context: Arc<Context>, metrics: &Metrics, stop: &CancellationToken) -> anyhow::Result<()> {
    let Some(lease) = &config.lease else {
        metrics.leading.set(1);
        controllers::run(context, stop.clone()).await;
        return Ok(());
    };
    let mut election = Election::new(context.client.clone(), &config.namespace, lease, &config.identity);
    if !election.win(stop).await {
        return Ok(());
    }
    tracing::info!(identity = config.identity, "leading");
    metrics.leading.set(1);
    let ended = CancellationToken::new();
    let work = async {
        controllers::run(context, stop.clone()).await;
        ended.cancel();
    };
    // The Lease is held until the last reconcile is done, so that no two ever reconcile at once.
    let lost = tokio::select! {
        () = work => false,
        () = election.hold(&ended) => !ended.is_cancelled(),
    };
    anyhow::ensure!(!lost, "the Lease is lost: another replica leads");
    election.release().await;
    Ok(())
}

fn log(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    set.map_err(|error| error.to_string())
}
