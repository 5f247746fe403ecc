//! The chart, installed by Helm into a namespace: nothing of what the operator may do or is told comes from anywhere else.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Cluster, Namespace};

/// The chart's folder, from the workspace's.
pub(crate) const CHART: &str = "charts/expert-router";
/// The release's name.
const RELEASE: &str = "xr";

/// An installed release that looks after its own namespace.
#[derive(Debug)]
pub struct Release<'a> {
    pub(crate) namespace: &'a Namespace,
    /// The operator's Deployment, as the chart made it.
    pub(crate) deployment: Value,
}

impl Namespace {
    /// Installs the chart for this namespace alone, with further values. The CRDs are there already.
    ///
    /// # Errors
    /// Helm fails; with what it said.
    pub async fn install(&self, values: &Value) -> Result<Release<'_>> {
        let mut all = json!({"crds": {"install": false}, "rbac": {"aggregate": false}, "namespaces": [self.name]});
        merge(&mut all, values);
        let file = self.cluster.folder().join(format!("{}.yaml", Cluster::unique("values")));
        std::fs::write(&file, all.to_string()).with_context(|| format!("writing {}", file.display()))?;
        self.cluster.helm(&["install", RELEASE, CHART, "--namespace", &self.name, "--values", &file.to_string_lossy()])?;
        let deployment = self.find("apps/v1/deployments", &format!("{RELEASE}-expert-router")).await?;
        Ok(Release { namespace: self, deployment: deployment.context("the chart has a Deployment")? })
    }
}

impl Release<'_> {
    /// The operator's service account.
    #[must_use]
    pub fn account(&self) -> &str {
        self.deployment["spec"]["template"]["spec"]["serviceAccountName"].as_str().unwrap_or_default()
    }

    /// A token of the operator's service account, as its Pod would get it.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn token(&self) -> Result<String> {
        let path = format!("{}/{}/token", self.namespace.path("serviceaccounts"), self.account());
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}});
        let answer = self.namespace.api().create(&path, &request).await?;
        answer["status"]["token"].as_str().map(str::to_owned).context("a token request is answered with a token")
    }

    /// What the operator's container is told.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let variables = self.deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().cloned().unwrap_or_default();
        let pair = |variable: &Value| Some((variable["name"].as_str()?.to_owned(), variable["value"].as_str()?.to_owned()));
        variables.iter().filter_map(pair).collect()
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
