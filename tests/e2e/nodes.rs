//! A cluster of two nodes on this machine, without a container engine: etcd and the control plane, containerd, kubelet and kube-proxy, in
//! namespaces of their own.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, bail};

use crate::options::{First, Options};

/// The running programs.
pub(crate) struct Nodes {
    folder: PathBuf,
}

impl Nodes {
    pub(crate) async fn up(_options: &Options) -> Result<Self> {
        bail!("not yet")
    }

    pub(crate) async fn down(self) -> Result<()> {
        Ok(())
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("administrator.kubeconfig")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) async fn stop_kubelet(&self, _node: &str) -> Result<()> {
        bail!("not yet")
    }

    pub(crate) async fn start_kubelet(&self, _node: &str) -> Result<()> {
        bail!("not yet")
    }

    pub(crate) async fn stop_api_server(&self) -> Result<()> {
        bail!("not yet")
    }

    pub(crate) async fn start_api_server(&self) -> Result<()> {
        bail!("not yet")
    }
}

/// The first process of the namespaces.
pub(crate) fn first(_command: &First) -> ExitCode {
    ExitCode::from(crate::supervise::CANNOT)
}
