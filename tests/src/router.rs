//! The `expert-router` binary with a manifest.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Metrics, eventually, process::Process};

/// Starting takes milliseconds; a machine busy with other tests takes longer.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A running router.
#[derive(Debug)]
pub struct Router {
    process: Process,
    listen: String,
    admin: String,
    folder: TempDir,
}

impl Router {
    /// Starts the binary on free ports with this manifest and waits until it serves.
    ///
    /// # Errors
    /// It does not start, or does not take the manifest.
    pub fn start(binary: &str, manifest: &str) -> Result<Self> {
        Self::start_in(binary, manifest, &[])
    }

    /// The same, with these variables in its environment.
    ///
    /// # Errors
    /// It does not start, or does not take the manifest.
    pub fn start_in(binary: &str, manifest: &str, environment: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir().context("making a folder")?;
        let file = folder.path().join("router.yaml");
        fs::write(&file, manifest).context("writing the manifest")?;
        let mut command = Command::new(binary);
        command.arg("--manifest").arg(&file).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
        command.envs(environment.iter().copied());
        let process = Process::start_guarded("expert-router", &command)?;
        let serves = process.line_where("serves", START_PATIENCE, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let address = |name: &str| line[name].as_str().map(str::to_owned);
            Some((address("listen")?, address("admin")?))
        });
        let (listen, admin) = serves?;
        Ok(Self { process, listen, admin, folder })
    }

    /// What OpenAI's clients call `base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.listen)
    }

    /// Host and port of the admin port.
    #[must_use]
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// The manifest's file, to change it.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.folder.path().join("router.yaml")
    }

    /// Its last log lines.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.terminate()?;
        eventually("the router ends", START_PATIENCE, async || Ok(self.process.ended()?.is_some())).await
    }

    /// What it counts.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        Metrics::read(&format!("http://{}/metrics", self.admin)).await
    }
}
