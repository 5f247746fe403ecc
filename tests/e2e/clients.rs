//! The load clients of a run, as seen from outside of the cluster.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    cluster::Cluster,
    load::{
        CONTROL_PORT,
        control::Phase,
        generator::{Ended, Load},
        probe::{Progress, Wanted},
        record::Record,
        unix_milliseconds,
    },
    objects::Objects,
};

/// How long a Pod may take to be ready.
const START: Duration = Duration::from_secs(120);
/// How long requests of a phase may take to end after it: as long as a client waits at all, and some.
const END: Duration = Duration::from_secs(75);

/// A Pod that sends requests.
#[derive(Clone)]
pub(crate) struct LoadClient<'a> {
    cluster: &'a Cluster,
    objects: Objects,
    /// The Pod.
    pub(crate) pod: String,
}

/// How to start one.
pub(crate) struct ClientPlan<'a> {
    /// The Pod.
    pub(crate) pod: &'a str,
    /// The router whose sidecar it gets; absent: it calls `url`.
    pub(crate) inject: Option<&'a str>,
    /// The base URL of one that gets none.
    pub(crate) url: &'a str,
    /// Where it runs: a node that is not broken.
    pub(crate) node: &'a str,
    /// The image.
    pub(crate) image: &'a str,
}

impl<'a> LoadClient<'a> {
    /// Starts one, in place of one of that name that is there, and waits until it is ready.
    pub(crate) async fn start(cluster: &'a Cluster, objects: &Objects, plan: &ClientPlan<'_>) -> Result<Self> {
        objects.delete("pods", plan.pod, Some(0)).await?;
        let mut arguments = vec!["load", "--name", plan.pod];
        let mut labels = json!({"app": plan.pod});
        match plan.inject {
            Some(router) => labels["expertrouter.dev/inject"] = json!(router),
            None => arguments.extend(["--url", plan.url]),
        }
        let yaml = include_str!("manifests/client.yaml")
            .replace("NAME", plan.pod)
            .replace("LABELS", &labels.to_string())
            .replace("NODE", plan.node)
            .replace("IMAGE", plan.image)
            .replace("ARGS", &json!(arguments).to_string());
        cluster.apply(&objects.namespace, &yaml)?;
        let ready =
            |pod: &serde_json::Value| crate::objects::condition(pod, "Ready").is_some_and(|condition| condition["status"] == "True");
        let pod = objects.until("pods", plan.pod, START, "is ready", ready).await?;
        if plan.inject.is_some() && pod["spec"]["initContainers"][0]["name"] != "expert-router" {
            bail!("{} was not injected", plan.pod);
        }
        Ok(Self { cluster, objects: objects.clone(), pod: plan.pod.to_owned() })
    }

    /// Tells it what to send.
    pub(crate) async fn load(&self, load: &Load) -> Result<()> {
        self.post("/load", load).await
    }

    /// What there is of a phase beyond what is known. An answer that is lost on its way is asked for again.
    async fn more(&self, phase: &str, known: usize) -> Result<Ended> {
        let wanted = Phase { phase: phase.to_owned(), known };
        match self.post("/records", &wanted).await {
            Ok(ended) => Ok(ended),
            Err(_) => self.post("/records", &wanted).await,
        }
    }

    /// All records of a phase, once every request of it has ended.
    pub(crate) async fn records(&self, phase: &str) -> Result<Vec<Record>> {
        let deadline = tokio::time::Instant::now() + END;
        let mut records = Vec::new();
        loop {
            let ended = self.more(phase, records.len()).await?;
            records.extend(ended.records);
            if ended.open == 0 {
                return Ok(records);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("{} requests of {phase} by {} never ended", ended.open, self.pod);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Begins to ask until an answer is as wanted.
    pub(crate) async fn probe(&self, wanted: &Wanted) -> Result<()> {
        self.post("/probe", wanted).await
    }

    /// How far that is.
    pub(crate) async fn progress(&self) -> Result<Progress> {
        self.get("/probe").await
    }

    /// Asks until an answer is as wanted; when that question was sent, by the Pod's clock.
    pub(crate) async fn until_seen(&self, wanted: &Wanted, patience: Duration) -> Result<u64> {
        self.probe(wanted).await?;
        self.seen(patience).await
    }

    /// Waits for the end of a probe that was begun.
    pub(crate) async fn seen(&self, patience: Duration) -> Result<u64> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            // An API server that is just coming back may not let us through yet.
            let progress = self.progress().await;
            if let Ok(Progress { seen_at: Some(at), .. }) = progress {
                return Ok(at);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("{} did not see it in {patience:?}; last: {progress:?}", self.pod);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// By how many milliseconds the Pod's clock is ahead of this machine's.
    pub(crate) async fn clock_ahead(&self) -> Result<f64> {
        let before = unix_milliseconds();
        let there: u64 = self.get("/clock").await?;
        let after = unix_milliseconds();
        let here = before as f64 + (after.saturating_sub(before)) as f64 / 2.0;
        // Half a way through the API server is what is known no better.
        let ahead = there as f64 - here;
        Ok(if ahead.abs() <= (after.saturating_sub(before)) as f64 { 0.0 } else { ahead })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let text = self.cluster.pod_proxy_get(&self.objects.namespace, &self.pod, CONTROL_PORT, path).await?;
        serde_json::from_str(&text).with_context(|| format!("{path} of {}", self.pod))
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_string(body)?;
        let text = self.cluster.pod_proxy_post(&self.objects.namespace, &self.pod, CONTROL_PORT, path, &body).await?;
        serde_json::from_str(&text).with_context(|| format!("{path} of {}", self.pod))
    }
}
