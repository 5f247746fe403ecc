//! What a router names, fetched and unjudged: from what is known of the cluster; only the keys of Secrets are asked for.

use std::collections::{BTreeMap, BTreeSet};

use api::{ExpertRouter, ExpertRouterSpec, RouterModel};
use serde_json::json;

use super::{
    bundle,
    experts::cache_claim,
    plan::{SNAPSHOT_KEY, SPEND_KEY, names},
    valid::{ModelFacts, References, Service, ShadowFacts, all_secret_keys, log_claim},
};
use crate::{
    cache::{DeploymentFacts, Detail, Kind},
    context::{Context, Error},
    dependencies::Dependency,
    names::label_value,
    owner::Owner,
    training::{inputs::digest_of, valid as training},
};

/// Fetches what a router names, and has changes of it told to the router.
///
/// # Errors
/// The API server cannot be asked.
pub async fn dereference(router: &ExpertRouter, context: &Context) -> Result<References, Error> {
    let owner = Owner::of_router(&router.metadata);
    let namespace = &owner.key.namespace;
    let model = model_of(router, context);
    context.dependencies.record(&owner.key, dependencies(router, model.as_ref()));
    let mut secrets = BTreeMap::new();
    for name in secret_names(&router.spec) {
        if let Some(keys) = context.secret_keys(namespace, &name).await? {
            secrets.insert(name, (*keys).clone());
        }
    }
    let services = router.spec.experts.iter().filter_map(|expert| expert.service.as_ref());
    let claims = claims(router, model.as_ref()).into_iter();
    let seen_config_map = |name: String, key: &str| -> Option<String> {
        let seen = context.cache.get(Kind::ConfigMap, namespace, &name)?;
        let is_ours = seen.owner.as_ref().is_some_and(|of| of.uid == owner.uid);
        match &seen.detail {
            Detail::ConfigMap(data) if is_ours => data.get(key).cloned(),
            _ => None,
        }
    };
    let last = seen_config_map(names::snapshot(&owner.key.name), SNAPSHOT_KEY);
    let stored = seen_config_map(names::spend(&owner.key.name), SPEND_KEY);
    Ok(References {
        services: services.filter_map(|service| Some((service.name.clone(), find_service(context, namespace, &service.name)?))).collect(),
        claims: claims.filter(|name| context.cache.get(Kind::PersistentVolumeClaim, namespace, name).is_some()).collect(),
        deployments: deployments(router, &owner, context),
        model,
        // One that cannot be read any more is none to go on from.
        last: last.and_then(|json| serde_json::from_str(&json).ok()),
        last_bundle: router.status.as_ref().and_then(|status| status.model.clone()),
        spent: context.router_state.spent(&owner, &router.spec.budgets, stored.as_deref()),
        has_http_routes: context.has(Kind::HttpRoute),
        has_pod_monitors: context.has(Kind::PodMonitor),
        secrets,
    })
}

fn find_service(context: &Context, namespace: &str, name: &str) -> Option<Service> {
    let seen = context.cache.get(Kind::Service, namespace, name)?;
    let Detail::Service(facts) = &seen.detail else { return None };
    let ready = if facts.external { None } else { Some(context.cache.ready_endpoints(namespace, name).unwrap_or(0)) };
    Some(Service { ports: facts.ports.clone(), ready })
}

fn deployments(router: &ExpertRouter, owner: &Owner, context: &Context) -> BTreeMap<String, DeploymentFacts> {
    let deployed = router.spec.experts.iter().filter(|expert| expert.deployment.is_some());
    let facts = deployed.filter_map(|expert| {
        let seen = context.cache.get(Kind::Deployment, &owner.key.namespace, &names::expert(&owner.key.name, &expert.name))?;
        match &seen.detail {
            Detail::Deployment(facts) if seen.owner.as_ref().is_some_and(|of| of.uid == owner.uid) => {
                Some((expert.name.clone(), facts.clone()))
            }
            _ => None,
        }
    });
    facts.collect()
}

/// How the RouterModel stands that a router names.
fn model_of(router: &ExpertRouter, context: &Context) -> Option<ModelFacts> {
    let reference = router.spec.model.as_ref()?.router_model_ref.as_ref()?;
    let found = context.models.get(router.metadata.namespace.as_deref()?, &reference.name)?;
    match &found.0 {
        Ok(model) if model.metadata.deletion_timestamp.is_some() => None,
        Ok(model) => Some(model_facts(model)),
        Err(invalid) => Some(ModelFacts { not_ready: Some(format!("it cannot be read: {}", invalid.error)), ..ModelFacts::default() }),
    }
}

