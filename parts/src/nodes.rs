//! Nodes for the end-to-end run: kubelet and kube-proxy, containerd, the network plugins and CoreDNS. They come as Go modules, pinned by
//! `kubelet/go.mod` and `node/go.mod`, and are built once (`xtask nodes`). Nobody else's are taken: what a machine has of these belongs to
//! what runs on it.

use std::path::PathBuf;

use crate::control_plane::Program;
use crate::place::{Missing, cache_folder, short_hash};

/// Pinned modules and the programs built from them.
#[derive(Debug, Clone, Copy)]
pub struct Modules {
    /// What they are called, also in the cache.
    pub name: &'static str,
    /// `go.mod`.
    pub go_module: &'static str,
    /// `go.sum`.
    pub go_sums: &'static str,
    /// The programs.
    pub programs: &'static [Program],
}

/// Of the same version as the control plane.
pub const KUBELET: Modules = Modules {
    name: "kubelet",
    go_module: include_str!("../kubelet/go.mod"),
    go_sums: include_str!("../kubelet/go.sum"),
    programs: &[
        Program { name: "kubelet", package: "k8s.io/kubernetes/cmd/kubelet" },
        Program { name: "kube-proxy", package: "k8s.io/kubernetes/cmd/kube-proxy" },
    ],
};

/// Containers, their network, and names.
pub const NODE: Modules = Modules {
    name: "node",
    go_module: include_str!("../node/go.mod"),
    go_sums: include_str!("../node/go.sum"),
    programs: &[
        Program { name: "containerd", package: "github.com/containerd/containerd/v2/cmd/containerd" },
        Program { name: "containerd-shim-runc-v2", package: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2" },
        Program { name: "ctr", package: "github.com/containerd/containerd/v2/cmd/ctr" },
        Program { name: "bridge", package: "github.com/containernetworking/plugins/plugins/main/bridge" },
        Program { name: "host-local", package: "github.com/containernetworking/plugins/plugins/ipam/host-local" },
        Program { name: "loopback", package: "github.com/containernetworking/plugins/plugins/main/loopback" },
        Program { name: "portmap", package: "github.com/containernetworking/plugins/plugins/meta/portmap" },
        Program { name: "coredns", package: "github.com/coredns/coredns" },
    ],
};

impl Modules {
    /// Where what was built from these very modules lies. A change of the modules makes it another folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        cache_folder().join("go").join(format!("{}-{}", self.name, short_hash(&[self.go_module, self.go_sums])))
    }

    /// What was not built before.
    #[must_use]
    pub fn to_build(&self) -> Vec<Program> {
        self.programs.iter().copied().filter(|program| !self.folder().join(program.name).is_file()).collect()
    }
}

/// A program of a node.
pub fn node(name: &str) -> Result<PathBuf, Missing> {
    let modules = [KUBELET, NODE].into_iter().find(|modules| modules.programs.iter().any(|program| program.name == name));
    let path = modules.unwrap_or(NODE).folder().join(name);
    path.canonicalize().map_err(|_| Missing { name: name.to_owned(), path, task: "nodes" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane;

    #[test]
    fn every_program_is_a_tool_of_its_pinned_module_and_no_other_is() {
        for modules in [KUBELET, NODE] {
            for program in modules.programs {
                assert!(modules.go_module.lines().any(|line| line.trim() == program.package), "{program:?}");
            }
            let tools = modules.go_module.lines().filter(|line| line.starts_with('\t') && !line.contains(" v")).count();
            assert_eq!(tools, modules.programs.len(), "{}", modules.name);
        }
    }

    #[test]
    fn kubelet_is_of_the_control_plane_s_version() {
        let version = |go_module: &'static str| go_module.lines().find(|line| line.trim().starts_with("k8s.io/kubernetes v"));
        assert!(version(KUBELET.go_module).is_some());
        assert_eq!(version(KUBELET.go_module), version(control_plane::GO_MODULE));
    }

    #[test]
    fn what_is_not_there_names_the_command_that_builds_it() {
        let missing = node("no-such-program").unwrap_err().to_string();
        assert!(missing.contains("cargo run -p xtask -- nodes"), "{missing}");
    }
}
