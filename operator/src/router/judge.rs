//! What is, as conditions and status. Pure: from the valid router, what was seen of its children and Pods, and the status before.

use std::collections::BTreeMap;

use api::status::{
    BundleStatus, ExpertRouterStatus,
    router_conditions::{
        ACCEPTED, EXPERTS_RESOLVED, GATEWAY_READY, MODEL_COMPATIBLE, MODEL_READY, READY, REQUEST_LOG_READY, SIDECAR_READY,
    },
};

use super::{
    bundle::Source,
    experts::{DEPLOYMENT_NOT_READY, SECRET_MISSING, VOLUME_MISSING},
    plan::gateway,
    valid::{self, ValidRouter},
};
use crate::{
    cache::{DeploymentFacts, PodFacts},
    conditions::{Finding, Verdict, was_true},
};

/// Reasons that pass by themselves: no reason for a warning.
pub const WAITS: [&str; 5] = ["Progressing", "Updating", "NotTrained", DEPLOYMENT_NOT_READY, "NoSnapshot"];

/// What was seen of a router's children and Pods.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The gateway's Deployment.
    pub gateway: Option<DeploymentFacts>,
    /// Pods that carry the data plane and run, by name.
    pub pods: BTreeMap<String, PodFacts>,
    /// What they said of themselves, by name, where they were asked.
    pub reports: BTreeMap<String, Report>,
    /// Of the snapshot of this spec.
    pub revision: Option<String>,
}

/// What a proxy says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The revision in force in it.
    pub revision: String,
    /// A bundle is loaded and in use.
    pub model_ready: bool,
    /// What is wrong with the bundle it was told of.
    pub problem: Option<String>,
}

/// The spec makes no sense. What was in force stays, and whether it still answers nobody can tell from the spec.
#[must_use]
pub fn invalid(problem: &str, before: &ExpertRouterStatus) -> Vec<Finding> {
    refused("Invalid", problem, before)
}

/// A child's name belongs to somebody else.
#[must_use]
pub fn name_taken(problem: &str, before: &ExpertRouterStatus) -> Vec<Finding> {
    refused("NameTaken", problem, before)
}

fn refused(reason: &str, problem: &str, before: &ExpertRouterStatus) -> Vec<Finding> {
    let ready = if before.snapshot_revision.is_some() {
        Finding::unknown(READY, reason, format!("{problem}; what was in force before stays"))
    } else {
        Finding::no(READY, reason, problem)
    };
    let mut findings = vec![Finding::no(ACCEPTED, reason, problem)];
    // Conditions set from the first visit on: nothing was looked at, so nothing is known.
    findings.push(Finding::unknown(EXPERTS_RESOLVED, reason, "the spec was not accepted"));
    findings.push(ready);
    findings
}

/// Findings in the order of `router_conditions::ALL`, and the status but for its conditions.
#[must_use]
pub fn judge(router: &ValidRouter, facts: &Facts, before: &ExpertRouterStatus) -> (Vec<Finding>, ExpertRouterStatus) {
    let accepted = Finding::yes(ACCEPTED, "Valid", "the spec makes sense");
    let resolved = experts_resolved(router);
    let (model, compatible) = model(router, facts);
    let sidecars = sidecars(facts);
    let gateway = gateway_ready(router, facts, before);
    let ready = ready(router, facts, &resolved, gateway.as_ref(), before);
    let optional = [model, compatible, sidecars, gateway, request_log(router)];
    let findings = [accepted, resolved].into_iter().chain(optional.into_iter().flatten()).chain([ready]).collect();
    let answering = router.experts.iter().filter(|expert| expert.ready).count();
    let status = ExpertRouterStatus {
        conditions: Vec::new(),
        observed_generation: None,
        experts_ready: Some(format!("{answering}/{}", router.experts.len())),
        experts: router.experts.clone(),
        model: bundle_in_force(router, before),
        snapshot_revision: facts.revision.clone().or_else(|| before.snapshot_revision.clone()),
        url: router.gateway().map(|gateway| gateway::url(router, gateway)),
    };
    (findings, status)
}

