//! The four servers: their flags, and waiting until they are ready.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{Api, pki::Certificates};
use crate::{eventually, process::Process};

/// A cold start takes four seconds, on a busy machine ten.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Somebody may take a port between our asking for a free one and a server's taking it.
const ATTEMPTS: u32 = 3;

/// Starts all; the API server's URL.
pub(crate) async fn start(folder: &Path, token: &str, certificates: &Certificates) -> Result<(String, Vec<Process>)> {
    for attempt in 1.. {
        let [clients, peers, secure] = free_ports()?;
        let url = format!("https://127.0.0.1:{secure}");
        write_kubeconfig(&administrator_kubeconfig(folder), &url, &certificates.authority, token, "default")?;
        let etcd = etcd(folder, clients, peers)?;
        let mut server = api_server(folder, clients, secure, token, certificates)?;
        // The others wait for these by themselves, but on an empty etcd the controllers must not be first.
        match ready(&Api::new(&url, &certificates.authority, token)?, &mut server).await {
            Ok(()) => {
                let controllers = controllers(folder, certificates)?;
                let scheduler = scheduler(folder)?;
                return Ok((url, vec![etcd, server, controllers, scheduler]));
            }
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(_) => {}
        }
    }
    bail!("no attempt was made")
}

fn free_ports() -> Result<[u16; 3]> {
    let listeners = [0; 3].map(|port| TcpListener::bind(("127.0.0.1", port)));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

async fn ready(api: &Api, server: &mut Process) -> Result<()> {
    let ask = async || {
        ensure!(server.ended()?.is_none(), "it ended");
        Ok(api.is_ready().await)
    };
    let answered = eventually("the API server is ready", START_PATIENCE, ask).await;
    answered.with_context(|| format!("the API server says:\n{}", server.log()))
}

fn etcd(folder: &Path, clients: u16, peers: u16) -> Result<Process> {
    let (clients, peers) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
    let mut command = Command::new(parts::control_plane("etcd")?);
    command.args(["--data-dir".as_ref(), folder.join("etcd").as_os_str()]).args(["--log-level=error", "--unsafe-no-fsync"]);
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers, "--initial-cluster", &format!("default={peers}")]);
    Process::start_guarded("etcd", &command)
}

fn api_server(folder: &Path, etcd: u16, port: u16, token: &str, certificates: &Certificates) -> Result<Process> {
    let tokens = folder.join("tokens.csv");
    fs::write(&tokens, format!("{token},administrator,1,system:masters\n")).context("writing the tokens")?;
    let policy = folder.join("audit-policy.json");
    fs::write(&policy, audit_policy().to_string()).context("writing the audit policy")?;
    let mut command = Command::new(parts::control_plane("kube-apiserver")?);
    for (flag, path) in [
        ("cert-dir", &folder.to_path_buf()),
        ("tls-cert-file", &certificates.certificate),
        ("tls-private-key-file", &certificates.key),
        ("token-auth-file", &tokens),
        ("service-account-key-file", &certificates.token_public_key),
        ("service-account-signing-key-file", &certificates.token_key),
        ("audit-policy-file", &policy),
        ("audit-log-path", &audit_log(folder)),
    ] {
        command.arg(format!("--{flag}={}", path.display()));
    }
    command.args([&format!("--etcd-servers=http://127.0.0.1:{etcd}"), &format!("--secure-port={port}")]);
    command.args([
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/16",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--allow-privileged=true",
    ]);
    Process::start_guarded("kube-apiserver", &command)
}

/// What service accounts do (the operator is one), reads and writes alike; nothing of bodies.
fn audit_policy() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
    })
}

/// Where the API server writes who called what.
pub(crate) fn audit_log(folder: &Path) -> PathBuf {
    folder.join("audit.log")
}

fn controllers(folder: &Path, certificates: &Certificates) -> Result<Process> {
    let mut command = Command::new(parts::control_plane("kube-controller-manager")?);
    command.arg(format!("--kubeconfig={}", administrator_kubeconfig(folder).display()));
    command.arg(format!("--service-account-private-key-file={}", certificates.token_key.display()));
    command.arg(format!("--root-ca-file={}", certificates.authority_file.display()));
    command.args(["--leader-elect=false", "--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000"]);
    Process::start_guarded("kube-controller-manager", &command)
}

fn scheduler(folder: &Path) -> Result<Process> {
    let mut command = Command::new(parts::control_plane("kube-scheduler")?);
    command.arg(format!("--kubeconfig={}", administrator_kubeconfig(folder).display()));
    command.args(["--leader-elect=false", "--secure-port=0"]);
    Process::start_guarded("kube-scheduler", &command)
}

/// The administrator's kubeconfig of a cluster.
pub(crate) fn administrator_kubeconfig(folder: &Path) -> PathBuf {
    folder.join("administrator.kubeconfig")
}

/// JSON is YAML.
pub(crate) fn write_kubeconfig(path: &Path, url: &str, authority: &str, token: &str, namespace: &str) -> Result<()> {
    let authority_file = path.with_extension("authority.crt");
    fs::write(&authority_file, authority).with_context(|| format!("writing {}", authority_file.display()))?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": authority_file}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
    });
    fs::write(path, config.to_string()).with_context(|| format!("writing {}", path.display()))
}
