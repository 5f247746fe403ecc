//! The `expert-router` binary with a manifest.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{Metrics, binary, client, process::Process};

/// Starting takes milliseconds; a machine busy with other tests takes longer.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A running router.
#[derive(Debug)]
pub struct Router {
    process: Process,
    listen: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Router {
    /// Builds the binary if need be, starts it with this manifest and waits until it is ready.
    ///
    /// # Errors
    /// It does not build, start, or take the manifest.
    pub async fn start(manifest: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("making a folder")?;
        let file = folder.path().join("router.yaml");
        fs::write(&file, manifest).context("writing the manifest")?;
        let [listen, admin] = free_addresses()?;
        let mut command = Command::new(binary::expert_router()?);
        command.arg("--manifest").arg(&file).args(["--listen", &listen.to_string(), "--admin", &admin.to_string()]);
        let process = Process::start("expert-router", &mut command)?;
        let mut router = Self { process, listen, admin, folder };
        router.wait().await?;
        Ok(router)
    }

    /// What OpenAI's clients call `base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.listen)
    }

    /// The manifest's file, to change it.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.folder.path().join("router.yaml")
    }

    /// What it counts.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        Metrics::read(&format!("http://{}/metrics", self.admin)).await
    }

    async fn wait(&mut self) -> Result<()> {
        let client = client()?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let ready = client.get(format!("http://{}/readyz", self.admin)).send().await;
            if ready.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.process.ended()? {
                bail!("expert-router ended ({status}):\n{}", self.process.log());
            }
            if Instant::now() > deadline {
                bail!("expert-router is not ready after {START_PATIENCE:?}:\n{}", self.process.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Two ports that were free just now. Both are held until both are known, or they could be the same one.
fn free_addresses() -> Result<[SocketAddr; 2]> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port");
    let (first, second) = (free()?, free()?);
    Ok([first.local_addr()?, second.local_addr()?])
}
