//! Manifest in, plan out: `fixtures/<case>.yaml` has an ExpertRouter and what is in its cluster; beside it, as a snapshot, everything that
//! is made of it and what its status says. A case more is a file more.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod conditions;
mod fixture;

use std::collections::{BTreeMap, BTreeSet};

use api::status::ExpertRouterStatus;
use insta::{assert_yaml_snapshot, with_settings};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{ConfigMap, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    jiff::Timestamp,
};
use operator::{
    apply::Child,
    cache::Kind,
    conditions::merge,
    router::{
        experts::SECRET_MISSING,
        judge::{Facts, judge},
        plan,
        valid::{References, ValidRouter, validate},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use fixture::{fixture, images, planned};

/// A child as its Kubernetes type reads and writes it: what the type does not know would be lost.
fn through_its_type(child: &Child, object: &Value) -> Value {
    fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
        json!(serde_json::from_value::<T>(object.clone()).unwrap())
    }
    match child.kind {
        Kind::Deployment => through::<Deployment>(object),
        Kind::Service => through::<Service>(object),
        Kind::HorizontalPodAutoscaler => through::<HorizontalPodAutoscaler>(object),
        Kind::PodDisruptionBudget => through::<PodDisruptionBudget>(object),
        Kind::ConfigMap => through::<ConfigMap>(object),
        Kind::ServiceAccount => through::<ServiceAccount>(object),
        Kind::NetworkPolicy => through::<NetworkPolicy>(object),
        _ => object.clone(),
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => json!(fields.iter().map(|(name, value)| (name.clone(), sorted(value))).collect::<BTreeMap<_, _>>()),
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn check(case: &str) {
    let (router, plan, gateway) = planned(case);
    let revision = router.snapshot.as_ref().map(|snapshot| snapshot.revision.clone());
    let facts = Facts { gateway, revision, ..Facts::default() };
    let (findings, mut status) = judge(&router, &facts, &ExpertRouterStatus::default());
    status.conditions = merge(&[], &findings, router.metadata.generation, Timestamp::UNIX_EPOCH);
    let mut objects = Vec::new();
    let mut names = BTreeSet::new();
    for child in &plan.children {
        let (mut object, _) = child.prepared(&router.owner);
        assert_eq!(sorted(&object), sorted(&through_its_type(child, &object)), "{:?} {}", child.kind, child.name);
        assert!(names.insert((child.kind, child.name.clone())), "{:?} {} twice", child.kind, child.name);
        assert!(child.name.len() <= 63);
        // The snapshot, so that it can be read.
        if let Some(json) = object.pointer("/data/snapshot.json").and_then(Value::as_str) {
            object["data"]["snapshot.json"] = serde_json::from_str(json).unwrap();
        }
        objects.push(object);
    }
    with_settings!({snapshot_path => "../../fixtures", prepend_module_to_snapshot => false, omit_expression => true}, {
        assert_yaml_snapshot!(case, json!({"status": status, "objects": objects}));
    });
}

#[test]
fn edge_and_cloud() {
    check("edge-and-cloud");
}

#[test]
fn three_pods() {
    check("three-pods");
}

#[test]
fn paid_apis() {
    check("paid-apis");
}

#[test]
fn adapters() {
    check("adapters");
}

#[test]
fn budget_and_stickiness() {
    check("budget-and-stickiness");
}

#[test]
fn shadow_and_log() {
    check("shadow-and-log");
}

const CASES: [&str; 6] = ["edge-and-cloud", "three-pods", "paid-apis", "adapters", "budget-and-stickiness", "shadow-and-log"];

#[test]
fn the_same_router_is_the_same_plan() {
    for case in CASES {
        let objects = |(router, plan, _): (ValidRouter, plan::Plan<plan::Prepared>, _)| {
            plan.children.iter().map(|child| child.prepared(&router.owner).1).collect::<Vec<_>>()
        };
        assert_eq!(objects(planned(case)), objects(planned(case)));
    }
}

#[test]
fn every_pod_meets_the_restricted_standard() {
    for case in CASES {
        let (_, plan, _) = planned(case);
        for child in plan.children.iter().filter(|child| child.kind == Kind::Deployment) {
            let pod = &child.object["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{case} {}", child.name);
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            assert_eq!(pod["automountServiceAccountToken"], false);
            let containers = ["containers", "initContainers"].iter().flat_map(|list| pod[*list].as_array().cloned().unwrap_or_default());
            for container in containers {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{case} {}", child.name);
                assert_eq!(security["readOnlyRootFilesystem"], true);
                assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
            }
        }
    }
}

#[test]
fn what_is_missing_leaves_the_last_good_snapshot_in_force() {
    let (router, mut references, _) = fixture("edge-and-cloud");
    let good = validate(&router, &references).unwrap().snapshot.unwrap();
    references.last = Some(good.clone());
    references.secrets.clear();
    references.model = None;
    let after = validate(&router, &references).unwrap();
    assert_eq!(after.snapshot, Some(good));
    assert_eq!(after.experts[1].reason.as_deref(), Some(SECRET_MISSING));
    assert_eq!(after.model_problem.as_ref().unwrap().0, "NoModel");
    assert!(after.bundle.is_some(), "the volume stays mounted");
}

#[test]
fn a_bundle_of_a_store_that_stays_in_force_is_fetched_as_before() {
    type Change = fn(&mut References);
    let publish: Change = |has| {
        let model = has.model.as_mut().unwrap();
        model.bundle = Some(("s3://models/chat/ab/bundle".to_owned(), "ab".repeat(32)));
        model.credentials = Some("store".to_owned());
    };
    let cases: [(&str, Change, Change); 2] = [
        ("edge-and-cloud", publish, |has| has.model = None),
        // A tar, whose digest no snapshot has.
        ("paid-apis", |_| {}, |has| drop(has.secrets.remove("store"))),
    ];
    for (case, publish, lose) in cases {
        let (router, mut references, _) = fixture(case);
        publish(&mut references);
        let before = validate(&router, &references).unwrap();
        let (_, status) = judge(&before, &Facts::default(), &ExpertRouterStatus::default());
        assert_eq!(status.model.as_ref().unwrap().credentials.as_deref(), Some("store"), "{case}");
        references.last = before.snapshot.clone();
        references.last_bundle = status.model.clone();
        lose(&mut references);
        let after = validate(&router, &references).unwrap();
        assert!(after.model_problem.is_some(), "{case}");
        assert_eq!((&after.bundle, &after.snapshot), (&before.bundle, &before.snapshot), "{case}: any other rolls the gateway");
        assert_eq!(judge(&after, &Facts::default(), &status).1.model, status.model, "{case}");
    }
}

#[test]
fn a_claim_for_requests_that_is_not_there_costs_the_log_and_not_the_gateway() {
    let gateway = |take: &dyn Fn(&mut References)| {
        let (router, mut references, _) = fixture("shadow-and-log");
        take(&mut references);
        let plan = plan::plan(&validate(&router, &references).unwrap(), None, &images()).unwrap();
        plan.children.into_iter().find(|child| child.kind == Kind::Deployment).unwrap().object.to_string()
    };
    let (with, without) = (gateway(&|_| {}), gateway(&|has| has.claims.retain(|claim| claim != "requests")));
    for part in ["xr-requests", "EXPERT_ROUTER_REQUEST_LOG_DIR"] {
        assert!(with.contains(part) && !without.contains(part), "{part}");
    }
}

/// What the gateway's NetworkPolicy lets out.
fn egress(case: &str, change: impl FnOnce(&mut References)) -> Vec<Value> {
    let (router, mut references, _) = fixture(case);
    change(&mut references);
    let router = validate(&router, &references).unwrap();
    let plan = plan::plan(&router, None, &images()).unwrap();
    let policy = plan.children.into_iter().find(|child| child.kind == Kind::NetworkPolicy).unwrap();
    let object = through_its_type(&policy, &policy.prepared(&router.owner).0);
    object["spec"]["egress"].as_array().unwrap().clone()
}

#[test]
fn the_gateway_may_fetch_its_bundle() {
    let fetching = |uri: &str| {
        egress("edge-and-cloud", |has| has.model.as_mut().unwrap().bundle = Some((uri.to_owned(), "ab".repeat(32)))).into_iter()
    };
    let opens = |uri: &str, port: u16| {
        let mut anywhere = fetching(uri).filter(|rule| rule["to"].is_null());
        anywhere.any(|rule| rule["ports"].as_array().unwrap().iter().any(|open| open["port"] == port))
    };
    assert!(opens("https://models.example.org:8443/chat.tar", 8443));
    assert!(opens("http://models.example.org/chat.tar", 80));
    assert!(!opens("http://minio.storage.svc:9000/chat.tar", 9000), "a Pod's port need not be its Service's");
    let namespace = json!({"kubernetes.io/metadata.name": "storage"});
    assert!(fetching("http://minio.storage.svc:9000/chat.tar").any(|rule| rule["to"][0]["namespaceSelector"]["matchLabels"] == namespace));
    let all = json!({"ports": [{"protocol": "TCP", "port": 1, "endPort": 65535}]});
    for store in ["s3://models/chat", "gs://models/chat", "az://models/chat"] {
        assert!(fetching(store).any(|rule| sorted(&rule) == sorted(&all)), "{store}");
    }
    assert!(!egress("edge-and-cloud", |_| {}).iter().any(|rule| sorted(rule) == sorted(&all)), "a volume needs no way out");
}

#[test]
fn the_gateway_may_call_services_that_lead_out_of_the_cluster() {
    let out = json!({"ports": [{"protocol": "TCP", "port": 80}]});
    let is_out = |rules: Vec<Value>| rules.iter().any(|rule| sorted(rule) == sorted(&out));
    assert!(!is_out(egress("shadow-and-log", |_| {})));
    assert!(is_out(egress("shadow-and-log", |has| has.services.get_mut("large").unwrap().ready = None)));
}

#[test]
fn a_price_is_another_snapshot_and_no_other_template() {
    let (mut router, references, _) = fixture("edge-and-cloud");
    let before = plan::plan(&validate(&router, &references).unwrap(), None, &images()).unwrap();
    router.spec.experts[0].pricing.as_mut().unwrap().per_hour = api::Decimal::parse("0.13");
    let after = plan::plan(&validate(&router, &references).unwrap(), None, &images()).unwrap();
    assert_ne!(before.revision, after.revision);
    let differing: Vec<Kind> = before.children.iter().zip(&after.children).filter(|(a, b)| a != b).map(|(child, _)| child.kind).collect();
    assert_eq!(differing, [Kind::ConfigMap]);
}

#[test]
fn a_spec_that_makes_no_sense_is_refused_by_field() {
    let (mut router, references, _) = fixture("paid-apis");
    router.spec.experts[0].name = "apis".to_owned();
    let problem = validate(&router, &references).unwrap_err().to_string();
    assert!(problem.starts_with("spec.experts[0].name: ") && problem.contains("router's"), "{problem}");
}

#[test]
fn a_snapshot_too_large_for_a_config_map_is_no_plan() {
    let (mut router, references, _) = fixture("adapters");
    router.spec.experts[1].prepend_messages = vec![json!({"role": "system", "content": "x".repeat(1_100_000)})];
    let valid = validate(&router, &references).unwrap();
    assert!(plan::plan(&valid, None, &images()).unwrap_err().bytes > 1_100_000);
}
