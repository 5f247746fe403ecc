//! A cluster to run in, whoever brought it up: the administrator's client, kubectl and Helm, and the Pods' ports through the API server.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    existing,
    nodes::Nodes,
    options::{Kind, Options},
};

/// A running cluster.
pub(crate) struct Cluster {
    /// The administrator's client.
    pub(crate) client: Client,
    /// The administrator's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
    /// A folder for files of the run: gone with it.
    pub(crate) folder: PathBuf,
    own: Option<Nodes>,
    nodes: Vec<String>,
}

impl Cluster {
    /// Brings up a cluster, or finds the one that is there.
    pub(crate) async fn up(options: &Options) -> Result<Self> {
        let own = match options.cluster {
            Kind::Own => Some(Nodes::up(options).await?),
            Kind::Existing => None,
        };
        let (kubeconfig, folder) = match &own {
            Some(nodes) => (nodes.kubeconfig(), nodes.folder().to_owned()),
            None => (existing::kubeconfig()?, existing::folder(options)?),
        };
        let client = client(&kubeconfig).await?;
        let listed = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.context("listing the nodes")?;
        let nodes = listed.items.iter().map(|node| node.name_any()).collect();
        Ok(Self { client, kubeconfig, folder, own, nodes })
    }

    /// Takes it down; one that was there before stays.
    pub(crate) async fn down(self) -> Result<()> {
        match self.own {
            Some(nodes) => nodes.down().await,
            None => Ok(()),
        }
    }

    /// Where it comes from.
    pub(crate) fn kind(&self) -> Kind {
        if self.own.is_some() { Kind::Own } else { Kind::Existing }
    }

    /// The nodes' names.
    pub(crate) fn nodes(&self) -> Vec<String> {
        self.nodes.clone()
    }

    /// Stops a node's kubelet at once; its containers go on. Only of an own cluster.
    pub(crate) async fn stop_kubelet(&self, node: &str) -> Result<()> {
        self.own_nodes()?.stop_kubelet(node).await
    }

    /// Starts it again.
    pub(crate) async fn start_kubelet(&self, node: &str) -> Result<()> {
        self.own_nodes()?.start_kubelet(node).await
    }

    /// Stops the API server at once. Only of an own cluster.
    pub(crate) async fn stop_api_server(&self) -> Result<()> {
        self.own_nodes()?.stop_api_server().await
    }

    /// Starts it again, and waits until it is ready.
    pub(crate) async fn start_api_server(&self) -> Result<()> {
        self.own_nodes()?.start_api_server().await
    }

    fn own_nodes(&self) -> Result<&Nodes> {
        self.own.as_ref().context("only a cluster of one's own has processes to stop (E2E_CLUSTER=own)")
    }

    /// What a port of a Pod answers to a GET, through the API server.
    pub(crate) async fn pod_proxy_get(&self, namespace: &str, pod: &str, port: u16, path: &str) -> Result<String> {
        let request = http::Request::get(proxy(namespace, pod, port, path)).body(Vec::new())?;
        self.client.request_text(request).await.with_context(|| format!("GET {path} of port {port} of {pod}"))
    }

    /// What a port of a Pod answers to a POST of JSON, through the API server.
    pub(crate) async fn pod_proxy_post(&self, namespace: &str, pod: &str, port: u16, path: &str, body: &str) -> Result<String> {
        let request = http::Request::post(proxy(namespace, pod, port, path)).header("content-type", "application/json");
        let request = request.body(body.as_bytes().to_vec())?;
        self.client.request_text(request).await.with_context(|| format!("POST {path} of port {port} of {pod}"))
    }

    /// What kubectl prints, as administrator.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run("kubectl", arguments, None)
    }

    /// Applies objects written as YAML.
    pub(crate) fn apply(&self, namespace: &str, yaml: &str) -> Result<String> {
        let arguments = ["apply", "--validate=strict", "--server-side", "--namespace", namespace, "--filename", "-"];
        self.run("kubectl", &arguments, Some(yaml))
    }

    /// What Helm prints, as administrator.
    pub(crate) fn helm(&self, arguments: &[&str]) -> Result<String> {
        self.run("helm", arguments, None)
    }

    fn run(&self, program: &str, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = Command::new(parts::control_plane(program)?);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.folder).current_dir(tests::workspace());
        for (variable, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
            command.env(variable, self.folder.join("helm").join(folder));
        }
        command.env("KUBECACHEDIR", self.folder.join("kubectl-cache"));
        said(&mut command, input).with_context(|| format!("{program} {}", arguments.join(" ")))
    }
}

/// A client with the rights of that kubeconfig.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    // Somebody may have been first; then theirs serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Kubeconfig::read_from(kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.context("a kubeconfig")?;
    config.proxy_url = None;
    Client::try_from(config).context("a client of the cluster")
}

/// What a command prints; where it fails, an error of what it said.
pub(crate) fn said(command: &mut Command, input: Option<&str>) -> Result<String> {
    use std::{io::Write as _, process::Stdio};
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // A program that does not read all of it says why on its standard error.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().context("waiting for it")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{}\n{printed}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(printed)
}

fn proxy(namespace: &str, pod: &str, port: u16, path: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/{}", path.trim_start_matches('/'))
}