fn bundle_in_force(router: &ValidRouter, before: &ExpertRouterStatus) -> Option<BundleStatus> {
    let model = router.snapshot.as_ref()?.model.as_ref()?;
    if router.model_problem.is_some() && before.model.is_some() {
        return before.model.clone();
    }
    let source = router.bundle.as_ref()?;
    let digest = source.sha256().or(model.sha256.as_ref()).cloned().unwrap_or_default();
    let (uri, credentials) = match source {
        Source::Volume { claim, path, .. } => (format!("pvc://{claim}/{}", path.as_deref().unwrap_or_default().trim_matches('/')), None),
        Source::Fetch { uri, credentials, .. } => (uri.clone(), credentials.clone()),
    };
    Some(BundleStatus { uri, digest, experts: router.known_experts.iter().cloned().collect(), credentials })
}

fn experts_resolved(router: &ValidRouter) -> Finding {
    let failing: Vec<_> = router.experts.iter().filter(|expert| !expert.ready).collect();
    let Some(first) = failing.first() else {
        return Finding::yes(EXPERTS_RESOLVED, "Resolved", format!("{} of {0} experts can be sent requests", router.experts.len()));
    };
    let each = failing.iter().map(|expert| format!("{}: {}", expert.name, expert.message.as_deref().unwrap_or_default()));
    let reason = first.reason.clone().unwrap_or_else(|| "Unresolved".to_owned());
    Finding::no(EXPERTS_RESOLVED, reason, each.collect::<Vec<_>>().join("; "))
}

fn model(router: &ValidRouter, facts: &Facts) -> (Option<Finding>, Option<Finding>) {
    if router.spec.model.is_none() {
        return (None, None);
    }
    let stays = router.snapshot.as_ref().is_some_and(|snapshot| snapshot.model.is_some());
    if let Some((reason, problem)) = &router.model_problem {
        let answers = if stays { "the bundle that was in force stays" } else { "the fallback expert answers" };
        return (Some(Finding::no(MODEL_READY, *reason, format!("{problem}; {answers}"))), None);
    }
    let Some(snapshot) = router.snapshot.as_ref().filter(|snapshot| snapshot.model.is_some()) else {
        return (Some(Finding::no(MODEL_READY, "NoSnapshot", "there is no snapshot yet")), None);
    };
    if let Some((pod, why)) = facts.pods.iter().find_map(|(name, pod)| Some((name, pod.init_failure.as_ref()?))) {
        return (Some(Finding::no(MODEL_READY, reason_of(why), format!("Pod {pod}: {why}"))), None);
    }
    let current = |name: &String| facts.pods.contains_key(name);
    let reports: Vec<(&String, &Report)> = facts.reports.iter().filter(|(name, _)| current(name)).collect();
    let broken = reports.iter().find_map(|(name, report)| Some((*name, report.problem.as_ref()?)));
    if let Some((pod, problem)) = broken {
        let compatible = (reason_of(problem) == UNKNOWN_EXPERTS).then(|| Finding::no(MODEL_COMPATIBLE, UNKNOWN_EXPERTS, problem));
        let compatible = compatible.unwrap_or_else(|| Finding::unknown(MODEL_COMPATIBLE, "NotLoaded", "the bundle could not be loaded"));
        return (Some(Finding::no(MODEL_READY, reason_of(problem), format!("Pod {pod}: {problem}"))), Some(compatible));
    }
    if !router.unknown_experts.is_empty() {
        let names = router.unknown_experts.join(", ");
        let message = format!("the bundle does not know these experts, which get no requests until it is trained with them: {names}");
        return (
            Some(Finding::yes(MODEL_READY, "InSnapshot", "the bundle is in the snapshot, with the experts it knows")),
            Some(Finding::no(MODEL_COMPATIBLE, UNKNOWN_EXPERTS, message)),
        );
    }
    let loaded = reports.iter().filter(|(_, report)| report.model_ready).count();
    let experts = snapshot.experts.len();
    if loaded > 0 {
        let message = format!("loaded by {loaded} of {} proxies", facts.pods.len());
        let compatible = Finding::yes(MODEL_COMPATIBLE, "Compatible", format!("the bundle knows all {experts} experts"));
        return (Some(Finding::yes(MODEL_READY, "Loaded", message)), Some(compatible));
    }
    let compatible = Finding::unknown(MODEL_COMPATIBLE, "NotLoaded", "no proxy has loaded the bundle yet");
    (
        Some(Finding::yes(MODEL_READY, "InSnapshot", "the bundle is in the snapshot; no proxy has said yet that it loaded it")),
        Some(compatible),
    )
}

