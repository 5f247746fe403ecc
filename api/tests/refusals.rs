//! Manifests with one thing wrong: the error names the field and what is expected. Rules a cluster checks as CEL are held against the
//! same CEL, evaluated here.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::fs;

use api::{Standalone, crds, read_manifest, read_objects};
use kube_cel::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};

fn standalone() -> Standalone {
    Standalone {
        secrets_directory: Some("/etc/secrets".into()),
        expert_urls: [("local".to_owned(), "http://127.0.0.1:8080/v1".to_owned())].into(),
        ..Standalone::default()
    }
}

/// The whole fixture's router, as JSON.
fn router() -> Value {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string("fixtures/whole.yaml").unwrap()).unwrap();
    documents[0].clone()
}

fn router_model() -> Value {
    json!({
        "apiVersion": "expertrouter.dev/v1alpha1", "kind": "RouterModel", "metadata": {"name": "m"},
        "spec": {"queries": {"uri": "q.jsonl"}, "experts": {"expertRouterRef": {"name": "chat"}}, "output": {"directory": "out"}},
    })
}

/// Sets what a path such as `spec.experts[0].url` names; `Null` takes it away.
fn set(object: &mut Value, path: &str, value: Value) {
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Object(fields) if value.is_null() => drop(fields.remove(key)),
        Value::Object(fields) => drop(fields.insert(key.to_owned(), value)),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        other => panic!("{other}"),
    }
}

fn error_of(object: &Value) -> Option<String> {
    read_objects(&object.to_string()).err().map(|error| error.to_string())
}

/// The fixture with one value set: how reading it fails.
#[track_caller]
fn check(path: &str, value: Value, expected: &str) {
    let mut object = router();
    set(&mut object, path, value);
    let error = read_manifest(&object.to_string(), &standalone()).unwrap_err().to_string();
    assert!(error.starts_with(expected), "\n     got: {error}\nexpected: {expected}");
}

