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
    /// Where the loop's router, experts and clients live, PodSecurity `restricted` enforced; `None` where it was left out.
    pub(crate) namespace: Option<&'static str>,
    /// Where the operator lives.
    pub(crate) system: &'static str,
    /// The Helm release, and the operator's Deployment.
    pub(crate) release: &'static str,
    /// The images to start further Pods from.
    pub(crate) images: Images,
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
    let gateway = format!("{NAME}-gateway");

    // Before there is a model, the fallback expert answers.
    objects.until_condition("expertrouters", NAME, "Ready", "True", PATIENCE).await?;
    objects.until_rolled_out(&gateway, PATIENCE).await?;
    say("the router answers, without a model yet");
    let model = objects.until_condition("routermodels", NAME, "Ready", "True", TRAINING).await?;
    say(format!("a router was trained and published: {}", model["status"]["bundle"]["digest"].as_str().unwrap_or_default()));
    objects.until_condition("expertrouters", NAME, "ModelReady", "True", PATIENCE).await?;
    objects.until_rolled_out(&gateway, PATIENCE).await?;
    let trained = began.elapsed();
    say("the gateway routes by it");

    let prometheus = Prometheus::start(cluster, &objects, &images).await?;
    say("Prometheus scrapes what the PodMonitors select");
    let (outside, inside) = traffic(cluster, &objects, &images, &inputs.test_prompts()).await?;
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
    Ok(Installed { namespace: Some(NAMESPACE), system: SYSTEM, release: RELEASE, images })
}

/// The questions of the test split, to the gateway and to a sidecar.
async fn traffic(cluster: &Cluster, objects: &Objects, images: &Images, prompts: &[String]) -> Result<(Vec<Record>, Vec<Record>)> {
    let nodes = cluster.nodes();
    let node = nodes.first().context("there is no node")?;
    let url = format!("http://{NAME}-gateway.{NAMESPACE}.svc.cluster.local/v1");
    let plan = |pod, inject| ClientPlan { pod, inject, url: &url, node, image: &images.e2e };
    let outside = LoadClient::start(cluster, objects, &plan(OUTSIDE, None)).await?;
    let inside = LoadClient::start(cluster, objects, &plan(INSIDE, Some(NAME))).await?;
    let load = Load { rate: RATE, phase: "loop".into(), model: "auto".into(), prompts: prompts.to_vec(), exact: true, ..Load::default() };
    let mut records = Vec::new();
    for client in [&outside, &inside] {
        client.load(&load).await?;
        // Half a period later: each question is asked, and the last one not twice.
        tokio::time::sleep(Duration::from_secs_f64((prompts.len() as f64 - 0.5) / RATE)).await;
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