const UNKNOWN_EXPERTS: &str = "ExpertsUnknown";

/// A proxy's words to a reason.
fn reason_of(problem: &str) -> &'static str {
    let lower = problem.to_ascii_lowercase();
    if lower.contains("does not know these experts") {
        UNKNOWN_EXPERTS
    } else if lower.contains("sha-256") || lower.contains("sha256") || lower.contains("digest") {
        "DigestMismatch"
    } else {
        "FetchFailed"
    }
}

fn sidecars(facts: &Facts) -> Option<Finding> {
    let sidecars: Vec<&PodFacts> = facts.pods.values().filter(|pod| pod.role == "sidecar").collect();
    if sidecars.is_empty() {
        return None;
    }
    let newest = |pod: &&&PodFacts| pod.ready && (facts.revision.is_none() || pod.revision == facts.revision);
    let (have, all) = (sidecars.iter().filter(newest).count(), sidecars.len());
    let message = format!("{have} of {all} injected Pods are ready and have the newest snapshot");
    Some(if have == all { Finding::yes(SIDECAR_READY, "UpToDate", message) } else { Finding::no(SIDECAR_READY, "Updating", message) })
}

fn gateway_ready(router: &ValidRouter, facts: &Facts, before: &ExpertRouterStatus) -> Option<Finding> {
    router.gateway()?;
    let Some(gateway) = &facts.gateway else {
        return Some(Finding::no(GATEWAY_READY, "Progressing", "the gateway's Deployment is being made"));
    };
    let message = format!("{} of {} pods are available", gateway.available, gateway.replicas);
    if gateway.available > 0 {
        return Some(Finding::yes(GATEWAY_READY, "Available", message));
    }
    if let Some(problem) = &router.tls_problem {
        return Some(Finding::no(GATEWAY_READY, SECRET_MISSING, format!("{message}: {problem}")));
    }
    Some(match &gateway.trouble {
        Some(trouble) => Finding::no(GATEWAY_READY, "Unavailable", format!("{message}: {trouble}")),
        None if gateway.replicas == 0 => Finding::no(GATEWAY_READY, "Unavailable", "the gateway is scaled to no pods"),
        None if gateway.current && lost(before) => Finding::no(GATEWAY_READY, "Unavailable", message),
        None => Finding::no(GATEWAY_READY, "Progressing", message),
    })
}

fn request_log(router: &ValidRouter) -> Option<Finding> {
    let claim = valid::log_claim(&router.spec)?;
    Some(match &router.log_problem {
        None => Finding::yes(REQUEST_LOG_READY, "VolumeFound", format!("the gateway keeps requests on PersistentVolumeClaim {claim}")),
        Some(problem) => {
            Finding::no(REQUEST_LOG_READY, VOLUME_MISSING, format!("{problem}; until there is, requests are answered and none is kept"))
        }
    })
}

/// It was available, or was called unavailable already.
fn lost(before: &ExpertRouterStatus) -> bool {
    let unavailable = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        condition.type_ == GATEWAY_READY && condition.reason == "Unavailable"
    };
    was_true(&before.conditions, GATEWAY_READY) || before.conditions.iter().any(unavailable)
}

fn ready(router: &ValidRouter, facts: &Facts, resolved: &Finding, gateway: Option<&Finding>, before: &ExpertRouterStatus) -> Finding {
    if !router.experts.iter().any(|expert| expert.ready) {
        return Finding::no(READY, resolved.reason.clone(), resolved.message.clone());
    }
    if let Some(problem) = &router.keys_problem {
        return Finding::no(READY, SECRET_MISSING, format!("{problem}, which has the client keys"));
    }
    if facts.revision.is_none() && before.snapshot_revision.is_none() {
        return Finding::no(READY, "NoSnapshot", "there is no snapshot yet");
    }
    match gateway {
        Some(gateway) if gateway.verdict != Verdict::True => Finding { kind: READY, ..gateway.clone() },
        _ => {
            let answering = router.experts.iter().filter(|expert| expert.ready).count();
            Finding::yes(READY, "Ready", format!("requests are answered; {answering} of {} experts can be sent some", router.experts.len()))
        }
    }
}
