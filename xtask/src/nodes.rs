//! `xtask nodes`: builds kubelet, kube-proxy, containerd, the network plugins and CoreDNS from the Go modules that `parts` pins, once, into
//! the user's cache folder. Ten minutes of one core; less after `xtask kubernetes`, with which kubelet shares much.

use anyhow::Result;
use parts::nodes::{KUBELET, NODE};

use crate::go::{GO_RELEASE, Modules};
use crate::kubernetes::link_flags;

pub(crate) fn run() -> Result<()> {
    let without_go = || {
        format!(
            "the end-to-end run brings up nodes, and their programs are not here: install Go {GO_RELEASE} (https://go.dev/dl) to build them"
        )
    };
    let kubelet = Modules {
        about: "kubelet and kube-proxy (about 4 minutes of one core)",
        files: &[("go.mod", KUBELET.go_module), ("go.sum", KUBELET.go_sums)],
        folder: KUBELET.folder(),
        link_flags: link_flags(KUBELET.go_module)?,
        without_go: without_go(),
        missing: || KUBELET.to_build(),
    };
    let node = Modules {
        about: "containerd, network plugins and CoreDNS (about 6 minutes of one core)",
        files: &[("go.mod", NODE.go_module), ("go.sum", NODE.go_sums)],
        folder: NODE.folder(),
        link_flags: "-s -w".to_owned(),
        without_go: without_go(),
        missing: || NODE.to_build(),
    };
    kubelet.build()?;
    node.build()
}
