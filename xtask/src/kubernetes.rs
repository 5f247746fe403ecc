//! `xtask kubernetes`: builds the programs of Kubernetes' control plane from the Go modules that `parts` pins, once, into the user's
//! cache folder; only those that neither `KUBEBUILDER_ASSETS` nor `PATH` has. A quarter of an hour of one core, so it can go on beside
//! another command: `xtask kubernetes -- cargo test --no-run`.

use std::process::Command;

use anyhow::{Context, Result, bail};
use parts::control_plane::{GO_MODULE, GO_SUMS, KUBERNETES, built_folder, to_build};

use crate::go::{GO_RELEASE, Modules};

/// Examples: `xtask kubernetes`, `xtask kubernetes -- cargo test --no-run --workspace`
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A command to run meanwhile
    #[arg(last = true, value_name = "COMMAND")]
    beside: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut beside = None;
    if let [program, rest @ ..] = arguments.beside.as_slice() {
        let child = Command::new(program).args(rest).spawn().with_context(|| format!("starting {program}"))?;
        beside = Some((program, child));
    }
    let built = build();
    if let Some((program, mut child)) = beside {
        let status = child.wait().with_context(|| format!("waiting for {program}"))?;
        if !status.success() {
            bail!("{} failed: {status}", arguments.beside.join(" "));
        }
    }
    built
}

fn build() -> Result<()> {
    let modules = Modules {
        about: "Kubernetes' control plane (about 15 minutes of one core)",
        files: &[("go.mod", GO_MODULE), ("go.sum", GO_SUMS)],
        folder: built_folder(),
        link_flags: link_flags(GO_MODULE)?,
        without_go: format!(
            "the tests run against a real Kubernetes API server, and its programs are not here: install Go {GO_RELEASE} \
             (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a folder that has {}",
            KUBERNETES.map(|program| program.name).join(", ")
        ),
        missing: to_build,
    };
    modules.build()
}

/// No debug information, and the version that the servers report: it is set when they are linked.
pub(crate) fn link_flags(go_module: &str) -> Result<String> {
    let version = go_module.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v")?.split(' ').next());
    let version = version.context("go.mod names no version of k8s.io/kubernetes")?;
    let (major, rest) = version.split_once('.').context("a version of Kubernetes has dots")?;
    let minor = rest.split('.').next().unwrap_or_default();
    let set = |name: &str, value: &str| format!(" -X k8s.io/component-base/version.{name}={value}");
    Ok(format!("-s -w{}{}{}", set("gitVersion", &format!("v{version}")), set("gitMajor", major), set("gitMinor", minor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_report_the_version_that_is_pinned() {
        let flags = link_flags("require (\n\tk8s.io/kubernetes v1.36.3 // indirect\n)").unwrap();
        let version = "k8s.io/component-base/version";
        assert_eq!(flags, format!("-s -w -X {version}.gitVersion=v1.36.3 -X {version}.gitMajor=1 -X {version}.gitMinor=36"));
        assert!(link_flags(GO_MODULE).is_ok());
        assert!(link_flags("module x").is_err());
    }
}
