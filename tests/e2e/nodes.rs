//! A cluster of two nodes on this machine, without a container engine: etcd and the control plane, containerd, kubelet and kube-proxy as
//! processes of namespaces of their own ([`first`]). What leaves the cluster's network leads nowhere; what the nodes change of the
//! machine's settings is seen by them alone.

mod control_plane;
mod dns;
mod first;
pub(crate) mod groups;
mod machine;
mod namespaces;
pub(crate) mod needs;
mod pki;
mod program;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::{Api, Client, api::ListParams};
use tests::eventually;

pub(crate) use first::first;

use crate::{cluster::client, images::Archive, options::Options, progress::say};
use control_plane::ControlPlane;
use machine::Machine;
use pki::Pki;
use program::Program;

/// How many nodes there are.
pub(crate) const NODES: u8 = 2;
/// Where the API server is, seen from the nodes.
const API_SERVER: &str = "https://127.0.0.1:6443";
/// The network of Services; its first address is the API server's, its tenth the name server's.
const SERVICES: &str = "10.96.0.0/16";
const SERVICES_FIRST: &str = "10.96.0.1";
const NAME_SERVER: &str = "10.96.0.10";
/// The networks of the nodes' Pods lie in it.
const PODS: &str = "10.244.0.0/16";
/// A busy machine takes a minute for what an idle one does in ten seconds.
const PATIENCE: Duration = Duration::from_secs(180);

fn address(node: u8) -> String {
    format!("192.168.77.{}", u16::from(node) + 1)
}

fn node_name(node: u8) -> String {
    format!("node{node}")
}

/// The running programs.
pub(crate) struct Nodes {
    folder: PathBuf,
    pki: Pki,
    running: Mutex<Running>,
}

struct Running {
    control_plane: ControlPlane,
    machines: Vec<Machine>,
    /// Nobody asks them anything.
    others: Vec<Program>,
}

impl Nodes {
    /// Brings them up, with these images in their stores.
    pub(crate) async fn up(options: &Options) -> Result<Self> {
        let group = options.group.as_deref().context("a cluster of one's own is brought up in its namespaces")?;
        let folder = PathBuf::from(namespaces::HOME);
        let logs = options.logs()?;
        let pki = Pki::make(&folder.join("pki"))?;
        let names: Vec<String> = (1..=NODES).map(node_name).collect();
        groups::make(group, &names)?;
        let archives = Archive::all(options)?;
        let mut control_plane = ControlPlane::start(&pki, &logs)?;
        // Unpacking images takes longer than the API server's start, and does without it.
        let machines: Vec<Machine> = (1..=NODES).map(|node| Machine::start(node, group, &folder, &logs, &pki)).collect::<Result<_>>()?;
        let loading = load(&machines, &archives);
        let client = client(Path::new(&pki.file("administrator.kubeconfig"))).await?;
        control_plane::ready(&client).await?;
        control_plane.check()?;
        say("the API server is ready");
        control_plane.start_controllers(&pki)?;
        let mut nodes = Self { folder, pki, running: Mutex::new(Running { control_plane, machines, others: Vec::new() }) };
        {
            let running = nodes.running.get_mut().unwrap_or_else(PoisonError::into_inner);
            for machine in &mut running.machines {
                machine.start_kubelet()?;
            }
            running.others.push(machine::start_proxy(&nodes.folder, &logs, &nodes.pki)?);
            running.others.push(dns::start(&nodes.folder, &logs, &nodes.pki)?);
        }
        dns::announce(&client).await?;
        ready(&client).await?;
        say(format!("{NODES} nodes are ready"));
        for thread in loading {
            thread.join().map_err(|_| anyhow::anyhow!("loading images panicked"))??;
        }
        say(format!("{} images are in their stores", archives.len()));
        nodes.lock().check()?;
        Ok(nodes)
    }

    /// Ends its programs. Containers and all else end with the namespaces.
    pub(crate) async fn down(self) -> Result<()> {
        let running = self.running.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Running { control_plane, machines, others } = running;
        for mut program in others {
            program.kill()?;
        }
        for machine in machines {
            machine.stop()?;
        }
        control_plane.stop()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.pki.file("administrator.kubeconfig").into()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) async fn stop_kubelet(&self, node: &str) -> Result<()> {
        self.lock().machine(node)?.stop_kubelet()
    }

    pub(crate) async fn start_kubelet(&self, node: &str) -> Result<()> {
        self.lock().machine(node)?.start_kubelet()
    }

    pub(crate) async fn stop_api_server(&self) -> Result<()> {
        self.lock().control_plane.stop_api_server()
    }

    /// Starts it again, waits until it is ready, and starts the controllers.
    pub(crate) async fn start_api_server(&self) -> Result<()> {
        self.lock().control_plane.start_api_server(&self.pki)?;
        control_plane::ready(&client(&self.kubeconfig()).await?).await?;
        self.lock().control_plane.start_controllers(&self.pki)
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn machine(&mut self, node: &str) -> Result<&mut Machine> {
        self.machines.iter_mut().find(|machine| machine.name() == node).with_context(|| format!("there is no {node}"))
    }

    /// An error if a program ended by itself.
    fn check(&mut self) -> Result<()> {
        self.control_plane.check()?;
        for machine in &mut self.machines {
            machine.check()?;
        }
        self.others.iter_mut().try_for_each(Program::check)
    }
}

/// Puts the archives into every node's store, on a thread for each.
fn load(machines: &[Machine], archives: &[Archive]) -> Vec<thread::JoinHandle<Result<()>>> {
    let spawn = |store: machine::Store| {
        let archives = archives.to_vec();
        thread::spawn(move || archives.iter().try_for_each(|archive| store.import(&archive.path)))
    };
    machines.iter().map(|machine| spawn(machine.store())).collect()
}

async fn ready(client: &Client) -> Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    let all = eventually("the nodes are ready", PATIENCE, async || {
        let listed = nodes.list(&ListParams::default()).await?.items;
        Ok(listed.iter().filter(|node| is_ready(node)).count() == usize::from(NODES))
    });
    all.await?;
    // Before it is there no Pod can be made.
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    eventually("there is a service account", PATIENCE, async || Ok(accounts.get_opt("default").await?.is_some())).await?;
    ensure!(client.apiserver_version().await.is_ok(), "the API server tells its version");
    Ok(())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
