//! The inside of the run's namespaces: its own `/run`, `/sys` and network, and files in place of the machine's settings that kubelet
//! insists on. Nothing of it is seen from outside, and all of it is gone with the namespaces.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use nix::{
    mount::{MsFlags, mount, umount},
    unistd::sethostname,
};

use super::{NODES, address};
use crate::cluster::said;

/// Where the run's folder is, seen from inside: short, for names of sockets are.
pub(crate) const HOME: &str = "/run/e2e";
/// Where control groups are while `/sys` is put in place.
const GROUPS: &str = "/run/groups";
/// Paths that kubelet, containerd and the network plugins write to, whatever they are told.
const FIXED: [&str; 4] = ["/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/var/log/pods"];
/// Settings of the machine that kubelet wants to have these values: it reads and writes files of ours.
const SETTINGS: [(&str, &str); 3] =
    [("/proc/sys/vm/overcommit_memory", "1"), ("/proc/sys/kernel/panic", "10"), ("/proc/sys/kernel/panic_on_oops", "1")];

/// Sets everything up; the folders that had to be made on the machine.
pub(crate) fn enter(work: &Path) -> Result<Vec<PathBuf>> {
    let work = work.canonicalize().with_context(|| format!("finding {}", work.display()))?;
    sethostname("node1").context("naming the machine")?;
    // Volumes of Pods are mounted by kubelet and seen by containerd.
    change("/", MsFlags::MS_SHARED | MsFlags::MS_REC)?;
    temporary("/run")?;
    for folder in [HOME, GROUPS, "/run/netns", "/run/settings"] {
        fs::create_dir_all(folder).with_context(|| format!("making {folder}"))?;
    }
    bind(&work, HOME)?;
    // A new /sys shows the new network; control groups are carried over.
    bind(Path::new("/sys/fs/cgroup"), GROUPS)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).context("mounting /sys")?;
    bind(Path::new(GROUPS), "/sys/fs/cgroup")?;
    let made = fixed()?;
    for (setting, value) in SETTINGS {
        let file = format!("/run/settings/{}", setting.replace('/', "-"));
        fs::write(&file, value).with_context(|| format!("writing {file}"))?;
        bind(Path::new(&file), setting)?;
    }
    network()?;
    Ok(made)
}

/// Removes the folders that were made on the machine.
pub(crate) fn leave(made: &[PathBuf]) {
    for folder in made {
        // What is still mounted there goes with the namespace; then the folder stays, empty.
        let _ = umount(folder);
        let _ = fs::remove_dir(folder);
    }
}

fn fixed() -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for folder in FIXED.map(PathBuf::from) {
        if !folder.exists() {
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
            made.push(folder.clone());
        }
        temporary(&folder.to_string_lossy())?;
    }
    Ok(made)
}

/// A pair of devices plays the nodes' network card: nothing is at its other end, so nothing gets out.
fn network() -> Result<()> {
    let commands = [
        "link set lo up".to_owned(),
        "link add node0 type veth peer name beyond0".to_owned(),
        "link set beyond0 up".to_owned(),
        "link set node0 up".to_owned(),
    ];
    let addresses = (1..=NODES).map(|node| format!("address add {}/24 dev node0", address(node)));
    for command in commands.into_iter().chain(addresses).chain(["route add default dev node0".to_owned()]) {
        said(Command::new("ip").args(command.split(' ')), None).with_context(|| format!("ip {command}"))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("forwarding packets")?;
    let bridged = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if !bridged.exists() {
        // Where it is a module, it may not be loaded yet.
        let _ = Command::new("modprobe").arg("br_netfilter").output();
    }
    ensure!(bridged.exists(), "the kernel does not show bridged packets to Services (modprobe br_netfilter)");
    fs::write(bridged, "1").context("showing bridged packets to Services")
}

fn temporary(folder: &str) -> Result<()> {
    mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).with_context(|| format!("mounting {folder}"))
}

fn bind(from: &Path, to: &str) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("mounting {} at {to}", from.display()))
}

fn change(folder: &str, flags: MsFlags) -> Result<()> {
    mount(None::<&str>, folder, None::<&str>, flags, None::<&str>).with_context(|| format!("sharing {folder}"))
}
