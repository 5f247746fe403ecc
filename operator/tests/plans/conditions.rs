//! What the status says, by what is there and what Pods tell.

use std::collections::BTreeSet;

use api::status::ExpertRouterStatus;
use k8s_openapi::jiff::Timestamp;
use operator::{
    cache::{DeploymentFacts, PodFacts},
    conditions::{Verdict, merge},
    router::{
        judge::{Facts, Report, invalid, judge},
        valid::{References, validate},
    },
};
use serde_json::json;

use super::fixture::{fixture, planned, read};

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

#[test]
fn it_waits_also_while_the_bundle_stays_in_force_without_its_model() {
    let (router, mut references, _) = fixture("edge-and-cloud");
    references.model.as_mut().unwrap().known_experts = Some(BTreeSet::from(["local".to_owned(), "former".to_owned()]));
    let before = validate(&router, &references).unwrap();
    let (_, status) = judge(&before, &Facts::default(), &ExpertRouterStatus::default());
    references.last = before.snapshot.clone();
    references.last_bundle = status.model.clone();
    references.model = None;
    let after = validate(&router, &references).unwrap();
    assert_eq!((after.model_problem.as_ref().unwrap().0, &after.snapshot), ("NoModel", &before.snapshot));
    assert_eq!(after.unknown_experts, ["frontier"]);
    assert_eq!(judge(&after, &Facts::default(), &status).1.model, status.model);
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
