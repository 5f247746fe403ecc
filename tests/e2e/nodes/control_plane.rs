//! etcd, the API server, the controllers and the scheduler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use kube::Client;
use serde_json::json;
use tests::eventually;

use super::{PATIENCE, SERVICES, address, pki::Pki, program::Program};

const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEERS: &str = "http://127.0.0.1:2380";
/// In memory, and gone with the namespaces.
const ETCD_DATA: &str = "/run/etcd";

#[derive(Debug)]
pub(crate) struct ControlPlane {
    logs: PathBuf,
    etcd: Program,
    /// Absent: it was stopped.
    api_server: Option<Program>,
    controllers: Vec<Program>,
}

impl ControlPlane {
    /// Starts etcd and the API server.
    pub(crate) fn start(pki: &Pki, logs: &Path) -> Result<Self> {
        let mut command = Command::new(parts::control_plane("etcd")?);
        command.args(["--data-dir", ETCD_DATA, "--log-level=warn", "--unsafe-no-fsync"]);
        command.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
        command.args(["--listen-peer-urls", ETCD_PEERS, "--initial-advertise-peer-urls", ETCD_PEERS]);
        command.args(["--initial-cluster", &format!("default={ETCD_PEERS}")]);
        let etcd = Program::start("etcd", command, logs)?;
        let api_server = Some(start_api_server(pki, logs)?);
        Ok(Self { logs: logs.to_owned(), etcd, api_server, controllers: Vec::new() })
    }

    /// Starts the rest. Not before the API server is ready: the controllers end when they come before the roles are made.
    pub(crate) fn start_controllers(&mut self, pki: &Pki) -> Result<()> {
        let with_rights = |program: &str, owner: &str| -> Result<Command> {
            let mut command = Command::new(parts::control_plane(program)?);
            for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
                command.arg(format!("--{flag}={}", pki.file(&format!("{owner}.kubeconfig"))));
            }
            command.args(["--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false"]);
            Ok(command)
        };
        let mut controllers = with_rights("kube-controller-manager", "controllers")?;
        for (flag, file) in [
            ("service-account-private-key-file", "tokens.key"),
            ("root-ca-file", "authority.crt"),
            ("cluster-signing-cert-file", "authority.crt"),
            ("cluster-signing-key-file", "authority.key"),
        ] {
            controllers.arg(format!("--{flag}={}", pki.file(file)));
        }
        controllers.arg(format!("--service-cluster-ip-range={SERVICES}"));
        controllers.args(["--use-service-account-credentials=true", "--allocate-node-cidrs=false"]);
        // Half of the usual: a run that waits for a lost node should not wait for long.
        controllers.arg("--node-monitor-grace-period=20s");
        self.controllers.push(Program::start("kube-controller-manager", controllers, &self.logs)?);
        let scheduler = with_rights("kube-scheduler", "scheduler")?;
        self.controllers.push(Program::start("kube-scheduler", scheduler, &self.logs)?);
        Ok(())
    }

    /// Stops the API server, and what cannot be without it: where controllers elect a leader, one that loses the API server ends, and
    /// begins anew once it is back. One that went on would take every node for dead whose heartbeats it could not see meanwhile.
    pub(crate) fn stop_api_server(&mut self) -> Result<()> {
        self.controllers.drain(..).try_for_each(|mut program| program.kill())?;
        self.api_server.take().context("the API server is stopped already")?.kill()
    }

    pub(crate) fn start_api_server(&mut self, pki: &Pki) -> Result<()> {
        if self.api_server.is_none() {
            self.api_server = Some(start_api_server(pki, &self.logs)?);
        }
        Ok(())
    }

    pub(crate) fn check(&mut self) -> Result<()> {
        self.etcd.check()?;
        self.api_server.iter_mut().chain(&mut self.controllers).try_for_each(Program::check)
    }

    pub(crate) fn stop(self) -> Result<()> {
        let Self { logs: _, mut etcd, api_server, controllers } = self;
        controllers.into_iter().chain(api_server).try_for_each(|mut program| program.kill())?;
        etcd.kill()
    }
}

/// Waits until the API server answers that it is.
pub(crate) async fn ready(client: &Client) -> Result<()> {
    eventually("the API server is ready", PATIENCE, async || {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        Ok(client.request_text(request).await.is_ok_and(|answer| answer == "ok"))
    })
    .await
}

fn start_api_server(pki: &Pki, logs: &Path) -> Result<Program> {
    let policy = pki.file("audit-policy.json");
    fs::write(&policy, audit_policy().to_string()).context("writing the audit policy")?;
    let mut command = Command::new(parts::control_plane("kube-apiserver")?);
    for (flag, file) in [
        ("tls-cert-file", "api-server.crt"),
        ("tls-private-key-file", "api-server.key"),
        ("client-ca-file", "authority.crt"),
        ("service-account-key-file", "tokens.pub"),
        ("service-account-signing-key-file", "tokens.key"),
        ("kubelet-client-certificate", "api-server-to-kubelet.crt"),
        ("kubelet-client-key", "api-server-to-kubelet.key"),
        ("requestheader-client-ca-file", "authority.crt"),
        ("proxy-client-cert-file", "front-proxy.crt"),
        ("proxy-client-key-file", "front-proxy.key"),
        ("audit-policy-file", "audit-policy.json"),
    ] {
        command.arg(format!("--{flag}={}", pki.file(file)));
    }
    for (flag, value) in [
        ("etcd-servers", ETCD),
        ("service-cluster-ip-range", SERVICES),
        ("advertise-address", &address(1)),
        ("audit-log-path", &logs.join("audit.log").to_string_lossy()),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    command.args([
        "--bind-address=0.0.0.0",
        "--secure-port=6443",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--kubelet-preferred-address-types=InternalIP",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--profiling=false",
    ]);
    Program::start("kube-apiserver", command, logs)
}

/// What service accounts do (the operator's is one), reads and writes alike; nothing of bodies.
fn audit_policy() -> serde_json::Value {
    let stages = ["RequestReceived", "ResponseStarted"];
    let ours = json!({"level": "Metadata", "userGroups": ["system:serviceaccounts"]});
    let theirs = json!({"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]});
    json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": stages, "rules": [theirs, ours, {"level": "None"}]})
}
