//! The chart, installed by Helm as its users do, into a namespace where PodSecurity `restricted` is enforced.

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{cluster::Cluster, objects::Objects, options::Options};

/// Where the operator lives.
pub(crate) const SYSTEM: &str = "expert-router-system";
/// The Helm release, and so the name of the operator's Deployment.
pub(crate) const RELEASE: &str = "expert-router";
const CHART: &str = "charts/expert-router";

/// Makes the definitions of PodMonitors known (nothing acts on them), then installs.
pub(crate) async fn install(cluster: &Cluster, options: &Options) -> Result<Objects> {
    let monitors = parts::definitions()?.into_iter().find(|path| path.to_string_lossy().ends_with("_podmonitors.yaml"));
    let monitors = monitors.context("the definition of PodMonitor is not among those that are fetched")?;
    // Applied by the server: it is too long for the annotation that a client would write.
    cluster.kubectl(&["apply", "--server-side", "--filename", &monitors.to_string_lossy()])?;
    cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "customresourcedefinition/podmonitors.monitoring.coreos.com",
    ])?;
    let system = Objects::new(cluster.client.clone(), SYSTEM);
    system.restricted().await?;
    let image = |name: &str| json!({"repository": format!("{}/{name}", options.repository)});
    let values = json!({
        "images": {
            "operator": image("expert-router-operator"), "router": image("expert-router"), "train": image("expert-router-train"),
        },
        "podMonitor": {"enabled": true},
    });
    let file = cluster.folder.join("values.yaml");
    std::fs::write(&file, values.to_string()).with_context(|| format!("writing {}", file.display()))?;
    let file = file.to_string_lossy();
    cluster.helm(&["install", RELEASE, CHART, "--namespace", SYSTEM, "--values", &file, "--wait", "--timeout", "5m"])?;
    Ok(system)
}

/// Of an existing cluster: what a run before this one left would be taken for this one's.
pub(crate) async fn nothing_there(objects: &Objects, namespaces: &[&str]) -> Result<()> {
    for namespace in namespaces {
        if objects.of("").find("namespaces", namespace).await?.is_some() {
            bail!("namespace {namespace} exists: remove what an earlier run left (`kubectl delete namespace {}`)", namespaces.join(" "));
        }
    }
    Ok(())
}
