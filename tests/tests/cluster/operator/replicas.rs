//! Two replicas: one leads, and the other steps in.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, Namespace, Operator},
    eventually,
};

use super::{ROUTER, start, until_ready};

/// The default of the chart is 15 s; a machine that is busy may look at the Lease late.
const PATIENCE: Duration = Duration::from_secs(60);

async fn lease(namespace: &Namespace) -> Value {
    namespace.find("coordination.k8s.io/v1/leases", "xr-expert-router").await.unwrap().unwrap_or_default()
}

async fn holder(namespace: &Namespace) -> String {
    lease(namespace).await["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

async fn leads(operator: &Operator) -> bool {
    operator.metrics().await.is_ok_and(|metrics| metrics.sum("expert_router_operator_leading", &[]) == 1.0)
}

#[tokio::test]
async fn one_leads_and_the_other_takes_over_when_it_is_gone() {
    let namespace = Cluster::shared().namespace("replicas").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let mut first = start(&release, "first").await;
    eventually("the first replica leads", PATIENCE, async || Ok(holder(&namespace).await == "first")).await.unwrap();
    let second = start(&release, "second").await;
    namespace.apply(ROUTER).unwrap();
    until_ready(&namespace).await;
    assert!(leads(&first).await && !leads(&second).await);

    first.kill().unwrap();
    let gone = Instant::now();
    eventually("the second replica leads", PATIENCE, async || Ok(holder(&namespace).await == "second")).await.unwrap();
    println!("takeover after a crash: {:.1} s", gone.elapsed().as_secs_f64());
    // By the Lease's own word, which no busy test process can delay: 15 s, and one look of the other replica.
    let change = json!({"spec": {"gateway": {"replicas": 3}}});
    namespace.api().merge(&format!("{}/chat", namespace.path("expertrouters")), &change).await.unwrap();
    let scaled = |gateway: &Value| gateway["spec"]["replicas"] == 3;
    namespace.until("apps/v1/deployments", "chat-gateway", "the new leader works", scaled).await.unwrap();
}

#[tokio::test]
async fn one_that_is_asked_to_go_hands_over_at_once() {
    let namespace = Cluster::shared().namespace("handover").await.unwrap();
    // Longer than the test waits: only a Lease that was let go can be taken.
    let release = namespace.install(&json!({"operator": {"leaseSeconds": 3600}})).await.unwrap();
    let mut first = start(&release, "first").await;
    eventually("the first replica leads", PATIENCE, async || Ok(holder(&namespace).await == "first")).await.unwrap();
    let second = start(&release, "second").await;
    first.terminate().await.unwrap();
    eventually("the second replica leads", PATIENCE, async || Ok(leads(&second).await)).await.unwrap();
}
