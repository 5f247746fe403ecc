//! The webhook of the chart, asked by the API server: the Pods that ask for a sidecar get one, and nobody else notices.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, Namespace, OperatorOptions, free_port},
    eventually,
};

use super::{BINARY, ready_router};

fn application(name: &str, labels: &Value) -> Value {
    let security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "app", "image": "localhost/app:1", "securityContext": security}],
        },
    })
}

async fn create(namespace: &Namespace, name: &str, labels: Value) -> Value {
    namespace.api().create(&namespace.path("pods"), &application(name, &labels)).await.unwrap()
}

fn sidecar(pod: &Value) -> Option<&Value> {
    pod["spec"]["initContainers"].as_array()?.iter().find(|container| container["name"] == "expert-router")
}

const CHANGED_KEY: &str = "
apiVersion: v1
kind: Secret
metadata: {name: frontier}
stringData: {apiKey: another}
";

/// What a Pod is told of the Secrets it mounts, once it is told something else than before.
async fn secrets_revision_after(namespace: &Namespace, pod: &str, before: Option<&str>) -> String {
    let mut now = String::new();
    eventually("the Pod is told of its Secrets", Duration::from_secs(60), async || {
        let pod = namespace.find("pods", pod).await?.unwrap_or_default();
        now = pod["metadata"]["annotations"]["expertrouter.dev/secrets-revision"].as_str().unwrap_or_default().to_owned();
        Ok(!now.is_empty() && Some(now.as_str()) != before)
    })
    .await
    .unwrap();
    now
}

#[tokio::test]
async fn labelled_pods_get_a_sidecar_and_nothing_depends_on_the_operator_being_there() {
    let namespace = Cluster::shared().namespace("injection").await.unwrap();
    let port = free_port().unwrap();
    let url = format!("https://127.0.0.1:{port}/inject");
    let release = namespace.install(&json!({"webhook": {"url": url, "timeoutSeconds": 10}})).await.unwrap();
    let options = OperatorOptions { binary: BINARY, identity: "one", webhook_port: Some(port), environment: &[] };
    let mut operator = release.start(&options).await.unwrap();
    ready_router(&namespace).await;
    let configuration = format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}-xr-expert-router", namespace.name);
    eventually("the API server is told whom to trust", Duration::from_secs(60), async || {
        let configuration = namespace.api().get(&configuration).await?;
        Ok(configuration["webhooks"][0]["clientConfig"]["caBundle"].is_string())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    // The API server looks at its configurations when they change, and hears of that a little later.
    let mut tries = 0;
    eventually("the API server asks", Duration::from_secs(60), async || {
        tries += 1;
        let pod = create(&namespace, &format!("app-{tries}"), json!({"expertrouter.dev/inject": "chat"})).await;
        Ok(sidecar(&pod).is_some())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    let pod = namespace.find("pods", &format!("app-{tries}")).await.unwrap().unwrap();
    let sidecar_container = sidecar(&pod).unwrap();
    assert_eq!(sidecar_container["restartPolicy"], "Always", "a native sidecar: it starts before and ends after the application");
    assert!(sidecar_container["readinessProbe"].is_object() || sidecar_container["startupProbe"].is_object(), "{sidecar_container}");
    assert_eq!(sidecar_container["securityContext"]["readOnlyRootFilesystem"], true);
    let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(variables.iter().any(|variable| variable["name"] == "OPENAI_BASE_URL" && variable["value"] == "http://127.0.0.1:15080/v1"));

    // A Pod that is told of a changed Secret gets it mounted at once.
    let first = secrets_revision_after(&namespace, &format!("app-{tries}"), None).await;
    namespace.apply(CHANGED_KEY).unwrap();
    secrets_revision_after(&namespace, &format!("app-{tries}"), Some(&first)).await;

    assert!(sidecar(&create(&namespace, "plain", json!({})).await).is_none());
    let unknown =
        namespace.api().create(&namespace.path("pods"), &application("lost", &json!({"expertrouter.dev/inject": "nobody"}))).await;
    assert!(
        unknown.is_err_and(|error| format!("{error:#}").contains("there is no ExpertRouter nobody")),
        "a slip in the label is said at once"
    );

    operator.kill().unwrap();
    assert!(sidecar(&create(&namespace, "alone", json!({"expertrouter.dev/inject": "chat"})).await).is_none(), "it starts all the same");
    create(&namespace, "plain-alone", json!({})).await;
}
