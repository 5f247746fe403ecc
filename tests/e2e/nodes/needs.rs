//! What a machine must have to carry nodes. Said all at once, with the command that brings it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::groups;

/// Images are kept twice by each node, packed and unpacked, and kubelets want a gibibyte to be left.
const ROOM: u64 = 5 << 30;

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

/// What is missing; nothing where the run can begin, with its files in this folder.
pub(crate) fn missing(folder: &Path) -> Vec<String> {
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
    missing.extend(room(folder));
    missing
}

fn room(folder: &Path) -> Option<String> {
    let disk = nix::sys::statvfs::statvfs(folder).ok()?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let (folder, has, needs) = (folder.display(), gibibytes(free), gibibytes(ROOM));
    (free < ROOM).then(|| format!("room on the disk: {folder} has {has:.1} GiB left, and images and containers need {needs:.0} GiB"))
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
