//! A real Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, on free ports of 127.0.0.1 and a
//! folder that goes with it. One for all tests of a binary ([`Cluster::shared`]), a [`Namespace`] for each test. There is no node:
//! Pods stay pending unless a test plays their part ([`Namespace::play_pods`]). The programs come from `parts::control_plane`.

mod api;
mod audit;
mod namespace;
mod operator;
mod pki;
mod play;
mod release;
mod servers;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tempfile::TempDir;

pub use api::{Api, Refusal};
pub use audit::{Call, Calls};
pub use namespace::{Namespace, condition};
pub use operator::{Operator, OperatorOptions, free_port};
pub use release::Release;

use crate::{process::Process, workspace};

/// A running control plane.
#[derive(Debug)]
pub struct Cluster {
    url: String,
    authority: String,
    folder: TempDir,
    /// In the order they were started; they end with this value. Nobody asks them anything.
    _servers: Mutex<Vec<Process>>,
}

/// Who may do everything. It opens nothing but this server, which only this machine reaches.
const ADMINISTRATOR: &str = "administrator-of-a-test-server";

impl Cluster {
    /// The control plane that all tests of this process share, with the CRDs applied: ours, and those of other projects whose objects
    /// the chart and the operator make.
    ///
    /// # Panics
    /// It does not start: then no test can go on.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let started = Self::start_blocking().and_then(|cluster| {
                cluster.define()?;
                cluster.define_others()?;
                cluster.wait_for_documents()?;
                Ok(cluster)
            });
            started.unwrap_or_else(|error| panic!("no Kubernetes API server: {error:#}"))
        })
    }

    /// Applies our definitions as people do, and waits until they are established.
    ///
    /// # Errors
    /// The server refuses.
    pub fn define(&self) -> Result<()> {
        self.kubectl(&["apply", "--filename", &workspace().join("crds").to_string_lossy()])?;
        self.until_established()
    }

    /// Applies those of other projects, likewise.
    ///
    /// # Errors
    /// They are not here, or the server refuses.
    pub fn define_others(&self) -> Result<()> {
        for file in parts::definitions()? {
            // Some do not fit into the annotation of an apply on the client's side.
            self.kubectl(&["apply", "--server-side", "--filename", &file.to_string_lossy()])?;
        }
        self.until_established()
    }

    fn until_established(&self) -> Result<()> {
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "customresourcedefinitions", "--all"]).map(drop)
    }

    /// What the server tells kubectl of kinds and fields follows a moment after a definition is established.
    fn wait_for_documents(&self) -> Result<()> {
        for kind in ["expertrouters.spec", "routermodels.spec"] {
            let mut attempts = 0;
            while let Err(error) = self.kubectl(&["explain", kind]) {
                attempts += 1;
                ensure!(attempts < 100, "kubectl explain {kind}: {error}");
                thread::sleep(Duration::from_millis(300));
            }
        }
        Ok(())
    }

    /// A control plane of a test's own, without the CRDs: for what others would not survive.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("making a folder")?;
        let certificates = pki::Certificates::make(folder.path())?;
        let (url, servers) = servers::start(folder.path(), ADMINISTRATOR, &certificates).await?;
        Ok(Self { url, authority: certificates.authority, folder, _servers: Mutex::new(servers) })
    }

    /// Waits for the start on a thread of its own: the caller may be inside of a runtime.
    fn start_blocking() -> Result<Self> {
        let start = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(Self::start());
        thread::spawn(start).join().map_err(|_| anyhow!("starting it panicked"))?
    }

    /// Calls it as its administrator.
    ///
    /// # Errors
    /// A client cannot be built.
    pub fn api(&self) -> Result<Api> {
        self.api_as(ADMINISTRATOR)
    }

    /// Calls it with this token.
    ///
    /// # Errors
    /// A client cannot be built.
    pub fn api_as(&self, token: &str) -> Result<Api> {
        Api::new(&self.url, &self.authority, token)
    }

    /// Who called what, by the server's audit log.
    #[must_use]
    pub fn calls(&self) -> Calls {
        Calls::new(servers::audit_log(self.folder.path()))
    }

    /// A kubeconfig file for the holder of this token, and this namespace.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig(&self, name: &str, token: &str, namespace: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        servers::write_kubeconfig(&path, &self.url, &self.authority, token, namespace)?;
        Ok(path)
    }

    /// What kubectl prints, as administrator.
    ///
    /// # Errors
    /// It fails; with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run("kubectl", arguments)
    }

    /// What Helm prints, as administrator.
    ///
    /// # Errors
    /// It fails; with what it said.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        // Helm keeps nothing of use between two calls, so it need not find the user's own settings.
        self.run("helm", arguments)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let kubeconfig = servers::administrator_kubeconfig(self.folder.path());
        let mut command = Command::new(parts::control_plane(program)?);
        command.args(arguments).env("KUBECONFIG", kubeconfig).current_dir(workspace());
        for (variable, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
            command.env(variable, self.folder.path().join("helm").join(folder));
        }
        command.env("KUBECACHEDIR", self.folder.path().join("kubectl-cache")).env("HOME", self.folder.path());
        output(&mut command)
    }

    /// A folder of this cluster's, for files of tests.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A name that no test of this process had before.
    pub(crate) fn unique(name: &str) -> String {
        static NUMBER: Mutex<u32> = Mutex::new(0);
        let mut number = NUMBER.lock().unwrap_or_else(PoisonError::into_inner);
        *number += 1;
        format!("{name}-{number}")
    }
}

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{}\n{said}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(said)
}
