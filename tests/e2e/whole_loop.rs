//! From `helm install` and two manifests to requests that a router trained in the cluster decides, and savings that add up.

use anyhow::{Result, bail};

use crate::{cluster::Cluster, images::Images, options::Options, report::Report};

/// What the loop leaves standing, for those who break it.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    /// Where router, experts and clients live; PodSecurity `restricted` is enforced.
    pub(crate) namespace: String,
    /// Where the operator lives.
    pub(crate) system: String,
    /// Where Prometheus lives: a Service `prometheus`, port 9090.
    pub(crate) monitoring: String,
    /// The Helm release.
    pub(crate) release: String,
    /// The operator's Deployment.
    pub(crate) operator: String,
    /// The ExpertRouter.
    pub(crate) router: String,
    /// The RouterModel.
    pub(crate) model: String,
    /// The gateway's Deployment and Service.
    pub(crate) gateway: String,
    /// The gateway's base URL inside the cluster, with `/v1`.
    pub(crate) gateway_url: String,
    /// The experts the operator runs: name, and name of Deployment and Service.
    pub(crate) experts: Vec<Child>,
    /// The expert elsewhere: its name, and the Deployment and Service that plays it.
    pub(crate) cloud: Child,
    /// The images to start further Pods from.
    pub(crate) images: Images,
    /// Prompts of the test split, which the router was not trained on.
    pub(crate) prompts: Vec<String>,
}

/// An expert and the objects that run it.
#[derive(Debug, Clone)]
pub(crate) struct Child {
    /// As the ExpertRouter has it.
    pub(crate) expert: String,
    /// Its Deployment and Service.
    pub(crate) object: String,
}

/// Goes the whole way, and counts.
pub(crate) async fn run(_cluster: &Cluster, _options: &Options, _report: &mut Report) -> Result<Installed> {
    bail!("not yet")
}
