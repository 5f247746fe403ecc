//! The CRDs as people meet them through kubectl.

use serde_json::{Value, json};
use tests::cluster::Cluster;

const ROUTER: &str = "
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {name: chat}
spec:
  experts:
    - {name: small, url: \"https://llm.example.com/v1\", modelName: small-1}
";

#[tokio::test]
async fn they_apply_without_server_side_apply_and_again() {
    // The shared server was given them so. What kubectl keeps of each in an annotation may not exceed 256 KiB.
    let cluster = Cluster::shared();
    let crds = cluster.api().unwrap().get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await.unwrap();
    let ours = |crd: &&Value| crd["spec"]["group"] == "expertrouter.dev";
    let crds: Vec<_> = crds["items"].as_array().unwrap().iter().filter(ours).collect();
    assert_eq!(crds.len(), 2);
    for crd in crds {
        let kept = crd["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
        assert!(kept.len() < 200_000, "{} bytes leave no room to grow", kept.len());
        for condition in crd["status"]["conditions"].as_array().unwrap() {
            let expected = if condition["type"] == "NonStructuralSchema" { "False" } else { "True" };
            assert_eq!(condition["status"], expected, "{condition}");
        }
    }
    let again = cluster.kubectl(&["apply", "--filename", "crds"]).unwrap();
    assert!(again.lines().all(|line| line.ends_with("unchanged")), "{again}");
}

#[tokio::test]
async fn a_minimal_router_is_stored_with_its_defaults_and_nothing_null() {
    let namespace = Cluster::shared().namespace("defaults").await.unwrap();
    namespace.apply(ROUTER).unwrap();
    let stored = namespace.find("expertrouters", "chat").await.unwrap().unwrap();
    assert_eq!(stored["spec"]["policy"], json!({}));
    assert!(!stored["spec"].to_string().contains("null"), "{}", stored["spec"]);
    assert!(serde_json::from_value::<api::ExpertRouter>(stored).is_ok(), "what the server stores is what the operator reads");
}

#[tokio::test]
async fn a_field_nobody_knows_is_refused_by_its_path() {
    let namespace = Cluster::shared().namespace("unknown").await.unwrap();
    let refusal = namespace.apply(&ROUTER.replace("modelName: small-1", "modelName: small-1, pricng: {}")).unwrap_err().to_string();
    assert!(refusal.contains(r#"unknown field "spec.experts[0].pricng""#), "{refusal}");
}

#[tokio::test]
async fn status_is_a_subresource_and_spec_moves_the_generation() {
    let namespace = Cluster::shared().namespace("status").await.unwrap();
    namespace.apply(ROUTER).unwrap();
    let path = format!("{}/chat", namespace.path("expertrouters"));
    let condition = json!({"type": "Ready", "status": "False", "reason": "SecretMissing", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let both = json!({"status": {"conditions": [condition], "expertsReady": "0/1"}, "spec": {"gateway": {}}});
    let changed = namespace.api().merge(&format!("{path}/status"), &both).await.unwrap();
    assert_eq!((&changed["status"]["expertsReady"], &changed["spec"]["gateway"]), (&json!("0/1"), &Value::Null));
    assert_eq!(changed["metadata"]["generation"], 1);
    let changed = namespace.api().merge(&path, &both).await.unwrap();
    assert_eq!((&changed["spec"]["gateway"], &changed["metadata"]["generation"]), (&json!({}), &json!(2)));
}

#[tokio::test]
async fn columns_say_what_matters_and_short_names_work() {
    let namespace = Cluster::shared().namespace("columns").await.unwrap();
    namespace.apply(ROUTER).unwrap();
    let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {
        "conditions": [condition("Ready", "False", "SecretMissing"), condition("ModelReady", "True", "Published")], "expertsReady": "0/1",
    }});
    namespace.api().merge(&format!("{}/chat/status", namespace.path("expertrouters")), &status).await.unwrap();
    let printed = namespace.kubectl(&["get", "xr"]).unwrap();
    let rows: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "READY", "REASON", "EXPERTS", "MODEL", "AGE"]);
    assert_eq!(rows[1][..5], ["chat", "False", "SecretMissing", "0/1", "True"]);
    assert!(namespace.kubectl(&["get", "rm"]).is_ok());
    assert!(namespace.kubectl(&["get", "expertrouter", "chat"]).is_ok(), "a category of the same name would be in the way");
    assert!(namespace.kubectl(&["get", "expert-router"]).unwrap().contains("chat"), "the category lists both kinds");
}

#[tokio::test]
async fn explain_is_a_manual() {
    let cluster = Cluster::shared();
    for (field, expected) in [
        ("expertrouter", "Sends each LLM request to the expert"),
        ("xr.spec.experts.pricing.perHour", "hardware of one's own"),
        ("xr.spec.policy.qualityTolerance", "may give up"),
        ("routermodel.spec.promotion.requiredGain", "Automatic"),
        ("rm.status.progress", "Answers had and wanted"),
    ] {
        let explained = cluster.kubectl(&["explain", field]).unwrap();
        assert!(explained.contains(expected), "{field}: {explained}");
    }
}

#[tokio::test]
async fn two_people_who_apply_different_experts_both_have_them() {
    let namespace = Cluster::shared().namespace("merge").await.unwrap();
    let path = format!("{}/chat", namespace.path("expertrouters"));
    let with = |name: &str, model: &str| {
        json!({"apiVersion": "expertrouter.dev/v1alpha1", "kind": "ExpertRouter", "metadata": {"name": "chat"},
               "spec": {"experts": [{"name": name, "url": "https://llm.example.com/v1", "modelName": model}]}})
    };
    let apply = async |manager: &str, object: &Value| {
        let query = format!("{path}?fieldManager={manager}");
        namespace.api().apply_at(&query, object).await
    };
    apply("one", &with("small", "s")).await.unwrap();
    let both = apply("two", &with("large", "l")).await.unwrap();
    assert_eq!(both["spec"]["experts"].as_array().unwrap().len(), 2, "a list is merged by name");
    let conflict = apply("two", &with("small", "other")).await.unwrap_err();
    assert!(format!("{conflict:#}").contains("conflict with \"one\""), "{conflict:#}");
}
