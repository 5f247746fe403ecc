//! Whether each expert can be sent requests, by what the cluster has of the things it names. Pure.

use api::{references::SecretKeyRef, router::Expert, status::ExpertStatus};

use super::valid::{References, missing_claim, missing_key};

/// An expert's Secret, or a key of it, is not there.
pub const SECRET_MISSING: &str = "SecretMissing";
/// An expert's Service, or a port of it, is not there.
pub const SERVICE_MISSING: &str = "ServiceMissing";
/// An expert's Service leads nowhere.
pub const NO_ENDPOINTS: &str = "NoEndpoints";
/// A volume claim is not there.
pub const VOLUME_MISSING: &str = "VolumeMissing";
/// None of an expert's pods can take requests.
pub const DEPLOYMENT_NOT_READY: &str = "DeploymentNotReady";

/// One expert by itself: ready, or the first thing that is in its way.
#[must_use]
pub fn judge(expert: &Expert, references: &References) -> ExpertStatus {
    let keys = secret_keys(expert);
    let checks = [
        keys.iter().find_map(|key| missing_key(key, references)).map(|message| (SECRET_MISSING, message)),
        expert.service.as_ref().and_then(|service| judge_service(&service.name, service.port, references)),
        expert.deployment.as_ref().and_then(|_| judge_deployment(expert, references)),
    ];
    let (reason, message) =
        checks.into_iter().flatten().next().map_or((None, None), |(reason, message)| (Some(reason.to_owned()), Some(message)));
    ExpertStatus { name: expert.name.clone(), ready: reason.is_none(), reason, message }
}

/// The keys of Secrets that an expert needs.
#[must_use]
pub fn secret_keys(expert: &Expert) -> Vec<&SecretKeyRef> {
    let credentials = expert.credentials.iter().map(|credentials| &credentials.secret_ref);
    credentials.chain(expert.tls.iter().map(|tls| &tls.ca_secret_ref)).collect()
}

/// The claim that an expert's server has its model on.
#[must_use]
pub fn cache_claim(expert: &Expert) -> Option<&String> {
    Some(&expert.deployment.as_ref()?.model_cache.as_ref()?.persistent_volume_claim)
}

fn judge_service(name: &str, port: u16, references: &References) -> Option<(&'static str, String)> {
    let Some(service) = references.services.get(name) else {
        return Some((SERVICE_MISSING, format!("there is no Service {name}")));
    };
    if !service.ports.is_empty() && !service.ports.contains(&i32::from(port)) {
        let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
        return Some((SERVICE_MISSING, format!("Service {name} has no port {port}, only {}", ports.join(", "))));
    }
    (service.ready == Some(0)).then(|| (NO_ENDPOINTS, format!("Service {name} has no ready endpoint")))
}

fn judge_deployment(expert: &Expert, references: &References) -> Option<(&'static str, String)> {
    let Some(facts) = references.deployments.get(&expert.name) else {
        return Some((DEPLOYMENT_NOT_READY, "its Deployment is being made".to_owned()));
    };
    if facts.available > 0 {
        return None;
    }
    if let Some(problem) = cache_claim(expert).and_then(|claim| missing_claim(claim, references)) {
        return Some((VOLUME_MISSING, problem));
    }
    let message = match (&facts.trouble, facts.replicas) {
        (Some(trouble), _) => trouble.clone(),
        (None, 0) => "it is scaled to no pods".to_owned(),
        (None, replicas) => format!("0 of {replicas} pods can take requests"),
    };
    Some((DEPLOYMENT_NOT_READY, message))
}
