//! Names of Services: CoreDNS as a process of the first node, behind the address that Pods are told.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use super::{NAME_SERVER, address, pki::Pki, program::Program};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";

pub(crate) fn start(home: &Path, logs: &Path, pki: &Pki) -> Result<Program> {
    let file = home.join("Corefile");
    let config = format!(
        ".:53 {{\n  bind {}\n  errors\n  kubernetes cluster.local in-addr.arpa {{\n    kubeconfig {} e2e\n  }}\n  cache 5\n}}\n",
        address(1),
        pki.file("administrator.kubeconfig"),
    );
    fs::write(&file, config).with_context(|| format!("writing {}", file.display()))?;
    let mut command = Command::new(parts::node("coredns")?);
    command.args(["-conf", &file.to_string_lossy()]);
    Program::start("coredns", command, logs)
}

/// Makes the Service, whose only endpoint is that process.
pub(crate) async fn announce(client: &Client) -> Result<()> {
    let service = json!({
        "metadata": {"name": NAME},
        "spec": {"clusterIP": NAME_SERVER, "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]},
    });
    let slice = json!({
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4",
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address(1)]}],
    });
    let services = Api::<Service>::namespaced(client.clone(), NAMESPACE);
    services.create(&PostParams::default(), &serde_json::from_value(service)?).await.context("making the name server's Service")?;
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), NAMESPACE);
    slices.create(&PostParams::default(), &serde_json::from_value(slice)?).await.context("making its endpoint")?;
    Ok(())
}
