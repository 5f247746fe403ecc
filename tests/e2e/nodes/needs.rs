//! What a machine must have to carry nodes. Said all at once, with the command that brings it.

use std::{env, path::PathBuf, process::Command};

use super::groups;

/// Programs, and the Debian package of each. Each is called by something here: namespaces, containers, Services, ports of Pods.
const PROGRAMS: [(&str, &str); 8] = [
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("mount", "mount"),
    ("cc", "gcc"),
];

/// What is missing; nothing where the run can begin.
pub(crate) fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("root: network and mount namespaces, containers and control groups are made (run it with sudo)".to_owned());
    }
    let packages: Vec<&str> = PROGRAMS.iter().filter(|(name, _)| program(name).is_none()).map(|(_, package)| *package).collect();
    if !packages.is_empty() {
        let packages = packages.join(" ");
        missing.push(format!("programs (Debian, Ubuntu: apt-get install --yes --no-install-recommends {packages})"));
    }
    if missing.is_empty() && !namespaces() {
        missing.push(
            "namespaces: `unshare --net --mount --uts --ipc --pid --fork true` is refused (in a container: run it privileged)".to_owned(),
        );
    }
    if let Err(error) = groups::hierarchies() {
        missing.push(format!("{error:#}"));
    }
    missing
}

/// Where a program of this machine is.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn namespaces() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "true"]);
    command.output().is_ok_and(|output| output.status.success())
}
