//! Manifest in, plan out: `fixtures/<case>.yaml` has an ExpertRouter and what is in its cluster; beside it, as a snapshot, everything that
//! is made of it and what its status says. A case more is a file more.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::collections::{BTreeMap, BTreeSet};

use api::{ExpertRouter, RouterModel, status::ExpertRouterStatus};
use insta::{assert_yaml_snapshot, with_settings};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{ConfigMap, Secret, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    jiff::Timestamp,
};
use operator::{
    apply::Child,
    cache::{DeploymentFacts, Kind, PodFacts},
    conditions::{Verdict, merge},
    config::Images,
    router::{
        dereference::model_facts,
        experts::SECRET_MISSING,
        judge::{Facts, Report, invalid, judge},
        plan,
        spend::Ledger,
        valid::{self, References, ValidRouter, validate},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

fn fixture(case: &str) -> (ExpertRouter, References, Option<DeploymentFacts>) {
    let path = format!("{}/fixtures/{case}.yaml", env!("CARGO_MANIFEST_DIR"));
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut references = References::default();
    let mut deployments = BTreeMap::new();
    let mut slices: BTreeMap<String, usize> = BTreeMap::new();
    let mut router = None;
    for document in documents {
        let name = document["metadata"]["name"].as_str().unwrap().to_owned();
        match document["kind"].as_str().unwrap() {
            "ExpertRouter" => router = Some(read::<ExpertRouter>(document)),
            "RouterModel" => references.model = Some(model_facts(&read::<RouterModel>(document))),
            "Secret" => {
                references.secrets.insert(name, read::<Secret>(document).data.unwrap().into_keys().collect());
            }
            "PersistentVolumeClaim" => {
                references.claims.insert(name);
            }
            "Service" => {
                let ports = read::<Service>(document).spec.unwrap().ports.unwrap().iter().map(|port| port.port).collect();
                references.services.insert(name, valid::Service { ports, ready: Some(0) });
            }
            "EndpointSlice" => {
                let slice: EndpointSlice = read(document);
                let ready = slice.endpoints.iter().flatten().filter(|endpoint| endpoint.conditions.as_ref().unwrap().ready == Some(true));
                slices.insert(slice.metadata.labels.unwrap()["kubernetes.io/service-name"].clone(), ready.count());
            }
            "Deployment" => {
                deployments.insert(name, operator::watch::deployment_facts(&read(document)));
            }
            "ConfigMap" => {
                let data = read::<ConfigMap>(document).data.unwrap();
                references.spent = serde_json::from_str::<Ledger>(&data[plan::SPEND_KEY]).unwrap().spent();
            }
            "CustomResourceDefinition" if name.starts_with("httproutes") => references.has_http_routes = true,
            "CustomResourceDefinition" => references.has_pod_monitors = true,
            other => panic!("{other}"),
        }
    }
    let router = router.unwrap();
    for (service, ready) in slices {
        references.services.get_mut(&service).unwrap().ready = Some(ready);
    }
    let prefix = format!("{}-", router.metadata.name.as_ref().unwrap());
    let gateway = deployments.remove(&format!("{prefix}gateway"));
    references.deployments =
        deployments.into_iter().map(|(name, facts)| (name.strip_prefix(&format!("{prefix}expert-")).unwrap().to_owned(), facts)).collect();
    (router, references, gateway)
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn images() -> Images {
    Images { router: "localhost/router:1".into(), train: "localhost/train:1".into(), pull_policy: None, pull_secrets: vec!["pull".into()] }
}

fn planned(case: &str) -> (ValidRouter, plan::Plan<plan::Prepared>, Option<DeploymentFacts>) {
    let (router, references, gateway) = fixture(case);
    let router = validate(&router, &references).unwrap();
    let spend = (!references.spent.is_empty()).then_some("{}");
    let plan = plan::plan(&router, spend, &images()).unwrap();
    (router, plan, gateway)
}

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
    with_settings!({snapshot_path => "../fixtures", prepend_module_to_snapshot => false, omit_expression => true}, {
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

/// A condition of a fixture's router, where its cluster lacks something and its gateway has no Pod that answers.
fn lacking(case: &str, kind: &str, take: impl FnOnce(&mut References)) -> String {
    let (router, mut references, _) = fixture(case);
    take(&mut references);
    let valid = validate(&router, &references).unwrap();
    let facts = Facts { gateway: Some(DeploymentFacts { replicas: 1, ..DeploymentFacts::default() }), ..Facts::default() };
    let (findings, _) = judge(&valid, &facts, &ExpertRouterStatus::default());
    let found = findings.iter().find(|finding| finding.kind == kind).unwrap();
    format!("{} {}: {}", found.verdict.as_str(), found.reason, found.message)
}

#[test]
fn what_pods_would_wait_for_is_named() {
    assert_eq!(
        lacking("shadow-and-log", "RequestLogReady", |_| {}),
        "True VolumeFound: the gateway keeps requests on PersistentVolumeClaim requests"
    );
    assert_eq!(
        lacking("shadow-and-log", "RequestLogReady", |has| has.claims.retain(|claim| claim != "requests")),
        "False VolumeMissing: there is no PersistentVolumeClaim requests; until there is, requests are answered and none is kept"
    );
    assert_eq!(
        lacking("three-pods", "GatewayReady", |has| drop(has.secrets.remove("own-tls"))),
        "False SecretMissing: 0 of 1 pods are available: there is no Secret own-tls, which has the certificate"
    );
    let experts = lacking("three-pods", "ExpertsResolved", |has| has.claims.retain(|claim| claim != "medium"));
    assert!(experts.contains("medium: there is no PersistentVolumeClaim medium"), "{experts}");
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

#[test]
fn an_expert_the_bundle_does_not_know_waits_while_the_others_are_routed_by_it() {
    let (router, mut references, _) = fixture("edge-and-cloud");
    references.model.as_mut().unwrap().known_experts = Some(BTreeSet::from(["local".to_owned(), "former".to_owned()]));
    let valid = validate(&router, &references).unwrap();
    assert_eq!(valid.unknown_experts, ["frontier"]);
    let snapshot = valid.snapshot.as_ref().unwrap();
    assert_eq!((snapshot.experts.len(), snapshot.policy.fallback_expert.as_deref()), (1, None));
    let facts = Facts { revision: Some(snapshot.revision.clone()), ..Facts::default() };
    let (findings, _) = judge(&valid, &facts, &ExpertRouterStatus::default());
    let compatible = findings.iter().find(|finding| finding.kind == "ModelCompatible").unwrap();
    assert!(compatible.reason == "ExpertsUnknown" && compatible.message.contains("frontier"), "{compatible:?}");
}

/// Type, status and reason of each condition of `edge-and-cloud`, where its Pods say this.
fn conditions(facts: impl FnOnce(&mut Facts), before: &ExpertRouterStatus) -> Vec<(String, String, String)> {
    let (valid, _, gateway) = planned("edge-and-cloud");
    let mut all = Facts { gateway, revision: valid.snapshot.as_ref().map(|snapshot| snapshot.revision.clone()), ..Facts::default() };
    facts(&mut all);
    let (findings, _) = judge(&valid, &all, before);
    let conditions = merge(&before.conditions, &findings, None, Timestamp::UNIX_EPOCH);
    conditions.into_iter().map(|condition| (condition.type_, condition.status, condition.reason)).collect()
}

fn check_condition(kind: &str, expect: &str, facts: impl FnOnce(&mut Facts)) {
    let found = conditions(facts, &ExpertRouterStatus::default());
    let found = found.iter().find(|(of, ..)| of == kind).map(|(_, status, reason)| format!("{status} {reason}"));
    assert_eq!(found.as_deref(), Some(expect), "{kind}");
}

fn with_pod(facts: &mut Facts, pod: PodFacts, report: Option<Report>) {
    facts.pods.insert("pod".to_owned(), pod);
    facts.reports.extend(report.map(|report| ("pod".to_owned(), report)));
}

#[test]
fn what_proxies_say_of_the_bundle_is_what_the_conditions_say() {
    let broken = |problem: &'static str| {
        move |facts: &mut Facts| {
            with_pod(facts, PodFacts::default(), Some(Report { problem: Some(problem.to_owned()), ..Report::default() }));
        }
    };
    let loaded = |facts: &mut Facts| with_pod(facts, PodFacts::default(), Some(Report { model_ready: true, ..Report::default() }));
    check_condition("ModelReady", "True Loaded", loaded);
    check_condition("ModelCompatible", "True Compatible", loaded);
    check_condition("ModelReady", "False DigestMismatch", broken("bundle /a: expected SHA-256 ab, found cd"));
    check_condition("ModelReady", "False FetchFailed", broken("bundle /a: cannot read bundle.json"));
    check_condition("ModelCompatible", "False ExpertsUnknown", broken("the bundle does not know these experts of the router: local"));
    check_condition("ModelCompatible", "Unknown NotLoaded", broken("bundle /a: cannot read bundle.json"));
    check_condition("ModelReady", "False FetchFailed", |facts| {
        with_pod(facts, PodFacts { init_failure: Some("404".to_owned()), ..PodFacts::default() }, None);
    });
}

#[test]
fn a_report_of_a_pod_that_is_gone_counts_no_more() {
    check_condition("ModelReady", "True InSnapshot", |facts| {
        facts.reports.insert("gone".to_owned(), Report { problem: Some("no".to_owned()), ..Report::default() });
    });
}

#[test]
fn sidecars_are_ready_once_all_have_the_newest_snapshot() {
    let sidecar = |ready: bool, revision: Option<String>| PodFacts { role: "sidecar".to_owned(), ready, revision, ..PodFacts::default() };
    check_condition("SidecarReady", "False Updating", |facts| with_pod(facts, sidecar(true, Some("old".to_owned())), None));
    check_condition("SidecarReady", "False Updating", |facts| with_pod(facts, sidecar(false, facts.revision.clone()), None));
    check_condition("SidecarReady", "True UpToDate", |facts| with_pod(facts, sidecar(true, facts.revision.clone()), None));
}

#[test]
fn a_gateway_without_pods_is_on_its_way_or_lost() {
    let without = |facts: &mut Facts| facts.gateway = Some(DeploymentFacts { replicas: 2, current: true, ..DeploymentFacts::default() });
    check_condition("GatewayReady", "False Progressing", without);
    check_condition("Ready", "False Progressing", without);
    let condition = json!({"type": "GatewayReady", "status": "True", "reason": "Available", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let before: ExpertRouterStatus = read(json!({"conditions": [condition]}));
    let after = conditions(without, &before);
    assert!(after.contains(&("GatewayReady".to_owned(), "False".to_owned(), "Unavailable".to_owned())), "{after:?}");
}

#[test]
fn a_spec_that_was_not_accepted_leaves_in_doubt_whether_what_was_in_force_answers() {
    let verdict = |before: &ExpertRouterStatus| invalid("no", before).iter().find(|finding| finding.kind == "Ready").unwrap().verdict;
    assert_eq!(verdict(&ExpertRouterStatus::default()), Verdict::False);
    assert_eq!(
        verdict(&ExpertRouterStatus { snapshot_revision: Some("ab".to_owned()), ..ExpertRouterStatus::default() }),
        Verdict::Unknown
    );
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