/// What a router needs to know of a RouterModel.
#[must_use]
pub fn model_facts(model: &RouterModel) -> ModelFacts {
    let status = model.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|condition| condition.type_ == api::status::model_conditions::READY);
    ModelFacts {
        known_experts: known_experts(&status),
        shadow: shadow(model, &status),
        bundle: status.bundle.map(|bundle| (bundle.uri, bundle.digest)),
        claim: model.spec.output.persistent_volume_claim.as_ref().map(|place| place.name.clone()),
        credentials: model.spec.output.credentials_secret_ref.as_ref().map(|secret| secret.name.clone()),
        not_ready: ready.filter(|condition| condition.status != "True").map(|condition| condition.message.clone()),
    }
}

/// The bundle on trial, where the spec would have it in shadow.
fn shadow(model: &RouterModel, status: &api::status::RouterModelStatus) -> Option<ShadowFacts> {
    let percent = training::shadow_percent(&model.spec)?;
    let digest = status.candidate.as_ref()?.digest.clone();
    let place = training::shadow_place(&model.spec, model.metadata.name.as_deref()?, &digest)?;
    Some(ShadowFacts { claim: place.claim, path: place.folder, digest, percent })
}

/// The experts that the bundle in force chooses among, where that can be told.
fn known_experts(status: &api::status::RouterModelStatus) -> Option<BTreeSet<String>> {
    let known: BTreeSet<String> = status.bundle.as_ref()?.experts.iter().cloned().collect();
    (!known.is_empty()).then_some(known)
}

fn secret_names(spec: &ExpertRouterSpec) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = all_secret_keys(spec).into_iter().map(|key| key.name).collect();
    let bundle = spec.model.as_ref().and_then(|model| model.bundle.as_ref());
    names.extend(bundle.and_then(|bundle| Some(bundle.credentials.as_ref()?.secret_ref.name.clone())));
    names.extend(spec.gateway.as_ref().and_then(|gateway| Some(gateway.tls_secret_ref.as_ref()?.name.clone())));
    names
}

/// A digest of the versions of the Secrets that the data plane mounts, as they are known now: another one where a Secret was written.
/// Absent where none is there.
#[must_use]
pub fn secrets_revision(router: &ExpertRouter, context: &Context) -> Option<String> {
    let namespace = router.metadata.namespace.as_deref()?;
    let version = |name: String| {
        let seen = context.cache.get(Kind::Secret, namespace, &name)?;
        Some((name, json!([seen.uid, seen.resource_version])))
    };
    let versions: serde_json::Map<_, _> = secret_names(&router.spec).into_iter().filter_map(version).collect();
    (!versions.is_empty()).then(|| digest_of(&versions.into()))
}

/// Every claim a Pod of the router's may mount.
fn claims(router: &ExpertRouter, model: Option<&ModelFacts>) -> BTreeSet<String> {
    let mut claims = bundle::claims(router.spec.model.as_ref(), model);
    claims.extend(log_claim(&router.spec).cloned());
    claims.extend(router.spec.experts.iter().filter_map(cache_claim).cloned());
    claims
}

fn dependencies(router: &ExpertRouter, model: Option<&ModelFacts>) -> BTreeSet<Dependency> {
    let object = Dependency::Object;
    let mut all = BTreeSet::new();
    all.extend(secret_names(&router.spec).into_iter().map(|name| object(Kind::Secret, name)));
    all.extend(claims(router, model).into_iter().map(|name| object(Kind::PersistentVolumeClaim, name)));
    for service in router.spec.experts.iter().filter_map(|expert| expert.service.as_ref()) {
        all.insert(object(Kind::Service, service.name.clone()));
        all.insert(object(Kind::EndpointSlice, service.name.clone()));
    }
    let named = router.spec.model.as_ref().and_then(|model| model.router_model_ref.as_ref());
    all.extend(named.map(|reference| Dependency::Model(reference.name.clone())));
    let name = router.metadata.name.as_deref().unwrap_or_default();
    // Its Pods, by the label they carry.
    all.insert(object(Kind::Pod, label_value(name)));
    // Names its children want: free again when somebody else's object goes.
    all.insert(object(Kind::Service, names::gateway(name)));
    all
}
