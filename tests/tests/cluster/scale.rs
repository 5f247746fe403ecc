//! A thousand routers of five experts each: how long until all are settled, at what cost. A measurement, not a test:
//! `cargo test --release --package tests --test cluster -- --ignored --nocapture scale`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{cluster::Cluster, eventually};

use crate::operator::start;

fn routers() -> usize {
    std::env::var("ROUTERS").ok().and_then(|routers| routers.parse().ok()).unwrap_or(1000)
}

fn router(index: usize) -> Value {
    let expert = |number: usize| json!({"name": format!("expert-{number}"), "url": format!("https://llm-{number}.example.com/v1"), "modelName": "m", "pricing": {"inputPerMillion": "0.5"}});
    let experts: Vec<Value> = (0..5).map(expert).collect();
    json!({
        "apiVersion": "expertrouter.dev/v1alpha1", "kind": "ExpertRouter", "metadata": {"name": format!("router-{index}")},
        "spec": {"experts": experts, "policy": {"fallbackExpert": "expert-0"}},
    })
}

#[tokio::test]
#[ignore = "a measurement of minutes"]
async fn a_thousand_routers_settle() {
    let namespace = Cluster::shared().namespace("scale").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let routers = routers();
    for index in 0..routers {
        namespace.api().create(&namespace.path("expertrouters"), &router(index)).await.unwrap();
    }
    let calls = namespace.cluster.calls();
    let began = Instant::now();
    let operator = start(&release, "one").await;
    eventually("every router has been looked at", Duration::from_secs(900), async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let all = namespace.list("expertrouters", "").await?;
        Ok(all.iter().filter(|router| tests::cluster::condition(router, "Ready").is_some()).count() == routers)
    })
    .await
    .unwrap();
    let settled = began.elapsed();
    let made = calls.of(&namespace.name, release.account()).unwrap();
    let metrics = operator.metrics().await.unwrap();
    let resident = metrics.sum("process_resident_memory_bytes", &[]);
    let calls = namespace.cluster.calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let at_rest = calls.writes_of(&namespace.name, release.account()).unwrap().len();
    println!(
        "{routers} routers x 5 experts: settled in {:.1} s, {} calls of which {} writes, {:.0} MiB resident, then {at_rest} writes in 60 s",
        settled.as_secs_f64(),
        made.len(),
        made.iter().filter(|call| call.writes()).count(),
        resident / f64::from(1 << 20),
    );
    assert_eq!(at_rest, 0);
}