#[test]
fn wrong_types_are_named_with_what_is_expected() {
    let price = "spec.experts[1].pricing.inputPerMillion";
    check(price, json!(0.2), r#"spec.experts[1].pricing.inputPerMillion: expected a decimal string like "0.20", got 0.2"#);
    check(price, json!(3), r#"spec.experts[1].pricing.inputPerMillion: expected a decimal string like "0.20", got 3"#);
    check(price, json!("-1"), r#"spec.experts[1].pricing.inputPerMillion: expected a decimal string like "0.20", got "-1""#);
    check(price, json!("1e3"), r#"spec.experts[1].pricing.inputPerMillion: expected a decimal string like "0.20", got "1e3""#);
    check(price, json!({}), r#"spec.experts[1].pricing.inputPerMillion: invalid type: map, expected a decimal string like "0.20""#);
    check("spec.experts[0].contextTokens", json!("8k"), r#"spec.experts[0].contextTokens: invalid type: string "8k", expected u32"#);
    check("spec.experts", json!({}), "spec.experts: invalid type: map, expected a sequence");
    check(
        "spec.policy.objective",
        json!("Best"),
        "spec.policy.objective: unknown variant `Best`, expected one of `Quality`, `Cost`, `Balanced`",
    );
    check(
        "spec.experts[1].capabilities",
        json!(["Tool"]),
        "spec.experts[1].capabilities[0]: unknown variant `Tool`, expected one of `Tools`",
    );
    check("spec", json!(7), "spec: invalid type: integer `7`, expected struct ExpertRouterSpec");
}

#[test]
fn unknown_and_missing_fields_are_named() {
    check("spec.experts[2].pricng", json!({}), "spec.experts[2].pricng: unknown field `pricng`, expected one of `name`, `deployment`");
    check("spec.policy.tolerance", json!("0.1"), "spec.policy.tolerance: unknown field `tolerance`");
    check("specs", json!({}), "specs: unknown field, expected one of apiVersion, kind, metadata, spec, status");
    check("spec.experts[1].modelName", Value::Null, "spec.experts[1]: missing field `modelName`");
    check("spec.experts[1].service.port", Value::Null, "spec.experts[1].service: missing field `port`");
    check("metadata.name", Value::Null, "metadata.name: expected a name");
    check("metadata", Value::Null, "metadata: expected an object, but there is none");
    check("spec", Value::Null, "spec: expected an object, but there is none");
}

#[test]
fn limits_of_the_schema_hold() {
    check("spec.experts", json!([]), "spec.experts: expected 1 to 64 entries, got 0");
    check("spec.experts[0].name", json!("-a"), "spec.experts[0].name: expected a name of letters, digits");
    check("spec.experts[0].name", json!("a".repeat(64)), "spec.experts[0].name: expected 1 to 63 characters, got 64");
    check("spec.experts[3].url", json!("llm.example.com/v1"), "spec.experts[3].url: expected http://host[:port][/path] or https://");
    check("spec.experts[3].contextTokens", json!(0), "spec.experts[3].contextTokens: expected 1 to 1000000000, got 0");
    check("spec.experts[1].service.port", json!(0), "spec.experts[1].service.port: expected 1 to 65535, got 0");
    check("spec.experts[1].service.name", json!("9.x"), "spec.experts[1].service.name: expected the name of a Service");
    check("spec.experts[3].credentials.secretRef.key", json!("../x"), "spec.experts[3].credentials.secretRef.key: expected a key of");
    check("spec.experts[3].credentials.secretRef.key", json!(".."), "spec.experts[3].credentials.secretRef.key: expected a key of");
    check("spec.experts[3].credentials.secretRef.name", json!("a/b"), "spec.experts[3].credentials.secretRef.name: expected the name of");
    check("spec.model.bundle.sha256", json!("12"), "spec.model.bundle.sha256: expected 64 hexadecimal digits in lower case");
    check("spec.session.header", json!("X Session"), "spec.session.header: expected the name of an HTTP header in lower case");
    let share = "spec.observability.tracing.sampleRatio";
    for value in ["1.5", "1.000000001", "2", "01"] {
        check(share, json!(value), &format!("{share}: expected a decimal string from \"0\" to \"1\", got \"{value}\""));
    }
    check(share, json!("-0.1"), &format!("{share}: expected a decimal string like \"0.20\", got \"-0.1\""));
    check("spec.policy.retryBudgetPercent", json!(1001), "spec.policy.retryBudgetPercent: expected 0 to 1000, got 1001");
}

#[test]
fn a_password_in_a_url_is_refused_and_not_shown() {
    let mut object = router();
    set(&mut object, "spec.experts[3].url", json!("https://user:hunter2@llm.example.com/v1"));
    let error = error_of(&object).unwrap();
    assert!(error.starts_with("spec.experts[3].url: expected http://host") && !error.contains("hunter2"), "{error}");
}

#[test]
fn what_the_data_plane_would_refuse_is_refused_by_field_of_the_spec() {
    check("spec.experts[2].name", json!("chat"), r#"spec.experts[2].name: expected another name: "chat" is the router's"#);
    check("spec.experts[2].name", json!("frontier"), "spec.experts[3].name: expected a unique name");
    check("spec.experts[3].url", json!("https://h:99999/v1"), "spec.experts[3].url: expected http://host");
    check("spec.experts[2].bodyOverrides", json!({"model": "x"}), "spec.experts[2].bodyOverrides.model: expected another field");
    check("spec.experts[2].prependMessages", json!([{"content": "x"}]), "spec.experts[2].prependMessages[0].role: expected a message with");
    check("spec.experts[0].health.maxEjectionSeconds", json!(1), "spec.experts[0].health.maxEjectionSeconds: expected at least base");
    check("spec.budgets[1].name", json!("month"), "spec.budgets[1].name: expected a unique name");
    check("metadata.name", json!("a b"), "metadata.name: expected a name of letters");
    check(
        "spec.observability.requestLog",
        json!({"redactPatterns": ["a", "("]}),
        "spec.observability.requestLog.redactPatterns[1]: expected a regular expression",
    );
}

#[test]
fn what_only_a_cluster_has_is_refused_with_a_way_out() {
    let refused = |change: &dyn Fn(&mut Value), standalone: Standalone| {
        let mut object = router();
        change(&mut object);
        read_manifest(&object.to_string(), &standalone).unwrap_err().to_string()
    };
    let without_urls = refused(&|_| {}, Standalone { expert_urls: [].into(), ..standalone() });
    assert_eq!(
        without_urls,
        "spec.experts[0].deployment: nothing runs this deployment outside of a cluster: give the expert a url instead, or say where it is \
         (expert-router: --expert-url local=URL)"
    );
    let without_secrets = refused(&|_| {}, Standalone { secrets_directory: None, ..standalone() });
    assert!(
        without_secrets.starts_with("spec.experts[3].credentials.secretRef: expected the file frontier/apiKey in a folder"),
        "{without_secrets}"
    );
    let of_nobody = refused(&|_| {}, Standalone { expert_urls: [("locla".to_owned(), "http://h".to_owned())].into(), ..standalone() });
    assert_eq!(of_nobody, "spec.experts: there is no expert \"locla\", for which a URL was given");
    check(
        "spec.model.bundle.uri",
        json!("s3://b/chat.tar"),
        "spec.model.bundle.uri: expected a path: outside of a cluster nothing fetches",
    );
    check(
        "spec.model",
        json!({"bundle": {"persistentVolumeClaim": {"name": "v"}}}),
        "spec.model.bundle.persistentVolumeClaim: expected a uri",
    );
    check(
        "spec.model",
        json!({"routerModelRef": {"name": "m"}}),
        "spec.model.routerModelRef.name: there is no RouterModel \"m\" in this file",
    );
}

#[test]
fn files_that_are_no_manifest_say_so() {
    let error = |yaml: &str| read_manifest(yaml, &Standalone::default()).unwrap_err().to_string();
    assert_eq!(error(""), "expected one expertrouter.dev/v1alpha1 ExpertRouter, found 0");
    assert_eq!(error("a: 1"), "apiVersion: expected expertrouter.dev/v1alpha1, but there is none");
    assert_eq!(error("apiVersion: v1"), "kind: expected ExpertRouter or RouterModel, but there is none");
    assert_eq!(
        error("{apiVersion: expertrouter.dev/v1, kind: ExpertRouter}"),
        "kind: expected ExpertRouter or RouterModel of expertrouter.dev/v1alpha1, got \"ExpertRouter\" of expertrouter.dev/v1"
    );
    assert!(error("a: [1").starts_with("not YAML: "));
    assert!(error("a: 1\na: 2").starts_with("not YAML: "), "a key twice is a slip, not an override");
    let twice = format!("{}\n---\n{}", router(), router());
    assert_eq!(error(&twice), "expected one expertrouter.dev/v1alpha1 ExpertRouter, found 2 (chat, chat)");
    let mut model = router_model();
    set(&mut model, "spec.router", json!({"type": "Tree"}));
    assert!(error(&model.to_string()).starts_with("RouterModel m: spec.router.type: unknown variant `Tree`, expected one of `KNN`"));
    assert!(error(&" ".repeat(5 << 20)).starts_with("expected at most 4194304 bytes of YAML"));
}

#[test]
fn bombs_of_aliases_and_depth_are_refused() {
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let previous = format!("*a{}, ", level - 1).repeat(10);
        aliases.push_str(&format!("a{level}: &a{level} [{}]\n", previous.trim_end_matches(", ")));
    }
    for yaml in [aliases, "[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(5_000)] {
        assert!(read_manifest(&yaml, &Standalone::default()).unwrap_err().to_string().starts_with("not YAML: "));
    }
}

/// What an API server's CEL says of an object, by the CRD's rules.
fn cel_messages(object: &Value) -> Vec<String> {
    let crd = &crds()[usize::from(object["kind"] == "RouterModel")];
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let errors = Validator::new().validate(&serde_json::to_value(schema).unwrap(), object, None).err();
    errors.map(|errors| errors.iter().map(|error| error.message.clone()).collect()).unwrap_or_default()
}

/// One change that breaks one rule: standalone and cluster say the same sentence.
#[track_caller]
fn check_rule(mut object: Value, path: &str, value: Value, field: &str, sentence: &str) {
    assert_eq!((error_of(&object), cel_messages(&object)), (None, vec![]));
    set(&mut object, path, value);
    let prefix = if object["kind"] == "RouterModel" { "RouterModel m: " } else { "" };
    assert_eq!(error_of(&object), Some(format!("{prefix}{field}: {sentence}")));
    assert_eq!(cel_messages(&object), [sentence]);
}

#[test]
fn standalone_and_cluster_break_the_same_rules_with_the_same_words() {
    use api::rules::*;
    let autoscaled = json!({"minReplicas": 3, "maxReplicas": 2});
    for (path, value, field, sentence) in [
        ("spec.experts[3].service", json!({"name": "s", "port": 1}), "spec.experts[3]", ONE_ADDRESS),
        ("spec.experts[3].url", Value::Null, "spec.experts[3]", ONE_ADDRESS),
        ("spec.experts[0].name", json!("Local"), "spec.experts[0].name", DEPLOYMENT_NAME),
        ("spec.experts[0].name", json!("l".repeat(41)), "spec.experts[0].name", DEPLOYMENT_NAME),
        ("spec.experts[3].forwardAuthorization", json!(true), "spec.experts[3].forwardAuthorization", ONE_AUTHORIZATION),
        ("spec.experts[0].name", json!("auto"), "spec.experts[0].name", NOT_AUTO),
        ("spec.experts[0].deployment.replicas", json!(2), "spec.experts[0].deployment.replicas", REPLICAS_OR_AUTOSCALING),
        ("spec.experts[0].deployment.autoscaling", autoscaled, "spec.experts[0].deployment.autoscaling.minReplicas", MIN_OVER_MAX),
        ("spec.policy.fallbackExpert", json!("nobody"), "spec.policy.fallbackExpert", FALLBACK_EXISTS),
        ("spec.policy.baselineExpert", json!("nobody"), "spec.policy.baselineExpert", BASELINE_EXISTS),
        ("spec.gateway.autoscaling", json!({"maxReplicas": 2}), "spec.gateway.replicas", REPLICAS_OR_AUTOSCALING),
        ("spec.model.routerModelRef", json!({"name": "m"}), "spec.model", ONE_MODEL),
        ("spec.model", json!({}), "spec.model", ONE_MODEL),
        ("spec.model.bundle.persistentVolumeClaim", json!({"name": "v"}), "spec.model.bundle", ONE_BUNDLE),
        ("spec.model.bundle.uri", Value::Null, "spec.model.bundle", ONE_BUNDLE),
    ] {
        check_rule(router(), path, value, field, sentence);
    }
    let expert = json!({"name": "e", "url": "http://h/v1", "modelName": "m"});
    for (path, value, field, sentence) in [
        ("spec.queries.configMapRef", json!({"name": "c", "key": "k"}), "spec.queries", ONE_QUERIES),
        ("spec.queries", json!({}), "spec.queries", ONE_QUERIES),
        ("spec.experts.endpoints", json!([expert]), "spec.experts", ONE_EXPERTS),
        ("spec.experts", json!({"endpoints": []}), "spec.experts", ONE_EXPERTS),
        ("spec.experts", json!({"endpoints": [{"name": "e", "modelName": "m"}]}), "spec.experts.endpoints[0]", ONE_ENDPOINT),
        ("spec.output.uri", json!("s3://b"), "spec.output", ONE_OUTPUT),
        ("spec.output", json!({}), "spec.output", ONE_OUTPUT),
        ("spec.scoring", json!({"metric": "Match", "bertSimWeight": "0.5"}), "spec.scoring.bertSimWeight", WEIGHT_OF_MIXED),
        ("spec.promotion", json!({"shadowSeconds": 60}), "spec.promotion", SECONDS_OF_SHADOW),
        ("spec.promotion", json!({"shadowPercent": 10}), "spec", SHADOW_ON_VOLUME),
    ] {
        check_rule(router_model(), path, value, field, sentence);
    }
}

#[test]
fn every_rule_and_pattern_of_the_crds_has_words() {
    let json = serde_json::to_string(&crds()).unwrap();
    let messages: std::collections::BTreeSet<&str> =
        json.split(r#""message":""#).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(messages.len(), 17, "a rule was added or taken away: add it to the test above\n{messages:#?}");
    assert_eq!(json.matches(r#""rule":""#).count(), json.matches(r#""message":""#).count());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_manifest(&String::from_utf8_lossy(&bytes), &Standalone::default());
    }

    #[test]
    fn no_yaml_like_text_panics(text in "[-a-z:&*!|>{}\\[\\]\"'#%@, \n0-9.]{0,200}") {
        let _ = read_manifest(&text, &Standalone::default());
    }

    #[test]
    fn no_wrong_value_anywhere_panics(place in any::<prop::sample::Index>(), value in prop_oneof![
        Just(json!(null)), Just(json!([])), Just(json!({})), Just(json!(true)), any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from), Just(json!([{"a": [1]}])),
    ]) {
        let mut object = router();
        let mut places = Vec::new();
        pointers(&object, String::new(), &mut places);
        *object.pointer_mut(&places[place.index(places.len())]).unwrap() = value;
        let _ = read_manifest(&object.to_string(), &standalone());
    }
}

/// Every place in a JSON value.
fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, child)| pointers(child, format!("{at}/{key}"), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, child)| pointers(child, format!("{at}/{index}"), found)),
        _ => {}
    }
    found.push(at);
}
