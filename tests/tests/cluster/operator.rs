//! The operator with no more rights than the chart gives it: what it makes, that it is quiet, that it heals, that it leaves nothing.

mod injection;
mod later;
mod life;
mod replicas;

use serde_json::{Value, json};
use tests::cluster::{Cluster, Namespace, Operator, OperatorOptions, Release};

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_expert-router-operator-under-test");

/// A router with every kind of child: experts of all three sorts, autoscaling, a gateway with a route.
const ROUTER: &str = r#"
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {name: chat}
spec:
  experts:
    - name: local
      deployment: {image: "localhost/server:1", port: 8080, autoscaling: {minReplicas: 1, maxReplicas: 4}, resources: {requests: {cpu: 100m}}}
      modelName: small
      pricing: {perHour: "0.12"}
    - name: near
      service: {name: near, port: 8000}
      modelName: medium
      pricing: {inputPerMillion: "0.20", outputPerMillion: "0.60"}
    - name: frontier
      url: https://llm.example.com/v1
      modelName: large
      credentials: {secretRef: {name: frontier, key: apiKey}}
      pricing: {inputPerMillion: "2.50", outputPerMillion: "10.00"}
  policy: {fallbackExpert: frontier, baselineExpert: frontier}
  gateway: {replicas: 2, httpRoute: {gatewayRef: {name: edge}, hostnames: [chat.example.com]}}
---
apiVersion: v1
kind: Secret
metadata: {name: frontier}
stringData: {apiKey: s3cret}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {ports: [{port: 8000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: near-1, labels: {kubernetes.io/service-name: near}}
addressType: IPv4
endpoints: [{addresses: [10.1.2.3], conditions: {ready: true}}]
ports: [{port: 8000}]
"#;

/// The kinds of children: where their objects are, and a field of each that the operator sets, with another value.
fn child_kinds() -> Vec<(&'static str, Value)> {
    vec![
        ("apps/v1/deployments", json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 77}}}})),
        ("services", json!({"spec": {"selector": {"somebody": "else"}}})),
        ("autoscaling/v2/horizontalpodautoscalers", json!({"spec": {"maxReplicas": 9}})),
        ("policy/v1/poddisruptionbudgets", json!({"spec": {"maxUnavailable": 7}})),
        ("configmaps", json!({"data": null})),
        ("serviceaccounts", json!({"automountServiceAccountToken": true})),
        ("networking.k8s.io/v1/networkpolicies", json!({"spec": {"ingress": null}})),
        ("gateway.networking.k8s.io/v1/httproutes", json!({"spec": {"hostnames": ["somebody.example.com"]}})),
        ("monitoring.coreos.com/v1/podmonitors", json!({"spec": {"podMetricsEndpoints": [{"port": "other"}]}})),
    ]
}

/// The label every child bears.
const MANAGED: &str = "app.kubernetes.io/managed-by=expert-router-operator";

pub(crate) async fn start<'a>(release: &Release<'a>, identity: &str) -> Operator {
    let options = OperatorOptions { binary: BINARY, identity, webhook_port: None, environment: &[] };
    release.start(&options).await.unwrap()
}

/// Applies the router and waits until it is ready, with its Pods played.
pub(crate) async fn ready_router(namespace: &Namespace) -> Value {
    namespace.apply(ROUTER).unwrap();
    until_ready(namespace).await
}

async fn until_ready(namespace: &Namespace) -> Value {
    for _ in 0..120 {
        namespace.play_pods("").await.unwrap();
        let router = namespace.find("expertrouters", "chat").await.unwrap();
        if router.as_ref().and_then(|router| tests::cluster::condition(router, "Ready")).is_some_and(|ready| ready["status"] == "True") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    namespace.until_condition("expertrouters", "chat", "Ready", "True", "").await.unwrap()
}

/// All children, as what was asked for: without what the server and other controllers add.
async fn children(namespace: &Namespace) -> Vec<(String, Value)> {
    let mut children = Vec::new();
    for (collection, _) in child_kinds() {
        for object in namespace.list(collection, MANAGED).await.unwrap() {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            children.push((format!("{collection} {name}"), wanted_of(&object)));
        }
    }
    children.sort_by(|one, other| one.0.cmp(&other.0));
    children
}

/// An object without what differs from one making to the next: addresses, versions, status.
fn wanted_of(object: &Value) -> Value {
    let mut wanted = object.clone();
    wanted["metadata"] = json!({"labels": object["metadata"]["labels"]});
    for (part, field) in [("", "status"), ("/spec", "clusterIP"), ("/spec", "clusterIPs")] {
        if let Some(fields) = wanted.pointer_mut(part).and_then(Value::as_object_mut) {
            fields.remove(field);
        }
    }
    // Only a list names the kind of what is in it.
    for field in ["apiVersion", "kind"] {
        wanted.as_object_mut().map(|fields| fields.remove(field));
    }
    wanted
}

#[tokio::test]
async fn it_may_do_what_its_steps_need_and_nothing_else() {
    let namespace = Cluster::shared().namespace("rights").await.unwrap();
    let release = namespace.install(&json!({})).await.unwrap();
    let account = format!("--as=system:serviceaccount:{}:{}", namespace.name, release.account());
    let can = |verb: &str, what: &str, place: &str| {
        let place = if place.is_empty() { "--all-namespaces".to_owned() } else { format!("--namespace={place}") };
        let (what, part) = what.split_once('/').unwrap_or((what, ""));
        let arguments = ["auth", "can-i", verb, what, &format!("--subresource={part}"), &account, &place];
        namespace.cluster.kubectl(&arguments).is_ok_and(|said| said.trim() == "yes")
    };
    let own = namespace.name.as_str();
    for (verb, what) in
        [("patch", "deployments.apps"), ("get", "secrets"), ("patch", "expertrouters.expertrouter.dev/status"), ("patch", "pods")]
    {
        assert!(can(verb, what, own), "{verb} {what} in its own namespace");
        assert!(!can(verb, what, "default"), "{verb} {what} in another namespace");
        assert!(!can(verb, what, ""), "{verb} {what} everywhere");
    }
    for (verb, what) in [
        ("delete", "secrets"),
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "pods/exec"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("patch", "expertrouters.expertrouter.dev"),
        ("delete", "expertrouters.expertrouter.dev"),
        ("delete", "persistentvolumeclaims"),
        ("create", "serviceaccounts/token"),
    ] {
        assert!(!can(verb, what, own), "{verb} {what}");
    }
    let token = release.token().await.unwrap();
    let refused = namespace.cluster.api_as(&token).unwrap().get("/api/v1/namespaces/kube-system/secrets").await.unwrap_err();
    assert!(format!("{refused:#}").contains("403"), "{refused:#}");
}
