//! From manifest to ready, at rest, under drift, and to the end.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, OperatorOptions},
    eventually,
};

use super::{BINARY, MANAGED, ROUTER, child_kinds, children, ready_router, start, until_ready, wanted_of};

/// How long it is watched at rest. `REST_SECONDS=60` is the long look.
fn rest() -> Duration {
    Duration::from_secs(std::env::var("REST_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(6))
}

#[tokio::test]
async fn a_router_becomes_ready_and_then_nothing_is_written() {
    let namespace = Cluster::shared().namespace("quiet").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let operator = start(&release, "one").await;
    let router = ready_router(&namespace).await;
    assert_eq!(router["status"]["expertsReady"], "3/3", "{}", router["status"]);
    for (collection, _) in child_kinds() {
        assert!(!namespace.list(collection, MANAGED).await.unwrap().is_empty(), "no {collection}");
    }
    // News of the last writes may still be under way.
    let mut before = Vec::new();
    eventually("two looks a second apart see the same", Duration::from_secs(60), async || {
        let calls = namespace.cluster.calls();
        tokio::time::sleep(Duration::from_secs(1)).await;
        before = calls.writes_of(&namespace.name, release.account())?;
        Ok(before.is_empty())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {before:#?}"));
    let calls = namespace.cluster.calls();
    tokio::time::sleep(rest()).await;
    let written = calls.writes_of(&namespace.name, release.account()).unwrap();
    assert!(written.is_empty(), "{written:#?}\n{}", operator.log());
    // Neither does a restart write, nor ask for what it may not have.
    drop(operator);
    let calls = namespace.cluster.calls();
    let operator = start(&release, "two").await;
    tokio::time::sleep(rest()).await;
    let written = calls.writes_of(&namespace.name, release.account()).unwrap();
    assert!(written.is_empty(), "after a restart: {written:#?}\n{}", operator.log());
    let refused: Vec<_> = calls.of(&namespace.name, release.account()).unwrap().into_iter().filter(|call| call.status == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test]
async fn drift_of_every_kind_of_child_is_healed() {
    let namespace = Cluster::shared().namespace("drift").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let operator = start(&release, "one").await;
    ready_router(&namespace).await;
    let wanted = children(&namespace).await;
    for (collection, change) in child_kinds() {
        for object in namespace.list(collection, MANAGED).await.unwrap() {
            let name = object["metadata"]["name"].as_str().unwrap();
            let path = format!("{}/{name}", namespace.path(collection));
            let changed = namespace.api().merge(&path, &change).await.unwrap_or_else(|error| panic!("{path}: {error:#}"));
            assert_ne!(wanted_of(&changed), wanted_of(&object), "{collection} {name}: the change changed nothing");
            let mut last = Vec::new();
            let healed = eventually("a changed child is as it was", Duration::from_secs(60), async || {
                last = children(&namespace).await;
                Ok(last == wanted)
            });
            healed.await.unwrap_or_else(|error| {
                panic!("{error}: {collection} {name} {change}\n{}\n{}", difference(&last, &wanted), operator.log())
            });
            namespace.api().delete(&path).await.unwrap();
            let back = eventually("a deleted child is back", Duration::from_secs(60), async || Ok(children(&namespace).await == wanted));
            back.await.unwrap_or_else(|error| panic!("{error}: {collection} {name}\n{}", operator.log()));
        }
    }
}

#[tokio::test]
async fn a_deleted_router_leaves_nothing_and_an_expert_taken_out_takes_its_children_along() {
    let namespace = Cluster::shared().namespace("deletion").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let operator = start(&release, "one").await;
    ready_router(&namespace).await;
    let all = children(&namespace).await.len();
    namespace.apply(&ROUTER.replace("name: local\n      deployment: {image: \"localhost/server:1\", port: 8080, autoscaling: {minReplicas: 1, maxReplicas: 4}, resources: {requests: {cpu: 100m}}}", "name: local\n      url: http://elsewhere.example.com/v1")).unwrap();
    let fewer = eventually("the children of an expert that moved away are gone", Duration::from_secs(60), async || {
        Ok(namespace.find("apps/v1/deployments", "chat-expert-local").await?.is_none() && children(&namespace).await.len() < all)
    });
    fewer.await.unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    namespace.kubectl(&["delete", "expertrouter", "chat"]).unwrap();
    let mut left = Vec::new();
    let gone = eventually("no child is left", Duration::from_secs(90), async || {
        left = children(&namespace).await;
        Ok(left.is_empty() && namespace.list("pods", "expertrouter.dev/router=chat").await?.is_empty())
    });
    gone.await.unwrap_or_else(|error| panic!("{error}: {left:#?}"));
    assert!(namespace.find("secrets", "frontier").await.unwrap().is_some(), "what is not the router's stays");
}

#[tokio::test]
async fn pods_stay_as_many_as_they_are_when_an_autoscaler_takes_the_place_of_replicas() {
    let namespace = Cluster::shared().namespace("autoscaled").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let operator = start(&release, "one").await;
    namespace.apply(&ROUTER.replace("gateway: {replicas: 2", "gateway: {replicas: 3")).unwrap();
    until_ready(&namespace).await;
    let change = json!({"spec": {"gateway": {"replicas": null, "autoscaling": {"minReplicas": 2, "maxReplicas": 5}}}});
    let path = format!("{}/chat", namespace.path("expertrouters"));
    namespace.api().merge(&path, &change).await.unwrap();
    // It is written after the Deployment.
    namespace.until("autoscaling/v2/horizontalpodautoscalers", "chat-gateway", "an autoscaler is there", |_| true).await.unwrap();
    let gateway = namespace.find("apps/v1/deployments", "chat-gateway").await.unwrap().unwrap();
    assert_eq!(gateway["spec"]["replicas"], 3, "{gateway:#}\n{}", operator.log());
    assert_eq!(managers_of_replicas(&gateway), ["expert-router-operator-scaled"]);
    // What an autoscaler does.
    let deployment = format!("{}/chat-gateway", namespace.path("apps/v1/deployments"));
    namespace.api().merge(&format!("{deployment}/scale"), &json!({"spec": {"replicas": 4}})).await.unwrap();
    // And a change of ours after it.
    namespace.api().merge(&path, &json!({"spec": {"gateway": {"podOverrides": {"labels": {"team": "search"}}}}})).await.unwrap();
    let labelled = |gateway: &Value| gateway["spec"]["template"]["metadata"]["labels"]["team"] == "search";
    let gateway = namespace.until("apps/v1/deployments", "chat-gateway", "the gateway is labelled", labelled).await.unwrap();
    assert_eq!(gateway["spec"]["replicas"], 4, "{gateway:#}\n{}", operator.log());
}

/// Who says how many Pods there are.
fn managers_of_replicas(deployment: &Value) -> Vec<&str> {
    let entries = deployment["metadata"]["managedFields"].as_array().into_iter().flatten();
    let theirs = entries.filter(|entry| entry.pointer("/fieldsV1/f:spec/f:replicas").is_some());
    theirs.filter_map(|entry| entry["manager"].as_str()).collect()
}

#[tokio::test]
async fn a_claim_for_kept_requests_that_is_missing_is_named_and_mounted_once_it_is_there() {
    let namespace = Cluster::shared().namespace("log-claim").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let operator = start(&release, "one").await;
    namespace
        .apply(&ROUTER.replace("  gateway:", "  observability: {requestLog: {persistentVolumeClaim: {name: requests}}}\n  gateway:"))
        .unwrap();
    let missing = namespace.until_condition("expertrouters", "chat", "RequestLogReady", "False", "VolumeMissing").await.unwrap();
    assert!(missing["status"].to_string().contains("there is no PersistentVolumeClaim requests"), "{}", missing["status"]);
    until_ready(&namespace).await;
    namespace.apply(CLAIM).unwrap();
    namespace.until_condition("expertrouters", "chat", "RequestLogReady", "True", "VolumeFound").await.unwrap();
    let gateway = namespace.find("apps/v1/deployments", "chat-gateway").await.unwrap().unwrap();
    assert!(gateway["spec"]["template"].to_string().contains(r#""claimName":"requests""#), "{gateway}\n{}", operator.log());
}

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: requests}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
";

#[tokio::test]
async fn killed_at_any_point_it_ends_in_the_same_state() {
    let namespace = Cluster::shared().namespace("killed").await.unwrap();
    // Without an election, so that a replica begins at once.
    let release = namespace.install(&json!({})).await.unwrap();
    let alone = [("EXPERT_ROUTER_OPERATOR_LEADER_ELECTION", "false")];
    let begin = async |identity: &str| {
        release.start(&OperatorOptions { binary: BINARY, identity, webhook_port: None, environment: &alone }).await.unwrap()
    };
    let operator = begin("undisturbed").await;
    ready_router(&namespace).await;
    let wanted = children(&namespace).await;
    namespace.kubectl(&["delete", "expertrouter", "chat"]).unwrap();
    let gone = eventually("no child is left", Duration::from_secs(90), async || Ok(children(&namespace).await.is_empty()));
    gone.await.unwrap();
    drop(operator);

    let path = format!("{}/chat", namespace.path("expertrouters"));
    let mut waits = Waits(0x5eed ^ u64::from(std::process::id()));
    for round in 0..10 {
        // Killed while it makes everything, while it changes a few things, and while it has nothing to do.
        match round % 3 {
            0 => drop(namespace.apply(ROUTER).unwrap()),
            1 => drop(namespace.api().merge(&path, &json!({"spec": {"gateway": {"replicas": 3 + round}}})).await.unwrap()),
            _ => namespace.api().delete(&format!("{}/chat-gateway", namespace.path("services"))).await.map_or((), drop),
        }
        let mut operator = begin(&format!("round-{round}")).await;
        tokio::time::sleep(waits.next()).await;
        operator.kill().unwrap();
    }
    let operator = begin("last").await;
    namespace.apply(ROUTER).unwrap();
    until_ready(&namespace).await;
    let mut last = Vec::new();
    let same = eventually("the state is that of a router never disturbed", Duration::from_secs(60), async || {
        last = children(&namespace).await;
        Ok(last == wanted)
    });
    same.await.unwrap_or_else(|error| panic!("{error}\n{}\n{}", difference(&last, &wanted), operator.log()));
}

/// The children that are not what they should be.
fn difference(last: &[(String, Value)], wanted: &[(String, Value)]) -> String {
    let lacking = wanted.iter().filter(|child| !last.contains(child)).map(|child| format!("wanted: {child:?}"));
    let odd = last.iter().filter(|child| !wanted.contains(child)).map(|child| format!("   got: {child:?}"));
    lacking.chain(odd).collect::<Vec<_>>().join("\n")
}

/// Random waits of up to one second, which is longer than a reconcile: xorshift, started differently by each process.
struct Waits(u64);

impl Waits {
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % 1000)
    }
}
