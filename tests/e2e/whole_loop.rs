//! From `helm install` and two manifests to requests that a router trained in the cluster decides, and savings that add up. No step in
//! between is done by hand: what is waited for here, the operator does.

mod accounts;
mod inputs;
mod monitoring;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    clients::{ClientPlan, LoadClient},
    cluster::Cluster,
    images::Images,
    install::{self, RELEASE, SYSTEM},
    load::{generator::Load, record::Record},
    objects::Objects,
    options::{Kind, Options},
    progress::say,
    report::Report,
};
use accounts::{Account, Prices};
use inputs::Inputs;
use monitoring::Prometheus;

/// Where router, experts and clients live.
const NAMESPACE: &str = "expert-router-e2e";
/// Where Prometheus lives.
const MONITORING: &str = "expert-router-monitoring";
/// Of the ExpertRouter and of the RouterModel.
const NAME: &str = "chat";
/// The expert elsewhere.
const CLOUD: &str = "cloud";
/// The client that calls the gateway.
const OUTSIDE: &str = "outside";
/// The one that calls its sidecar.
const INSIDE: &str = "inside";
const PATIENCE: Duration = Duration::from_secs(300);
/// Asking some three hundred answers of small models, and training: a busy machine takes its time.
const TRAINING: Duration = Duration::from_secs(1200);
/// Requests a second, of each client: what three small models on two cores keep up with.
const RATE: f64 = 1.0;

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
pub(crate) async fn run(cluster: &Cluster, options: &Options, report: &mut Report) -> Result<Installed> {
    let began = Instant::now();
    let objects = Objects::new(cluster.client.clone(), NAMESPACE);
    if cluster.kind() == Kind::Existing {
        install::nothing_there(&objects, &[SYSTEM, NAMESPACE, MONITORING]).await?;
    }
    let images = Images::of(options);
    install::install(cluster, options).await?;
    say("the chart is installed");
    let inputs = Inputs::read()?;
    let manifest = inputs.apply(cluster, &objects, &images).await?;
    let installed = installed(images, &inputs);

    // Before there is a model, the fallback expert answers.
    objects.until_condition("expertrouters", NAME, "Ready", "True", PATIENCE).await?;
    objects.until_rolled_out(&installed.gateway, PATIENCE).await?;
    say("the router answers, without a model yet");
    let model = objects.until_condition("routermodels", NAME, "Ready", "True", TRAINING).await?;
    say(format!("a router was trained and published: {}", model["status"]["bundle"]["digest"].as_str().unwrap_or_default()));
    objects.until_condition("expertrouters", NAME, "ModelReady", "True", PATIENCE).await?;
    objects.until_rolled_out(&installed.gateway, PATIENCE).await?;
    let trained = began.elapsed();
    say("the gateway routes by it");

    let prometheus = Prometheus::start(cluster, &objects, &installed.images).await?;
    say("Prometheus scrapes what the PodMonitors select");
    let (outside, inside) = traffic(cluster, &objects, &installed).await?;
    let prices = Prices::of(&manifest, CLOUD)?;
    let both = Account::of(outside.iter().chain(&inside), &prices)?;
    let seen = prometheus.until_it_saw(both.requests).await?;
    both.compare(&seen)?;
    // Not before: what a sidecar counted goes with its Pod.
    for pod in [OUTSIDE, INSIDE] {
        objects.delete("pods", pod, Some(0)).await?;
    }
    say(format!("{} requests: savings of {:.9} USD, and Prometheus says the same", both.requests, both.savings_usd));
    report.section("The loop", &section(&model, trained, &outside, &inside, &both));
    Ok(installed)
}

