//! A `RouterModel` and what its names resolve to, to a [`ValidModel`]: no options left that a later step would have to doubt. Pure.

mod places;

use std::collections::{BTreeMap, BTreeSet};

use api::{
    ExpertRouter, RouterModel, RouterModelSpec,
    model::{PromotionMode, Workspace},
    references::{ConfigMapKeyRef, SecretKeyRef, SecretRef, VolumePath},
    router::Expert,
    training::{PROMOTE_ANNOTATION, RETRAIN_ANNOTATION},
};
use routing::snapshot::Objective;
use serde_json::json;

use super::{inputs::digest_of, schedule::Schedule};
use crate::owner::Owner;
pub use places::{Destination, Place, shadow_percent, shadow_place};
use places::{folder, places};

/// What the names in a spec resolve to, as found, unjudged.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// The router of `experts.expertRouterRef`.
    pub router: Option<ExpertRouter>,
    /// The ConfigMap of `queries.configMapRef`: its key's content, where it has the key; none where there is no such ConfigMap.
    pub queries: Option<Option<String>>,
    /// Of those that are named, the Secrets that are not there, or lack the key.
    pub missing_secrets: Vec<String>,
    /// Versions of the Secrets that are named and there.
    pub secret_versions: BTreeMap<String, String>,
    /// Of those that are named, the claims that are not there.
    pub missing_claims: Vec<String>,
}

/// How long `Automatic` keeps a bundle in shadow, where the spec does not say: an hour of requests.
const SHADOW_SECONDS: i64 = 3600;

/// Why nothing can be planned: a condition's reason and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In one word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

/// Ready to plan.
#[derive(Debug, Clone)]
pub struct ValidModel {
    /// Whose children the Jobs are.
    pub owner: Owner,
    /// As written.
    pub spec: RouterModelSpec,
    /// The router whose experts are asked, or the model itself where it lists them.
    pub router_name: String,
    /// All by URL.
    pub experts: Vec<ResolvedExpert>,
    /// What is asked.
    pub queries: Queries,
    /// Where answers and bundles on trial lie.
    pub workspace: Place,
    /// The claim to make for them.
    pub own_claim: Option<Workspace>,
    /// Where bundles in force lie.
    pub output: Destination,
    /// When to look again.
    pub schedule: Option<Schedule>,
    /// What gains are measured at.
    pub objective: Objective,
    /// Who promotes.
    pub mode: PromotionMode,
    /// The gain that `Automatic` asks for.
    pub required_gain: f64,
    /// How long `Automatic` keeps a bundle in shadow; absent where none is in shadow.
    pub shadow_seconds: Option<i64>,
    /// Of the Secrets that Jobs read: with another key in it, a step that failed is worth another try.
    pub secret_versions: BTreeMap<String, String>,
    /// The digest that a person promotes.
    pub promoted: Option<String>,
    /// Whatever a person wrote to have it done again.
    pub retrain: Option<String>,
}

/// An expert that a Job can call.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedExpert {
    /// By URL, whatever it was.
    pub expert: Expert,
    /// Changes when somebody else answers at its address, as far as the spec tells.
    pub fingerprint: String,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queries {
    /// A mounted key.
    ConfigMap {
        /// Which.
        key: ConfigMapKeyRef,
        /// Of its content.
        digest: String,
        /// How many.
        count: u64,
    },
    /// A file on a volume.
    Claim(VolumePath),
    /// Fetched by the Job.
    Uri(String),
}

/// Makes sense of a model, or says why there is none.
///
/// # Errors
/// The first thing a person would have to mend.
pub fn validate(model: &RouterModel, references: &References) -> Result<ValidModel, Problem> {
    let owner = Owner::of_model(&model.metadata);
    let spec = &model.spec;
    let (router_name, experts) = experts(spec, references, &owner)?;
    let queries = queries(spec, references)?;
    let (output, workspace, own_claim) = places(spec, &owner.key.name)?;
    if let Some(missing) = references.missing_secrets.first() {
        return Err(problem("SecretMissing", missing.clone()));
    }
    if let Some(missing) = references.missing_claims.first() {
        return Err(problem("VolumeMissing", format!("there is no PersistentVolumeClaim {missing}")));
    }
    let schedule = match &spec.schedule {
        Some(text) => Some(Schedule::parse(text).map_err(|why| problem("Invalid", format!("spec.schedule: {why}")))?),
        None => None,
    };
    let annotation = |name: &str| model.metadata.annotations.as_ref().and_then(|annotations| annotations.get(name).cloned());
    Ok(ValidModel {
        router_name,
        experts,
        queries,
        workspace,
        own_claim,
        output,
        schedule,
        objective: spec.router.objective.unwrap_or_default(),
        mode: spec.promotion.mode.unwrap_or(PromotionMode::Manual),
        required_gain: spec.promotion.required_gain.as_ref().map_or(0.0, api::Decimal::value),
        shadow_seconds: shadow_percent(spec).map(|_| spec.promotion.shadow_seconds.map_or(SHADOW_SECONDS, i64::from)),
        secret_versions: references.secret_versions.clone(),
        promoted: annotation(PROMOTE_ANNOTATION),
        retrain: annotation(RETRAIN_ANNOTATION),
        spec: spec.clone(),
        owner,
    })
}

