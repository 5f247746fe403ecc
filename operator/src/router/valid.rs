//! Spec and what its names resolve to, to a router that can be planned. Pure.
//!
//! In: an ExpertRouter, and [`References`]: what the cluster has of the things it names, unjudged. Out: a [`ValidRouter`], in which
//! nothing has to be looked up any more, and per expert whether it can answer. A single thing that is missing costs no more than itself: an
//! expert whose Secret is not there is left out of a first snapshot, and stays in one it was in already.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    ExpertRouter, ManifestError,
    references::SecretKeyRef,
    router::{Deployment, Expert, Gateway},
    status::{BundleStatus, ExpertStatus},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::{Snapshot, snapshot as data};

use super::{
    bundle::{self, Source},
    experts::{self, SECRET_MISSING, secret_keys},
    plan::{data_plane, names},
};
use crate::{cache::DeploymentFacts, owner::Owner};

/// What the cluster has of the things a router names.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// Keys of the Secrets it names, by Secret; absent where there is none of that name.
    pub secrets: BTreeMap<String, BTreeSet<String>>,
    /// Services it names; absent where there is none of that name.
    pub services: BTreeMap<String, Service>,
    /// Volume claims it names that are there.
    pub claims: BTreeSet<String>,
    /// Deployments of its experts, by expert; and that of its gateway under the empty name.
    pub deployments: BTreeMap<String, DeploymentFacts>,
    /// The model it names, and how it stands.
    pub model: Option<ModelFacts>,
    /// The snapshot in force.
    pub last: Option<Snapshot>,
    /// The bundle in force, as the status has it.
    pub last_bundle: Option<BundleStatus>,
    /// Spent of each budget, and the start of the period.
    pub spent: BTreeMap<String, (f64, u64)>,
    /// The cluster has the Gateway API.
    pub has_http_routes: bool,
    /// The cluster has Prometheus' operator.
    pub has_pod_monitors: bool,
}

/// A Service that an expert names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its ports.
    pub ports: Vec<i32>,
    /// Endpoints that are ready; `None` where nobody counts them.
    pub ready: Option<usize>,
}

/// A RouterModel that a router names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// The bundle in force: address and digest.
    pub bundle: Option<(String, String)>,
    /// The claim its bundles lie on, also before there is one.
    pub claim: Option<String>,
    /// The Secret of the store its bundles lie in.
    pub credentials: Option<String>,
    /// The experts its bundle knows, where that can be told.
    pub known_experts: Option<BTreeSet<String>>,
    /// The bundle on trial that is to be in shadow.
    pub shadow: Option<ShadowFacts>,
    /// Why it is not Ready, as it says itself.
    pub not_ready: Option<String>,
}

/// A bundle on trial, on a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowFacts {
    /// The claim.
    pub claim: String,
    /// From the volume's root.
    pub path: String,
    /// Its digest.
    pub digest: String,
    /// Its share of the requests.
    pub percent: u8,
}

/// A router, ready to be planned.
#[derive(Debug, Clone)]
pub struct ValidRouter {
    /// The object itself.
    pub owner: Owner,
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its spec.
    pub spec: api::ExpertRouterSpec,
    /// What the data plane is to be told; absent while no expert can be told of.
    pub snapshot: Option<Snapshot>,
    /// Where the bundle comes from, for Pods.
    pub bundle: Option<Source>,
    /// Each expert by itself.
    pub experts: Vec<ExpertStatus>,
    /// Ports of the Services among them that lead out of the cluster.
    pub outside_ports: BTreeSet<u16>,
    /// Experts that the bundle knows; none where that cannot be told.
    pub known_experts: BTreeSet<String>,
    /// Experts that the bundle does not know: with them it could not be used, so the data plane is not told of them yet.
    pub unknown_experts: Vec<String>,
    /// The model: reason and message where it is not in the snapshot as the spec would have it.
    pub model_problem: Option<(&'static str, String)>,
    /// Why nobody can call: the Secret of the client keys is not there.
    pub keys_problem: Option<String>,
    /// Why the gateway cannot begin: the Secret of its certificate is not there.
    pub tls_problem: Option<String>,
    /// Why the gateway keeps no requests: the claim they are to lie on is not there.
    pub log_problem: Option<String>,
    /// The cluster has the Gateway API.
    pub has_http_routes: bool,
    /// The cluster has Prometheus' operator.
    pub has_pod_monitors: bool,
}

impl ValidRouter {
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.owner.key.namespace
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.owner.key.name
    }