/// The questions of the test split, to the gateway and to a sidecar.
async fn traffic(cluster: &Cluster, objects: &Objects, installed: &Installed) -> Result<(Vec<Record>, Vec<Record>)> {
    let nodes = cluster.nodes();
    let node = nodes.first().context("there is no node")?;
    let plan = |pod, inject| ClientPlan { pod, inject, url: &installed.gateway_url, node, image: &installed.images.e2e };
    let outside = LoadClient::start(cluster, objects, &plan(OUTSIDE, None)).await?;
    let inside = LoadClient::start(cluster, objects, &plan(INSIDE, Some(NAME))).await?;
    let load =
        Load { rate: RATE, phase: "loop".into(), model: "auto".into(), prompts: installed.prompts.clone(), exact: true, ..Load::default() };
    let mut records = Vec::new();
    for client in [&outside, &inside] {
        client.load(&load).await?;
        // Half a period later: each question is asked, and the last one not twice.
        tokio::time::sleep(Duration::from_secs_f64((installed.prompts.len() as f64 - 0.5) / RATE)).await;
        client.load(&Load { rate: 0.0, ..load.clone() }).await?;
        let of_client = client.records(&load.phase).await?;
        let wrong: Vec<_> = of_client.iter().filter(|record| record.status != 200 || !record.detail.is_empty()).collect();
        ensure!(wrong.is_empty(), "requests of {} that were not answered: {wrong:#?}", client.pod);
        let decided = of_client.iter().filter(|record| ["cost", "quality", "balanced"].contains(&record.reason.as_str())).count();
        ensure!(
            decided * 10 >= of_client.len() * 9,
            "{} decided {decided} of {} by the model: {of_client:#?}",
            client.pod,
            of_client.len()
        );
        let experts: std::collections::BTreeSet<_> = of_client.iter().map(|record| &record.expert).collect();
        ensure!(experts.len() > 1, "{} sent everything to {experts:?}", client.pod);
        records.push(of_client);
    }
    let inside = records.pop().unwrap_or_default();
    Ok((records.pop().unwrap_or_default(), inside))
}

fn installed(images: Images, inputs: &Inputs) -> Installed {
    let child = |expert: &str| Child { expert: expert.to_owned(), object: format!("{NAME}-expert-{expert}") };
    let gateway = format!("{NAME}-gateway");
    Installed {
        namespace: NAMESPACE.into(),
        system: SYSTEM.into(),
        monitoring: MONITORING.into(),
        release: RELEASE.into(),
        operator: RELEASE.into(),
        router: NAME.into(),
        model: NAME.into(),
        gateway_url: format!("http://{gateway}.{NAMESPACE}.svc.cluster.local/v1"),
        gateway,
        experts: ["capitals", "continents", "tenses"].map(child).to_vec(),
        cloud: Child { expert: CLOUD.into(), object: CLOUD.into() },
        images,
        prompts: inputs.test_prompts(),
    }
}

fn section(model: &Value, trained: Duration, outside: &[Record], inside: &[Record], both: &Account) -> String {
    let mut text = format!(
        "From `helm install` to a gateway that routes by a router trained in the cluster: {:.0} s. Money spent on answers to train with: {} USD.\n\n\
         | | score | USD per thousand queries |\n|---|---|---|\n",
        trained.as_secs_f64(),
        model["status"]["costUsd"].as_str().unwrap_or("0"),
    );
    for row in model["status"]["evaluation"].as_array().into_iter().flatten() {
        let of = |field: &str| row[field].as_str().unwrap_or("").to_owned();
        text += &format!("| {} | {} | {} |\n", of("name"), of("score"), of("costPerThousandUsd"));
    }
    text += &format!(
        "\nThen {} questions of the test split through the gateway and {} through an injected sidecar:\n\n| expert | gateway | sidecar |\n|---|---|---|\n",
        outside.len(),
        inside.len()
    );
    let experts: std::collections::BTreeSet<_> = outside.iter().chain(inside).map(|record| record.expert.as_str()).collect();
    for expert in experts {
        let count = |records: &[Record]| records.iter().filter(|record| record.expert == expert).count();
        text += &format!("| {expert} | {} | {} |\n", count(outside), count(inside));
    }
    text += &format!(
        "\nBy what the clients were told (tokens, headers, prices) they cost {:.9} USD, {:.9} less than from the baseline expert. Prometheus, \
         which scraped the proxies by the selectors of the PodMonitors, says the same to within a millionth of it.\n",
        both.cost_usd, both.savings_usd
    );
    text
}