fn problem(reason: &'static str, message: impl Into<String>) -> Problem {
    Problem { reason, message: message.into() }
}

fn experts(spec: &RouterModelSpec, references: &References, owner: &Owner) -> Result<(String, Vec<ResolvedExpert>), Problem> {
    let (router_name, listed) = match (&spec.experts.expert_router_ref, &references.router) {
        (Some(reference), Some(router)) => (reference.name.clone(), router.spec.experts.as_slice()),
        (Some(reference), None) => return Err(problem("RouterMissing", format!("there is no ExpertRouter {}", reference.name))),
        (None, _) => (owner.key.name.clone(), spec.experts.endpoints.as_slice()),
    };
    let resolved: Vec<ResolvedExpert> = listed.iter().map(|expert| resolve(expert, &router_name, &owner.key.namespace)).collect();
    if let Some(forwarding) = resolved.iter().find(|resolved| resolved.expert.forward_authorization == Some(true)) {
        let name = &forwarding.expert.name;
        let message = format!("expert {name} is called with its clients' own authorization, and a Job has none: give it credentials");
        return Err(problem("ExpertsUnresolved", message));
    }
    if resolved.len() < 2 {
        return Err(problem(
            "ExpertsUnresolved",
            format!("a router chooses between at least two experts, and there is {}", resolved.len()),
        ));
    }
    Ok((router_name, resolved))
}

/// The base URL of an expert from inside the cluster.
fn base_url(expert: &Expert, router: &str, namespace: &str) -> String {
    if let Some(deployment) = &expert.deployment {
        return crate::router::plan::names::expert_url(namespace, router, &expert.name, deployment);
    }
    expert.service.as_ref().map_or_else(|| expert.url.clone().unwrap_or_default(), |service| api::service_url(namespace, service))
}

fn resolve(expert: &Expert, router: &str, namespace: &str) -> ResolvedExpert {
    let url = base_url(expert, router, namespace);
    let fingerprint = match &expert.deployment {
        // Replicas, resources and nodes do not change answers; what is started does.
        Some(deployment) => digest_of(&json!([deployment.image, deployment.command, deployment.args, deployment.env])),
        None => digest_of(&json!(url)),
    };
    let expert = Expert { deployment: None, service: None, url: Some(url), ..expert.clone() };
    ResolvedExpert { expert, fingerprint }
}

fn queries(spec: &RouterModelSpec, references: &References) -> Result<Queries, Problem> {
    let queries = &spec.queries;
    if let Some(key) = &queries.config_map_ref {
        let Some(found) = &references.queries else {
            return Err(problem("QueriesMissing", format!("there is no ConfigMap {}", key.name)));
        };
        let Some(text) = found else {
            return Err(problem("QueriesMissing", format!("the ConfigMap {} has no key {}", key.name, key.key)));
        };
        let count = text.lines().filter(|line| !line.trim().is_empty()).count() as u64;
        if count == 0 {
            return Err(problem("QueriesMissing", format!("{} of the ConfigMap {} has no queries", key.key, key.name)));
        }
        return Ok(Queries::ConfigMap { key: key.clone(), digest: digest_of(&json!(text)), count });
    }
    if let Some(volume) = &queries.persistent_volume_claim {
        let path = folder(volume.path.as_deref())?;
        if path.is_empty() {
            return Err(problem("Invalid", "spec.queries.persistentVolumeClaim.path: expected the path of a file"));
        }
        return Ok(Queries::Claim(VolumePath { name: volume.name.clone(), path: Some(path) }));
    }
    match &queries.uri {
        Some(uri) if uri.contains("://") => Ok(Queries::Uri(uri.clone())),
        _ => Err(problem("Invalid", "spec.queries.uri: expected a URI such as https://... or s3://...; a path is of this machine only")),
    }
}

/// What a model names, for those who fetch it and for those who mount it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// Keys of Secrets.
    pub secret_keys: Vec<SecretKeyRef>,
    /// Whole Secrets.
    pub secrets: Vec<SecretRef>,
    /// Claims.
    pub claims: Vec<String>,
}

impl Named {
    /// By a spec, with the experts that are asked.
    #[must_use]
    pub fn by(spec: &RouterModelSpec, experts: &[Expert]) -> Self {
        let claims = [&spec.queries.persistent_volume_claim, &spec.output.persistent_volume_claim];
        Self {
            secret_keys: secret_keys(experts),
            secrets: spec.output.credentials_secret_ref.iter().cloned().collect(),
            claims: claims.into_iter().flatten().map(|volume| volume.name.clone()).collect(),
        }
    }
}

/// The keys of Secrets that experts name, each once.
#[must_use]
pub fn secret_keys<'a>(experts: impl IntoIterator<Item = &'a Expert>) -> Vec<SecretKeyRef> {
    experts.into_iter().flat_map(crate::router::experts::secret_keys).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}
