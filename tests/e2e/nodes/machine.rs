//! One node: containerd with runc, its network for Pods, and kubelet. And kube-proxy, one for both nodes: they share a network.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{NAME_SERVER, PATIENCE, PODS, address, needs, node_name, pki::Pki, program::Program};
use crate::{cluster::said, images};

/// What programs of a node are called from.
const PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    logs: PathBuf,
    containerd: Program,
    store: Store,
    kubelet_flags: Vec<String>,
    /// Absent: it was stopped.
    kubelet: Option<Program>,
}

/// Where a node's images are.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    socket: PathBuf,
}

impl Machine {
    /// Starts containerd and waits until it answers; kubelet comes later.
    pub(crate) fn start(node: u8, group: &str, home: &Path, logs: &Path, pki: &Pki) -> Result<Self> {
        let name = node_name(node);
        let folder = home.join(&name);
        for inner in ["network", "kubelet", "plugins"] {
            fs::create_dir_all(folder.join(inner)).with_context(|| format!("making folders of {name}"))?;
        }
        let pods = logs.join("pods").join(&name);
        fs::create_dir_all(&pods).with_context(|| format!("making {}", pods.display()))?;
        let write = |file: &str, content: &str| -> Result<String> {
            let path = folder.join(file);
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            Ok(path.to_string_lossy().into_owned())
        };
        write("network/10-pods.conflist", &network(node).to_string())?;
        write("resolv.conf", "")?;
        let store = Store { socket: folder.join("containerd.sock") };
        let config = write("containerd.toml", &containerd_config(&folder, &store, &plugins_folder(home)?)?)?;
        let kubelet = write("kubelet.yaml", &kubelet_config(node, group, &folder, &pods, &store, pki).to_string())?;
        let mut command = Command::new(parts::node("containerd")?);
        command.args(["--config", &config]).env("PATH", path()?);
        let containerd = Program::start(&format!("containerd-{name}"), command, logs)?;
        let kubelet_flags = vec![
            format!("--config={kubelet}"),
            format!("--kubeconfig={}", pki.file(&format!("{name}.kubeconfig"))),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", address(node)),
            format!("--root-dir={}", folder.join("kubelet").display()),
            format!("--cert-dir={}", folder.join("kubelet/pki").display()),
            "--v=2".to_owned(),
        ];
        let mut machine = Self { name, logs: logs.to_owned(), containerd, store, kubelet_flags, kubelet: None };
        machine.wait_for_containerd()?;
        Ok(machine)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn store(&self) -> Store {
        self.store.clone()
    }

    pub(crate) fn start_kubelet(&mut self) -> Result<()> {
        if self.kubelet.is_none() {
            let mut command = Command::new(parts::node("kubelet")?);
            command.args(&self.kubelet_flags).env("PATH", path()?);
            self.kubelet = Some(Program::start(&format!("kubelet-{}", self.name), command, &self.logs)?);
        }
        Ok(())
    }

    pub(crate) fn stop_kubelet(&mut self) -> Result<()> {
        self.kubelet.take().with_context(|| format!("the kubelet of {} is stopped already", self.name))?.kill()
    }

    pub(crate) fn check(&mut self) -> Result<()> {
        self.containerd.check()?;
        self.kubelet.iter_mut().try_for_each(Program::check)
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        self.kubelet.iter_mut().try_for_each(Program::kill)?;
        self.containerd.kill()
    }

    fn wait_for_containerd(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.store.call(&["version"]) {
            self.containerd.check()?;
            if Instant::now() > deadline {
                bail!("containerd of {} does not answer: {error:#}", self.name);
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Store {
    /// Unpacks an archive into it.
    pub(crate) fn import(&self, archive: &Path) -> Result<()> {
        self.call(&["--namespace", "k8s.io", "images", "import", &archive.to_string_lossy()]).map(drop)
    }

    fn call(&self, arguments: &[&str]) -> Result<String> {
        said(Command::new(parts::node("ctr")?).arg("--address").arg(&self.socket).args(arguments), None)
    }
}

/// kube-proxy, for the Services of both nodes.
pub(crate) fn start_proxy(home: &Path, logs: &Path, pki: &Pki) -> Result<Program> {
    let file = home.join("kube-proxy.yaml");
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": pki.file("proxy.kubeconfig")},
        "clusterCIDR": PODS, "hostnameOverride": node_name(1), "mode": "nftables",
        "nodePortAddresses": ["192.168.77.0/24"],
        // Zero leaves the machine's own settings alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    });
    fs::write(&file, config.to_string()).with_context(|| format!("writing {}", file.display()))?;
    let mut command = Command::new(parts::node("kube-proxy")?);
    command.arg(format!("--config={}", file.display())).env("PATH", path()?);
    Program::start("kube-proxy", command, logs)
}

/// The programs that were built come first, then the machine's.
fn path() -> Result<std::ffi::OsString> {
    let ours = [parts::nodes::NODE.folder(), parts::nodes::KUBELET.folder()];
    let machine = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::join_paths(ours.into_iter().chain(env::split_paths(&machine)).chain(usual)).context("a PATH")
}

/// The network plugins alone: containerd looks for them by name in one folder.
fn plugins_folder(home: &Path) -> Result<PathBuf> {
    let folder = home.join("plugins");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for plugin in PLUGINS {
        let link = folder.join(plugin);
        if !link.exists() {
            std::os::unix::fs::symlink(parts::node(plugin)?, &link).with_context(|| format!("linking {}", link.display()))?;
        }
    }
    Ok(folder)
}

/// A bridge for the node's Pods, a network for each node.
fn network(node: u8) -> serde_json::Value {
    let range = json!([[{"subnet": format!("10.244.{}.0/24", node - 1)}]]);
    let addresses =
        json!({"type": "host-local", "dataDir": format!("/run/addresses-{node}"), "ranges": range, "routes": [{"dst": "0.0.0.0/0"}]});
    json!({"cniVersion": "1.0.0", "name": format!("pods-{node}"), "plugins": [
        {"type": "bridge", "bridge": format!("pods{node}"), "isGateway": true, "ipMasq": false, "hairpinMode": true, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

fn containerd_config(folder: &Path, store: &Store, plugins: &Path) -> Result<String> {
    let runc = needs::program("runc").context("runc is not installed")?;
    let (folder, plugins, socket) = (folder.display(), plugins.display(), store.socket.display());
    let pause = images::PAUSE;
    // Where root may not make a process less likely to be killed for memory, sandboxes could not start: so none is made so.
    Ok(format!(
        "version = 3
root = '{folder}/containerd'
state = '{folder}/state'
[grpc]
  address = '{socket}'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{pause}'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['{plugins}']
  conf_dir = '{folder}/network'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '{runc}'
  SystemdCgroup = false
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.internal.v1.opt']
  path = '{folder}/opt'
",
        runc = runc.display(),
    ))
}

fn kubelet_config(node: u8, group: &str, folder: &Path, pods: &Path, store: &Store, pki: &Pki) -> serde_json::Value {
    let name = node_name(node);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": address(node), "healthzPort": 10248 + u16::from(node), "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": pki.file("authority.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.file(&format!("{name}.crt")), "tlsPrivateKeyFile": pki.file(&format!("{name}.key")),
        "containerRuntimeEndpoint": format!("unix://{}", store.socket.display()),
        "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{group}/{name}"), "failCgroupV1": false, "failSwapOn": false,
        "clusterDNS": [NAME_SERVER], "clusterDomain": "cluster.local", "resolvConf": folder.join("resolv.conf"),
        "podLogsDir": pods, "volumePluginDir": folder.join("plugins"),
        // Images cannot be had again: none is cleared away.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
        // As the controllers' patience with a node that is silent.
        "nodeLeaseDurationSeconds": 20,
    })
}