    /// Its gateway.
    #[must_use]
    pub fn gateway(&self) -> Option<&Gateway> {
        self.spec.gateway.as_ref()
    }

    /// The experts that are run.
    pub fn deployed(&self) -> impl Iterator<Item = (&Expert, &Deployment)> {
        self.spec.experts.iter().filter_map(|expert| Some((expert, expert.deployment.as_ref()?)))
    }
}

/// Judges a router.
///
/// # Errors
/// What makes no sense in the spec, by field. What is merely missing is no error.
pub fn validate(router: &ExpertRouter, references: &References) -> Result<ValidRouter, ManifestError> {
    let owner = Owner::of_router(&router.metadata);
    let experts = router.spec.experts.iter().map(|expert| experts::judge(expert, references)).collect::<Vec<_>>();
    let (wanted, model_problem) = bundle::resolve(router.spec.model.as_ref(), references);
    let known = references.last.as_ref();
    let model = match (&wanted, &model_problem) {
        (Some(source), _) => source.model(),
        // What was in force stays so, until there is something better or the spec has no model any more.
        (None, Some(_)) => known.and_then(|last| last.model.clone()),
        (None, None) => None,
    };
    let in_force = || Source::of_model(model.as_ref()?, references.last_bundle.as_ref());
    let bundle = wanted.or_else(in_force).or_else(|| bundle::expected(router.spec.model.as_ref(), references));
    let shadow = bundle::shadow(references.model.as_ref(), bundle.as_ref());
    let known_experts = if model.is_some() { known_experts(references, model_problem.is_none()) } else { BTreeSet::new() };
    let unknown_experts = unknown_to_bundle(router, &known_experts);
    let was_told = |name: &str| known.is_some_and(|last| last.experts.iter().any(|expert| expert.name == name));
    let is_told = |status: &ExpertStatus| {
        let has_secrets = status.reason.as_deref() != Some(SECRET_MISSING) || was_told(&status.name);
        has_secrets && !unknown_experts.contains(&status.name)
    };
    let told: BTreeSet<&str> = experts.iter().filter(|status| is_told(status)).map(|status| status.name.as_str()).collect();
    let snapshot = snapshot(router, &told, |router| api_references(router, references, model.clone(), shadow.clone()))?;
    Ok(ValidRouter {
        metadata: router.metadata.clone(),
        spec: router.spec.clone(),
        snapshot,
        bundle,
        experts,
        outside_ports: outside_ports(&router.spec, references),
        known_experts,
        unknown_experts,
        model_problem,
        tls_problem: tls_problem(&router.spec, references),
        log_problem: log_claim(&router.spec).and_then(|claim| missing_claim(claim, references)),
        keys_problem: router.spec.client_keys.as_ref().and_then(|keys| missing_key(&keys.secret_ref, references)),
        has_http_routes: references.has_http_routes,
        has_pod_monitors: references.has_pod_monitors,
        owner,
    })
}

/// Ports of Services without endpoints of their own: what they name is elsewhere.
fn outside_ports(spec: &api::ExpertRouterSpec, references: &References) -> BTreeSet<u16> {
    let leads_out = |name: &str| references.services.get(name).is_some_and(|service| service.ready.is_none());
    let services = spec.experts.iter().filter_map(|expert| expert.service.as_ref());
    services.filter(|service| leads_out(&service.name)).map(|service| service.port).collect()
}

/// Experts that the bundle knows: as its RouterModel says, or as was known of the one that stays in force without.
fn known_experts(references: &References, is_wanted: bool) -> BTreeSet<String> {
    if is_wanted {
        return references.model.as_ref().and_then(|model| model.known_experts.clone()).unwrap_or_default();
    }
    references.last_bundle.iter().flat_map(|bundle| bundle.experts.iter().cloned()).collect()
}

