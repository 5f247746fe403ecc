//! Where things are broken: a namespace with two routers, their experts, two load clients, and an eye on every log.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    future::Future,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    clients::{ClientPlan, LoadClient},
    cluster::Cluster,
    load::{
        generator::Load,
        record::{Outcome, Record},
    },
    logs::{Logs, Whose},
    metering::{Allowed, Lines, Tally, missing, tally},
    objects::Objects,
    options::{Kind, Options},
    report::Row,
    whole_loop::Installed,
};

/// Where it is.
pub(crate) const NAMESPACE: &str = "expert-router-faults";
/// The router under load.
pub(crate) const ROUTER: &str = "load";
/// The one whose experts do badly.
pub(crate) const FRAIL: &str = "frail";
/// Requests a second, of each client.
pub(crate) const RATE: f64 = 10.0;
/// Patience with what a cluster does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// Load goes on for so long after each fault: what comes late belongs to it.
const REST: Duration = Duration::from_secs(2);
/// Log lines come a moment after their requests.
const LOGS: Duration = Duration::from_secs(20);

/// A question that alpha answers well by the model `red-first`, and beta by `blue-first`.
pub(crate) const APPLES: &str = "Which colour has the apple on the table?";
/// The other way round.
pub(crate) const SKY: &str = "Which colour has the sky above the sea?";

/// All that faults need.
pub(crate) struct Stage<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) installed: &'a Installed,
    pub(crate) options: &'a Options,
    /// Of the stage's namespace.
    pub(crate) objects: Objects,
    /// Of the operator's.
    pub(crate) system: Objects,
    /// Calls the gateway.
    pub(crate) outside: LoadClient<'a>,
    /// Calls its sidecar.
    pub(crate) inside: LoadClient<'a>,
    logs: Vec<Logs>,
    /// Of the operator.
    pub(crate) operator_logs: Logs,
}

impl<'a> Stage<'a> {
    /// Sets it up.
    pub(crate) async fn set(cluster: &'a Cluster, installed: &'a Installed, options: &'a Options) -> Result<Self> {
        let objects = Objects::new(cluster.client.clone(), NAMESPACE);
        let system = objects.of(installed.system);
        objects.restricted().await?;
        let yaml = include_str!("manifests/routers.yaml").replace("REPLAY", &installed.images.replay);
        cluster.apply(NAMESPACE, &yaml)?;
        let folder = options.output.join("logs");
        let follow = |labels: String| Logs::follow(Whose { objects: objects.clone(), labels, container: "expert-router".into() }, &folder);
        let logs = vec![follow(format!("expertrouter.dev/router={ROUTER}"))?, follow(format!("expertrouter.dev/router={FRAIL}"))?];
        let operator = system.get("apps/v1/deployments", installed.release).await?;
        let container = operator["spec"]["template"]["spec"]["containers"][0]["name"].as_str().unwrap_or_default().to_owned();
        let labels = crate::objects::selector_of(&operator);
        let operator_logs = Logs::follow(Whose { objects: system.clone(), labels, container }, &folder)?;
        for router in [ROUTER, FRAIL] {
            objects.until_condition("expertrouters", router, "Ready", "True", PATIENCE).await?;
            objects.until_rolled_out(&format!("{router}-gateway"), PATIENCE).await?;
        }
        let (outside, inside) = start_clients(cluster, installed, &objects).await?;
        Ok(Self { cluster, installed, options, objects, system, outside, inside, logs, operator_logs })
    }

    /// Starts both clients anew: a sidecar mounts what its router has when its Pod is made.
    pub(crate) async fn restart_clients(&mut self) -> Result<()> {
        (self.outside, self.inside) = start_clients(self.cluster, self.installed, &self.objects).await?;
        Ok(())
    }

    /// Both.
    pub(crate) fn clients(&self) -> [&LoadClient<'a>; 2] {
        [&self.outside, &self.inside]
    }

    /// Whether it is a cluster whose processes and folders are ours.
    pub(crate) fn is_own(&self) -> bool {
        self.cluster.kind() == Kind::Own
    }

    /// The node that is broken: not the one with the clients.
    pub(crate) fn other_node(&self) -> Result<String> {
        self.cluster.nodes().get(1).cloned().context("there is one node only")
    }

    /// What the proxies logged of requests by now.
    pub(crate) fn lines(&self) -> Lines {
        let mut all = Lines::new();
        for logs in &self.logs {
            for (id, lines) in logs.lines() {
                all.entry(id).or_default().extend(lines);
            }
        }
        all
    }

    /// What the proxies said went wrong.
    pub(crate) fn troubles(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (trouble, times) in self.logs.iter().flat_map(Logs::troubles) {
            *all.entry(trouble).or_default() += times;
        }
        all
    }

    /// The usual load, as part of this phase.
    pub(crate) fn usual(phase: &str) -> Load {
        let prompts = vec![APPLES.to_owned(), SKY.to_owned()];
        Load { rate: RATE, phase: phase.to_owned(), model: "auto".into(), prompts, ..Load::default() }
    }

