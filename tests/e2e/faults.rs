//! What breaks, and what is lost by it. Each fault is done under constant load, streamed and not, through gateway and sidecar; each request
//! is counted at its client and in the proxies' logs.

mod change;
mod crash;
mod experts;
mod training;

use anyhow::Result;

pub(crate) use change::sample;

use crate::{
    metering::Allowed,
    report::{Report, Row},
    stage::{FRAIL, Stage, gateway_url},
};

/// Something to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    GatewayRestarted,
    OperatorRestarted,
    ExpertRestarted(usize),
    ExpertKilled,
    NodeDrained,
    KubeletStopped,
    ApiServerStopped,
    OperatorAway,
    BadSnapshot,
    BadBundle,
    UpstreamFaults,
    SecretRotated,
    CertificateRotated,
    ChartUpgraded,
    SessionForgotten,
    TrainingOutOfMemory,
    ModelCacheFull,
}

use Fault::*;

impl Fault {
    /// In this order: the gentle ones first.
    const ALL: [Self; 18] = [
        GatewayRestarted,
        OperatorRestarted,
        ExpertRestarted(0),
        ExpertRestarted(1),
        ExpertKilled,
        UpstreamFaults,
        OperatorAway,
        BadSnapshot,
        BadBundle,
        SessionForgotten,
        SecretRotated,
        CertificateRotated,
        ChartUpgraded,
        TrainingOutOfMemory,
        ModelCacheFull,
        NodeDrained,
        KubeletStopped,
        ApiServerStopped,
    ];

    fn name(self) -> &'static str {
        match self {
            GatewayRestarted => "rolling restart of the gateway",
            OperatorRestarted => "rolling restart of the operator",
            ExpertRestarted(0) => "rolling restart of the expert in use",
            ExpertRestarted(_) => "rolling restart of the other expert",
            ExpertKilled => "Pods of both experts killed, one after the other",
            NodeDrained => "a node drained",
            KubeletStopped => "a node's kubelet stopped",
            ApiServerStopped => "the API server stopped",
            OperatorAway => "operator away while a price changes",
            BadSnapshot => "a broken snapshot",
            BadBundle => "a broken bundle",
            UpstreamFaults => "an expert answers 429, 500, hangs, closes, cuts",
            SecretRotated => "an expert's key rotated",
            CertificateRotated => "the webhook's certificate rotated",
            ChartUpgraded => "two upgrades of the chart in a row",
            SessionForgotten => "a conversation past its end",
            TrainingOutOfMemory => "a training Job out of memory",
            ModelCacheFull => "an expert's model cache is full",
        }
    }

    /// Streams are cut where the expert that sends them ends in the middle. Replayed experts, as many servers, end at once when they are
    /// told to.
    fn allowed(self) -> Allowed {
        Allowed { cut: matches!(self, ExpertRestarted(_) | ExpertKilled | NodeDrained | UpstreamFaults) }
    }

    /// What this cluster does not let us do.
    fn needs_own_cluster(self) -> bool {
        matches!(self, KubeletStopped | ApiServerStopped | BadBundle | ModelCacheFull)
    }

    async fn act(self, stage: &Stage<'_>) -> Result<String> {
        match self {
            GatewayRestarted => crash::gateway_restarted(stage).await,
            OperatorRestarted => crash::operator_restarted(stage).await,
            ExpertRestarted(expert) => experts::restarted(stage, expert).await,
            ExpertKilled => experts::killed(stage).await,
            NodeDrained => crash::node_drained(stage).await,
            KubeletStopped => crash::kubelet_stopped(stage).await,
            ApiServerStopped => crash::api_server_stopped(stage).await,
            OperatorAway => change::operator_away(stage).await,
            BadSnapshot => change::bad_snapshot(stage).await,
            BadBundle => change::bad_bundle(stage).await,
            UpstreamFaults => experts::upstream_faults(stage).await,
            SecretRotated => experts::secret_rotated(stage).await,
            CertificateRotated => change::certificate_rotated(stage).await,
            ChartUpgraded => change::chart_upgraded(stage).await,
            SessionForgotten => experts::session_forgotten(stage).await,
            TrainingOutOfMemory => training::out_of_memory(stage).await,
            ModelCacheFull => training::model_cache_full(stage).await,
        }
    }

    /// Before the load is counted.
    async fn prepare(self, stage: &Stage<'_>) -> Result<()> {
        match self {
            SecretRotated => experts::ask_first(stage, "keyed").await,
            _ => Ok(()),
        }
    }

    /// After it: everything is to be as it was.
    async fn finish(self, stage: &Stage<'_>) -> Result<()> {
        if self == SecretRotated {
            experts::ask_first(stage, "scripted").await?;
        }
        stage.settle().await
    }

    /// Does it under load, and counts.
    async fn run(self, stage: &Stage<'_>) -> Row {
        let mut load = Stage::usual(self.name());
        if matches!(self, UpstreamFaults | SecretRotated) {
            load.url = gateway_url(FRAIL);
        }
        let prepared = self.prepare(stage).await;
        let mut row = stage.phase(self.name(), load, self.allowed(), self.act(stage)).await;
        if self == UpstreamFaults && (row.tally.retried == 0 || row.tally.fallen_back == 0 || row.tally.cut == 0) {
            row.wrong.push("the script's faults were not met".into());
        }
        for (when, done) in [("before", prepared), ("afterwards", self.finish(stage).await)] {
            if let Err(error) = done {
                row.wrong.push(format!("{when}: {error:#}"));
            }
        }
        row
    }
}

/// Breaks one thing after another.
pub(crate) async fn run(stage: &Stage<'_>, report: &mut Report) {
    report.fault(stage.phase("nothing", Stage::usual("nothing"), Allowed::default(), quiet()).await);
    for fault in Fault::ALL {
        if fault.needs_own_cluster() && !stage.is_own() {
            report.skip(&format!("{}: needs a cluster that was brought up for the run", fault.name()));
            continue;
        }
        if stage.options.fault.as_ref().is_some_and(|wanted| !fault.name().contains(wanted.as_str())) {
            continue;
        }
        report.fault(fault.run(stage).await);
    }
}

/// The load alone, to compare with.
async fn quiet() -> Result<String> {
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    Ok(String::new())
}
