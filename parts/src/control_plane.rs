//! Kubernetes' control plane for the tests: etcd, the API server, the controllers, the scheduler, kubectl and Helm. They come as Go
//! modules, pinned by `control-plane/go.mod` and `go.sum`, and are built once (`xtask kubernetes`). What people have already is used
//! first: the folder of `KUBEBUILDER_ASSETS`, then `PATH`.

use std::env;
use std::path::PathBuf;

use crate::place::{Missing, cache_folder, short_hash};

/// The pinned modules.
pub const GO_MODULE: &str = include_str!("../control-plane/go.mod");
/// Their hashes.
pub const GO_SUMS: &str = include_str!("../control-plane/go.sum");

/// One program of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// What the file is called.
    pub name: &'static str,
    /// The Go package it is built from.
    pub package: &'static str,
}

/// They have to be of one version, so they come from one place together: all found, or all built.
pub const KUBERNETES: [Program; 5] = [
    Program { name: "kube-apiserver", package: "k8s.io/kubernetes/cmd/kube-apiserver" },
    Program { name: "etcd", package: "go.etcd.io/etcd/server/v3" },
    Program { name: "kube-controller-manager", package: "k8s.io/kubernetes/cmd/kube-controller-manager" },
    Program { name: "kube-scheduler", package: "k8s.io/kubernetes/cmd/kube-scheduler" },
    Program { name: "kubectl", package: "k8s.io/kubernetes/cmd/kubectl" },
];

/// Installs the chart; any recent version does.
pub const HELM: Program = Program { name: "helm", package: "helm.sh/helm/v4/cmd/helm" };

/// Where what was built from these very modules lies. A change of the modules makes it another folder.
pub fn built_folder() -> PathBuf {
    cache_folder().join("go").join(format!("control-plane-{}", short_hash(&[GO_MODULE, GO_SUMS])))
}

/// A program of the control plane.
pub fn control_plane(name: &str) -> Result<PathBuf, Missing> {
    let found = outside(name);
    found.unwrap_or_else(|| built_folder().join(name)).canonicalize().map_err(|_| Missing {
        name: name.to_owned(),
        path: built_folder().join(name),
        task: "kubernetes",
    })
}

/// What has to be built, because nobody brought it and it was not built before.
pub fn to_build() -> Vec<Program> {
    let missing = |program: &Program| outside(program.name).is_none() && !built_folder().join(program.name).is_file();
    KUBERNETES.into_iter().chain([HELM]).filter(missing).collect()
}

/// A program that was there before us.
fn outside(name: &str) -> Option<PathBuf> {
    let wanted: &[Program] = if name == HELM.name { &[HELM] } else { &KUBERNETES };
    let has_all = |folder: &PathBuf| wanted.iter().all(|program| folder.join(program.name).is_file());
    folders().into_iter().find(has_all).map(|folder| folder.join(name))
}

fn folders() -> Vec<PathBuf> {
    let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    assets.into_iter().chain(env::split_paths(&path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_a_tool_of_the_pinned_module() {
        for program in KUBERNETES.into_iter().chain([HELM]) {
            assert!(GO_MODULE.lines().any(|line| line.trim() == program.package), "{program:?}");
        }
        assert_eq!(GO_MODULE.lines().filter(|line| line.starts_with('\t') && !line.contains(" v")).count(), 6, "tools nobody asks for");
    }

    #[test]
    fn what_is_not_there_names_the_command_that_builds_it() {
        let missing = control_plane("kube-nothing").unwrap_err().to_string();
        assert!(missing.contains("kube-nothing") && missing.contains("cargo run -p xtask -- kubernetes"), "{missing}");
    }
}