/// Experts that the bundle does not know. All or none of them unknown is no reason to leave any out: the first says that the names are
/// another world's, which the data plane is to say.
fn unknown_to_bundle(router: &ExpertRouter, known: &BTreeSet<String>) -> Vec<String> {
    let unknown: Vec<String> = router.spec.experts.iter().map(|expert| expert.name.clone()).filter(|name| !known.contains(name)).collect();
    if unknown.len() == router.spec.experts.len() { Vec::new() } else { unknown }
}

/// What is wrong with a key of a Secret.
#[must_use]
pub fn missing_key(key: &SecretKeyRef, references: &References) -> Option<String> {
    match references.secrets.get(&key.name) {
        None => Some(format!("there is no Secret {}", key.name)),
        Some(keys) if !keys.contains(&key.key) => Some(format!("Secret {} has no key {}, or nothing in it", key.name, key.key)),
        Some(_) => None,
    }
}

/// The claim that the gateway keeps requests on.
#[must_use]
pub fn log_claim(spec: &api::ExpertRouterSpec) -> Option<&String> {
    spec.gateway.as_ref()?;
    Some(&spec.observability.as_ref()?.request_log.as_ref()?.persistent_volume_claim.as_ref()?.name)
}

/// What is wrong with a claim.
#[must_use]
pub fn missing_claim(claim: &String, references: &References) -> Option<String> {
    (!references.claims.contains(claim)).then(|| format!("there is no PersistentVolumeClaim {claim}"))
}

fn tls_problem(spec: &api::ExpertRouterSpec, references: &References) -> Option<String> {
    let name = &spec.gateway.as_ref()?.tls_secret_ref.as_ref()?.name;
    (!references.secrets.contains_key(name)).then(|| format!("there is no Secret {name}, which has the certificate"))
}

/// What the data plane is told: of these experts; nothing while there is none.
fn snapshot(
    router: &ExpertRouter,
    told: &BTreeSet<&str>,
    references: impl Fn(&ExpertRouter) -> api::References,
) -> Result<Option<Snapshot>, ManifestError> {
    // Everything is checked, also what is not told yet: a spec is sound or not whatever else is there.
    let whole = api::snapshot(router, &references(router))?;
    if told.len() == router.spec.experts.len() {
        return Ok(Some(whole));
    }
    if told.is_empty() {
        return Ok(None);
    }
    let mut reduced = router.clone();
    reduced.spec.experts.retain(|expert| told.contains(expert.name.as_str()));
    for named in [&mut reduced.spec.policy.fallback_expert, &mut reduced.spec.policy.baseline_expert] {
        *named = named.take().filter(|name| told.contains(name.as_str()));
    }
    api::snapshot(&reduced, &references(&reduced)).map(Some)
}

fn api_references(
    router: &ExpertRouter,
    references: &References,
    model: Option<data::Model>,
    shadow: Option<data::Shadow>,
) -> api::References {
    let namespace = router.metadata.namespace.clone().unwrap_or_default();
    let name = router.metadata.name.clone().unwrap_or_default();
    let deployed = router.spec.experts.iter().filter_map(|expert| {
        let deployment = expert.deployment.as_ref()?;
        Some((expert.name.clone(), names::expert_url(&namespace, &name, &expert.name, deployment)))
    });
    let keys = all_secret_keys(&router.spec);
    api::References {
        expert_urls: deployed.collect(),
        secret_files: keys.into_iter().map(|key| (key.clone(), data_plane::secret_file(&key))).collect(),
        namespace,
        model,
        shadow,
        spent: references.spent.clone(),
    }
}

/// The keys of Secrets that the data plane needs as files, each once.
#[must_use]
pub fn all_secret_keys(spec: &api::ExpertRouterSpec) -> BTreeSet<SecretKeyRef> {
    let clients = spec.client_keys.iter().map(|keys| &keys.secret_ref);
    spec.experts.iter().flat_map(secret_keys).chain(clients).cloned().collect()
}
