//! Every rule that the server checks, broken once, with the sentence a person then reads. That standalone says the same is held in
//! `api/tests/refusals.rs`; here is what a real API server makes of it.

use serde_json::{Value, json};
use tests::{
    cluster::{Api, Cluster, Namespace, Refusal},
    workspace,
};

fn router() -> Value {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&std::fs::read_to_string(workspace().join("api/fixtures/whole.yaml")).unwrap()).unwrap();
    documents[0].clone()
}

fn model() -> Value {
    json!({
        "apiVersion": "expertrouter.dev/v1alpha1", "kind": "RouterModel", "metadata": {"name": "m"},
        "spec": {"queries": {"uri": "https://llm.example.com/q.jsonl"}, "experts": {"expertRouterRef": {"name": "chat"}},
                 "output": {"persistentVolumeClaim": {"name": "models"}}},
    })
}

/// Sets what a path such as `experts[0].url` of the spec names; `Null` takes it away.
fn set(object: &mut Value, path: &str, value: &Value) {
    let pointer = format!("/spec/{}", path.replace(['.', '['], "/").replace(']', ""));
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Object(fields) if value.is_null() => drop(fields.remove(key)),
        Value::Object(fields) => drop(fields.insert(key.to_owned(), value.clone())),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value.clone(),
        other => panic!("{other}"),
    }
}

/// Nothing is stored: each case is tried on the same object.
async fn refusal(api: &Api, collection: &str, object: &Value) -> Option<Refusal> {
    let tried = api.create(&format!("{collection}?dryRun=All&fieldValidation=Strict"), object).await;
    tried.err().map(|error| error.downcast::<Refusal>().unwrap())
}

async fn check(namespace: &Namespace, whole: &Value, cases: &[(&str, Value, &str)]) {
    let kind = if whole["kind"] == "RouterModel" { "routermodels" } else { "expertrouters" };
    let collection = namespace.path(kind);
    let mut whole = whole.clone();
    whole["metadata"]["namespace"] = json!(namespace.name);
    assert_eq!(refusal(namespace.api(), &collection, &whole).await, None, "the object that the cases break");
    for (path, value, expected) in cases {
        let mut broken = whole.clone();
        set(&mut broken, path, value);
        let refused = refusal(namespace.api(), &collection, &broken).await;
        let Some(Refusal { status: 422, message }) = refused else { panic!("{path} = {value}: {refused:?}") };
        assert!(message.contains(expected), "{path} = {value}\n     got: {message}\nexpected: {expected}");
    }
}

#[tokio::test]
async fn every_rule_of_a_router_has_a_sentence() {
    use api::rules::*;
    let namespace = Cluster::shared().namespace("router-rules").await.unwrap();
    let cases = [
        ("experts[3].service", json!({"name": "s", "port": 1}), ONE_ADDRESS),
        ("experts[3].url", Value::Null, ONE_ADDRESS),
        ("experts[0].name", json!("Local"), DEPLOYMENT_NAME),
        ("experts[0].name", json!("l".repeat(41)), DEPLOYMENT_NAME),
        ("experts[3].forwardAuthorization", json!(true), ONE_AUTHORIZATION),
        ("experts[0].name", json!("auto"), NOT_AUTO),
        ("experts[0].deployment.replicas", json!(2), REPLICAS_OR_AUTOSCALING),
        ("experts[0].deployment.autoscaling", json!({"minReplicas": 3, "maxReplicas": 2}), MIN_OVER_MAX),
        ("policy.fallbackExpert", json!("nobody"), FALLBACK_EXISTS),
        ("policy.baselineExpert", json!("nobody"), BASELINE_EXISTS),
        ("gateway.autoscaling", json!({"maxReplicas": 2}), REPLICAS_OR_AUTOSCALING),
        ("model.routerModelRef", json!({"name": "m"}), ONE_MODEL),
        ("model", json!({}), ONE_MODEL),
        ("model.bundle.persistentVolumeClaim", json!({"name": "v"}), ONE_BUNDLE),
        ("model.bundle.uri", Value::Null, ONE_BUNDLE),
    ];
    check(&namespace, &router(), &cases).await;
}

#[tokio::test]
async fn every_rule_of_a_model_has_a_sentence() {
    use api::rules::*;
    let namespace = Cluster::shared().namespace("model-rules").await.unwrap();
    let expert = json!({"name": "e", "url": "http://h/v1", "modelName": "m"});
    let cases = [
        ("queries.configMapRef", json!({"name": "c", "key": "k"}), ONE_QUERIES),
        ("queries", json!({}), ONE_QUERIES),
        ("experts.endpoints", json!([expert]), ONE_EXPERTS),
        ("experts", json!({"endpoints": []}), ONE_EXPERTS),
        ("experts", json!({"endpoints": [{"name": "e", "modelName": "m"}]}), ONE_ENDPOINT),
        ("output.uri", json!("s3://b"), ONE_OUTPUT),
        ("output", json!({}), ONE_OUTPUT),
        ("scoring", json!({"metric": "Match", "bertSimWeight": "0.5"}), WEIGHT_OF_MIXED),
        ("scoring", json!({"metric": "Mixed", "bertSimWeight": "1.5"}), "spec.scoring.bertSimWeight in body should match '^(0("),
        ("promotion", json!({"shadowSeconds": 60}), SECONDS_OF_SHADOW),
    ];
    check(&namespace, &model(), &cases).await;
    let mut shadowed = model();
    shadowed["spec"]["promotion"] = json!({"shadowPercent": 10});
    check(&namespace, &shadowed, &[("output", json!({"uri": "s3://b"}), SHADOW_ON_VOLUME)]).await;
}

#[tokio::test]
async fn limits_of_the_schema_name_the_field_and_what_is_expected() {
    let namespace = Cluster::shared().namespace("limits").await.unwrap();
    let cases = [
        ("experts", json!([]), "spec.experts: Invalid value: 0: spec.experts in body should have at least 1 items"),
        ("experts[0].name", json!("-a"), "spec.experts[0].name in body should match '^[A-Za-z0-9]"),
        ("experts[3].url", json!("https://user:hunter2@llm.example.com/v1"), "spec.experts[3].url in body should match '^https?://"),
        ("experts[3].contextTokens", json!(0), "spec.experts[3].contextTokens in body should be greater than or equal to 1"),
        ("experts[1].service.port", json!(65536), "spec.experts[1].service.port in body should be less than or equal to 65535"),
        ("experts[3].credentials.secretRef.key", json!("../x"), "spec.experts[3].credentials.secretRef.key in body should match"),
        ("experts[1].pricing.inputPerMillion", json!("1e3"), "spec.experts[1].pricing.inputPerMillion in body should match"),
        ("experts[1].pricing.inputPerMillion", json!(0.2), r#"must be of type string: "number""#),
        (
            "policy.objective",
            json!("Best"),
            r#"spec.policy.objective: Unsupported value: "Best": supported values: "Quality", "Cost", "Balanced""#,
        ),
        ("experts[2].name", json!("frontier"), r#"spec.experts[3]: Duplicate value: {"name":"frontier"}"#),
        ("observability.tracing.sampleRatio", json!("1.5"), "spec.observability.tracing.sampleRatio in body should match '^(0("),
        ("observability.tracing.sampleRatio", json!("-0.1"), "spec.observability.tracing.sampleRatio in body should match '^(0("),
        ("model.bundle.sha256", json!("12"), "spec.model.bundle.sha256 in body should match '^[0-9a-f]{64}$'"),
    ];
    check(&namespace, &router(), &cases).await;
}
