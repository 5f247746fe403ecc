//! Processes and nodes that end, and come again.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http::Method;
use serde_json::{Value, json};

use crate::{
    load::probe::Wanted,
    objects::{condition, name_of, status_of},
    stage::{NAMESPACE, PATIENCE, ROUTER, Stage},
};

/// Once the node is NotReady, it stays so for a while.
const AWAY: Duration = Duration::from_secs(10);

pub(super) async fn gateway_restarted(stage: &Stage<'_>) -> Result<String> {
    stage.objects.restart(&format!("{ROUTER}-gateway"), PATIENCE).await?;
    Ok(String::new())
}

pub(super) async fn operator_restarted(stage: &Stage<'_>) -> Result<String> {
    stage.system.restart(stage.installed.release, PATIENCE).await?;
    Ok(String::new())
}

/// As `kubectl drain`: no new Pods, and those that are there are evicted as far as their disruption budgets let them go.
pub(super) async fn node_drained(stage: &Stage<'_>) -> Result<String> {
    let node = stage.other_node()?;
    let nodes = stage.objects.of("");
    nodes.merge("nodes", &node, &json!({"spec": {"unschedulable": true}})).await?;
    let drained = evict_all(stage, &node).await;
    // Everything is to be whole again on the other node before this one is there again.
    let settled = stage.settle().await;
    nodes.merge("nodes", &node, &json!({"spec": {"unschedulable": false}})).await?;
    let evicted = drained?;
    settled?;
    Ok(format!("{evicted} Pods evicted"))
}

async fn evict_all(stage: &Stage<'_>, node: &str) -> Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    let mut evicted = 0;
    loop {
        let mut left = 0;
        for namespace in [NAMESPACE, stage.installed.system] {
            let objects = stage.objects.of(namespace);
            let all = objects.list("pods", "").await?;
            for pod in all.iter().filter(|pod| pod["spec"]["nodeName"] == node && is_of_a_deployment(pod)) {
                left += 1;
                if pod["metadata"]["deletionTimestamp"].is_null() {
                    let name = name_of(pod);
                    let eviction =
                        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}});
                    let path = format!("{}/eviction", objects.path("pods", &name));
                    match objects.call(Method::POST, &path, Some(("application/json", &eviction))).await {
                        Ok(_) => evicted += 1,
                        // Its disruption budget is spent just now, or it is gone.
                        Err(error) if matches!(status_of(&error), Some(429 | 404)) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        if left == 0 {
            return Ok(evicted);
        }
        if Instant::now() > deadline {
            bail!("{left} Pods are still on {node} after {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn is_of_a_deployment(pod: &Value) -> bool {
    pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
}

/// Its containers go on; the cluster thinks they are gone.
pub(super) async fn kubelet_stopped(stage: &Stage<'_>) -> Result<String> {
    let node = stage.other_node()?;
    stage.cluster.stop_kubelet(&node).await?;
    let is = |wanted: bool| move |node: &Value| condition(node, "Ready").is_some_and(|ready| (ready["status"] == "True") == wanted);
    let nodes = stage.objects.of("");
    let began = Instant::now();
    let not_ready = nodes.until("nodes", &node, PATIENCE, "is not ready", is(false)).await;
    let seconds = began.elapsed().as_secs();
    tokio::time::sleep(AWAY).await;
    stage.cluster.start_kubelet(&node).await?;
    not_ready?;
    nodes.until("nodes", &node, PATIENCE, "is ready again", is(true)).await?;
    Ok(format!("the node was NotReady after {seconds} s"))
}

/// The data plane never asks it; a change is in force soon after it is back.
pub(super) async fn api_server_stopped(stage: &Stage<'_>) -> Result<String> {
    let away = Duration::from_secs(u64::from(stage.options.api_server_seconds));
    stage.cluster.stop_api_server().await?;
    tokio::time::sleep(away).await;
    stage.cluster.start_api_server().await?;
    let began = Instant::now();
    let changed = stage.until_priced("0.0011").await;
    let seconds = began.elapsed().as_secs_f64();
    stage.price(0, "0.001").await?;
    changed?;
    Ok(format!("{} s away; a price changed after that was in force within {seconds:.0} s", away.as_secs()))
}

impl Stage<'_> {
    /// Changes the price of the expert in use, and waits until both clients are told it.
    pub(super) async fn until_priced(&self, per_request: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        // Just after its start an API server refuses what it cannot yet judge.
        while let Err(error) = self.price(0, per_request).await {
            if Instant::now() > deadline {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let wanted = priced(per_request);
        for client in self.clients() {
            client.until_seen(&wanted, PATIENCE).await?;
        }
        Ok(())
    }
}

/// An answer of the expert in use at that price.
pub(super) fn priced(per_request: &str) -> Wanted {
    Wanted {
        expert: "alpha".into(),
        cost_usd: per_request.parse().ok(),
        model: "alpha".into(),
        prompt: "What do you take?".into(),
        every_ms: 50,
        ..Wanted::default()
    }
}
