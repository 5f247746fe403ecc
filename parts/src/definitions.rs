//! Definitions (CRDs) of other projects whose objects the chart and the operator make where a cluster knows them: for tests on a server
//! that does. They are plain files of Go modules (`xtask definitions` brings them), each module pinned by Go's own hash of its content.

use std::path::PathBuf;

use crate::place::{Missing, cache_folder};

/// A module that carries definitions.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    /// Its path.
    pub path: &'static str,
    /// Its pinned version.
    pub version: &'static str,
    /// Go's hash of all its files, as in a `go.sum`.
    pub sum: &'static str,
    /// The folder of the definitions inside.
    pub folder: &'static str,
    /// The files kept: `<group>_<plural>.yaml`.
    pub files: &'static [&'static str],
}

/// All of them, Apache-2.0 each.
pub const MODULES: [Module; 3] = [
    Module {
        path: "sigs.k8s.io/gateway-api",
        version: "v1.5.1",
        sum: "h1:RqVRIlkhLhUO8wOHKTLnTJA6o/1un4po4/6M1nRzdd0=",
        folder: "config/crd/standard",
        files: &["gateway.networking.k8s.io_httproutes.yaml"],
    },
    Module {
        path: "github.com/prometheus-operator/prometheus-operator",
        version: "v0.85.0",
        sum: "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        folder: "example/prometheus-operator-crd",
        files: &["monitoring.coreos.com_podmonitors.yaml", "monitoring.coreos.com_prometheusrules.yaml"],
    },
    Module {
        path: "github.com/cert-manager/cert-manager",
        version: "v1.21.2",
        sum: "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
        folder: "deploy/crds",
        files: &["cert-manager.io_certificates.yaml"],
    },
];

impl Module {
    /// Where its files lie, fetched or not.
    pub fn fetched_folder(&self) -> PathBuf {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        cache_folder().join("definitions").join(format!("{name}-{}", self.version))
    }

    /// Whether all its files are there.
    pub fn is_fetched(&self) -> bool {
        self.files.iter().all(|file| self.fetched_folder().join(file).is_file())
    }
}

/// Every file.
///
/// # Errors
/// One was not fetched yet.
pub fn definitions() -> Result<Vec<PathBuf>, Missing> {
    let files = MODULES.iter().flat_map(|module| module.files.iter().map(|file| (file, module.fetched_folder().join(file))));
    let existing = |(name, path): (&&str, PathBuf)| {
        if path.is_file() { Ok(path) } else { Err(Missing { name: (*name).to_owned(), path, task: "definitions" }) }
    };
    files.map(existing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_is_pinned_and_no_two_lie_in_one_folder() {
        let mut folders: Vec<_> = MODULES.iter().map(Module::fetched_folder).collect();
        folders.dedup();
        assert_eq!(folders.len(), MODULES.len());
        for module in MODULES {
            assert!(module.version.starts_with('v') && module.sum.starts_with("h1:") && !module.files.is_empty(), "{module:?}");
        }
    }
}