    /// Changes what an object's spec says.
    pub(crate) async fn edit(&self, router: &str, change: impl FnOnce(&mut Value)) -> Result<Value> {
        let mut object = self.objects.get("expertrouters", router).await?;
        change(&mut object["spec"]);
        self.objects.merge("expertrouters", router, &json!({"spec": object["spec"]})).await
    }

    /// Changes what an expert of the router under load takes for a request.
    pub(crate) async fn price(&self, expert: usize, per_request: &str) -> Result<Value> {
        self.edit(ROUTER, |spec| spec["experts"][expert]["pricing"] = json!({"perRequest": per_request})).await
    }

    /// Does something under load, and counts.
    pub(crate) async fn phase(&self, name: &str, load: Load, allowed: Allowed, act: impl Future<Output = Result<String>>) -> Row {
        let began = Instant::now();
        let mut row = Row { name: name.to_owned(), ..Row::default() };
        let done = self.under_load(name, load, act).await;
        row.seconds = began.elapsed().as_secs_f64();
        match done {
            Ok((note, records)) => {
                self.wait_for_logs(&records).await;
                self.keep(&records);
                row.tally = tally(&records, &self.lines());
                row.note = note.unwrap_or_else(|error| {
                    row.wrong.push(format!("{error:#}"));
                    String::new()
                });
                row.wrong.extend(allowed.judge(&row.tally));
            }
            Err(error) => row.wrong.push(format!("{error:#}")),
        }
        self.show(&row);
        row
    }

    fn show(&self, row: &Row) {
        let Tally { sent, answered, failed, raced, cut, retried, fallen_back, metered, .. } = &row.tally;
        println!(
            "{}: sent {sent}, answered {answered}, failed {failed}, raced {raced}, cut {cut}, retried {retried}, fallen back {fallen_back}, metered {metered} ({:.0} s): {}",
            row.name,
            row.seconds,
            if row.wrong.is_empty() { "as expected".to_owned() } else { row.wrong.join("; ") }
        );
    }

    async fn under_load(&self, name: &str, load: Load, act: impl Future<Output = Result<String>>) -> Result<(Result<String>, Vec<Record>)> {
        for client in self.clients() {
            client.load(&load).await?;
        }
        let note = act.await;
        tokio::time::sleep(REST).await;
        let mut records = Vec::new();
        for client in self.clients() {
            client.load(&Self::usual("between")).await?;
        }
        for client in self.clients() {
            records.extend(client.records(name).await?);
        }
        Ok((note, records))
    }

    /// Writes down what became of requests that were not answered, for whoever looks into it.
    fn keep(&self, records: &[Record]) {
        let path = self.options.output.join("logs").join("unanswered.jsonl");
        let bad = records.iter().filter(|record| record.outcome != Outcome::Answered);
        let lines: String = bad.filter_map(|record| serde_json::to_string(record).ok()).map(|line| line + "\n").collect();
        let file = OpenOptions::new().create(true).append(true).open(&path);
        if let Err(error) = file.and_then(|mut file| file.write_all(lines.as_bytes())) {
            println!("{}: {error}", path.display());
        }
    }

    async fn wait_for_logs(&self, records: &[Record]) {
        let deadline = Instant::now() + LOGS;
        while !missing(records, &self.lines()).is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Waits until everything is as it was before something was broken.
    pub(crate) async fn settle(&self) -> Result<()> {
        for router in [ROUTER, FRAIL] {
            for expert in self.objects.list("apps/v1/deployments", &format!("expertrouter.dev/router={router}")).await? {
                self.objects.until_rolled_out(&crate::objects::name_of(&expert), PATIENCE).await?;
            }
        }
        self.system.until_rolled_out(self.installed.release, PATIENCE).await
    }

    /// Nothing is sent any more.
    pub(crate) async fn rest(&self) -> Result<()> {
        for client in self.clients() {
            client.load(&Load::default()).await?;
        }
        Ok(())
    }

    /// Where files of the run go.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cluster.folder.clone()
    }
}

async fn start_clients<'a>(cluster: &'a Cluster, installed: &Installed, objects: &Objects) -> Result<(LoadClient<'a>, LoadClient<'a>)> {
    let nodes = cluster.nodes();
    let node = nodes.first().context("there is no node")?;
    let url = gateway_url(ROUTER);
    let plan = |pod, inject| ClientPlan { pod, inject, url: &url, node, image: &installed.images.e2e };
    let outside = LoadClient::start(cluster, objects, &plan("outside", None)).await?;
    let inside = LoadClient::start(cluster, objects, &plan("inside", Some(ROUTER))).await?;
    Ok((outside, inside))
}

/// A router's base URL inside the cluster.
pub(crate) fn gateway_url(router: &str) -> String {
    format!("http://{router}-gateway.{NAMESPACE}.svc.cluster.local/v1")
}
