//! The operator as a process of this machine, with the token of the service account that the chart made and with what the chart's
//! Deployment tells it: never as administrator. Nodes are not needed for that.

use std::{net::TcpListener, process::Command, time::Duration};

use anyhow::{Context, Result};

use super::Release;
use crate::{Metrics, client, eventually, process::Process};

/// Starting takes a second; a machine busy with other tests takes longer.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// What tells one replica from another.
#[derive(Debug, Clone)]
pub struct OperatorOptions<'a> {
    /// The binary.
    pub binary: &'a str,
    /// What a Pod's name would be.
    pub identity: &'a str,
    /// Where the webhook listens, which has to be what `webhook.url` of the chart says.
    pub webhook_port: Option<u16>,
    /// Further environment, beyond the chart's.
    pub environment: &'a [(&'a str, &'a str)],
}

/// A running replica.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    admin: String,
}

impl Release<'_> {
    /// Starts a replica of the operator and waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&self, options: &OperatorOptions<'_>) -> Result<Operator> {
        let namespace = self.namespace;
        let kubeconfig =
            namespace.cluster.kubeconfig(&format!("{}-{}", namespace.name, options.identity), &self.token().await?, &namespace.name)?;
        let admin = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(options.binary);
        command.envs(self.environment()).env("KUBECONFIG", kubeconfig);
        let set = |name: &str| format!("EXPERT_ROUTER_OPERATOR_{name}");
        command.env(set("NAMESPACE"), &namespace.name).env(set("IDENTITY"), options.identity).env(set("ADMIN"), &admin);
        match options.webhook_port {
            Some(port) => {
                command.env(set("WEBHOOK_LISTEN"), format!("127.0.0.1:{port}")).env(set("WEBHOOK_SERVICE"), "127.0.0.1");
            }
            None => drop(command.env_remove(set("WEBHOOK_LISTEN"))),
        }
        command.envs(options.environment.iter().copied());
        let process = Process::start_guarded(&format!("operator {}", options.identity), &command)?;
        let mut operator = Operator { process, admin };
        let ready = eventually("the operator is ready", START_PATIENCE, async || Ok(operator.answers("readyz").await));
        match ready.await {
            Ok(()) => Ok(operator),
            Err(error) => Err(error).with_context(|| format!("the operator says ({:?}):\n{}", operator.process.ended(), operator.log())),
        }
    }
}

impl Operator {
    /// Whether the admin port says yes.
    pub async fn answers(&self, page: &str) -> bool {
        let Ok(client) = client() else { return false };
        client.get(format!("http://{}/{page}", self.admin)).send().await.is_ok_and(|response| response.status().is_success())
    }

    /// What it counts.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        Metrics::read(&format!("http://{}/metrics", self.admin)).await
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// The operating system does not let us.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it to end, as Kubernetes does, and waits until it has.
    ///
    /// # Errors
    /// It goes on.
    pub async fn terminate(&mut self) -> Result<()> {
        self.process.terminate()?;
        let process = &mut self.process;
        eventually("the operator ends when it is asked to", START_PATIENCE, async || Ok(process.ended()?.is_some())).await
    }

    /// Its last log lines.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// A port nobody has just now.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).context("asking for a free port")?.port())
}
