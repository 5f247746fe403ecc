//! A cluster that somebody else brought up: kind, k3s, or any other whose administrator `KUBECONFIG` lets us be.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use crate::options::Options;

/// The kubeconfig that is in use.
pub(crate) fn kubeconfig() -> Result<PathBuf> {
    let set = env::var_os("KUBECONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = set.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube").join("config")));
    let path = path.context("neither KUBECONFIG nor HOME is set")?;
    ensure!(path.is_file(), "{} is not a file: set KUBECONFIG to the kubeconfig of the cluster", path.display());
    path.canonicalize().with_context(|| format!("finding {}", path.display()))
}

/// A folder for the run's own files.
pub(crate) fn folder(options: &Options) -> Result<PathBuf> {
    let folder = options.output.join("files");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    folder.canonicalize().with_context(|| format!("finding {}", folder.display()))
}
