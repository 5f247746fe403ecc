//! The rules a schema cannot state by itself, each with the sentence a person can act on. In a cluster the API server checks them (as
//! CEL, beside the types); standalone [`check_router`] and [`check_model`] do. A test holds the two against each other.

use crate::{
    ManifestError, RouterModelSpec,
    router::{Autoscaling, Expert, ExpertRouterSpec},
};

/// Names of experts: also metric labels, header values and models on the wire.
pub const EXPERT_NAME_PATTERN: &str = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
/// Names of Kubernetes objects.
pub const OBJECT_NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Names of Services.
pub const LABEL_PATTERN: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";
/// Keys of Secrets and ConfigMaps. The first character keeps `..` out of paths.
pub const KEY_PATTERN: &str = "^[-_a-zA-Z0-9][-._a-zA-Z0-9]*$";
/// Addresses of servers.
pub const URL_PATTERN: &str = r"^https?://[A-Za-z0-9._\[\]:-]+(/[!$-.0-;=@-Z_a-z~/]*)?$";
/// Paths on a server.
pub const PATH_PATTERN: &str = "^/[!$-.0-;=@-Z_a-z~/]*$";
/// Names of HTTP headers, in lower case.
pub const HEADER_PATTERN: &str = "^[a-z0-9][-a-z0-9]*$";
/// A SHA-256 in hex.
pub const SHA256_PATTERN: &str = "^[0-9a-f]{64}$";
/// Where bundles and queries may lie.
pub const URI_PATTERN: &str = "^[^\u{0}-\u{20}]+$";
/// When something is done again and again.
pub const SCHEDULE_PATTERN: &str = r"^(@(hourly|daily|weekly|monthly)|[0-9*/,-]+( [0-9*/,-]+){4})$";
/// Sizes of volumes.
pub const QUANTITY_PATTERN: &str = "^[1-9][0-9]*([kMGTP]|[KMGTP]i)?$";

/// What a pattern asks for, in words.
pub(crate) fn words(pattern: &str) -> &str {
    match pattern {
        EXPERT_NAME_PATTERN => "a name of letters, digits, '-', '_' and '.' that begins and ends with a letter or digit",
        OBJECT_NAME_PATTERN => "the name of a Kubernetes object: lower-case letters, digits, '-' and '.'",
        LABEL_PATTERN => "the name of a Service: lower-case letters, digits and '-', beginning with a letter",
        KEY_PATTERN => "a key of letters, digits, '-', '_' and '.', not beginning with '.'",
        URL_PATTERN => "http://host[:port][/path] or https://..., without user, query and fragment",
        PATH_PATTERN => "a path that begins with '/', without query and fragment",
        HEADER_PATTERN => "the name of an HTTP header in lower case",
        SHA256_PATTERN => "64 hexadecimal digits in lower case",
        URI_PATTERN => "a path or URI without spaces",
        SCHEDULE_PATTERN => "five fields like \"0 3 * * 1\" (minute, hour, day, month, day of week) or @hourly, @daily, @weekly, @monthly",
        QUANTITY_PATTERN => "a size like 10Gi",
        crate::decimal::PATTERN => "a decimal string like \"0.20\"",
        crate::decimal::SHARE_PATTERN => "a decimal string from \"0\" to \"1\"",
        other => other,
    }
}

/// See [`crate::router::Expert`].
pub const ONE_ADDRESS: &str = "say where the expert is by exactly one of deployment, service and url";
/// See [`crate::model::Experts`].
pub const ONE_ENDPOINT: &str = "say where the expert is by exactly one of service and url: a RouterModel runs none";
/// See [`crate::router::Expert`].
pub const DEPLOYMENT_NAME: &str = "an expert with a deployment needs a name of at most 40 lower-case letters, digits and '-', beginning with a letter: its objects are called after it";
/// See [`crate::router::Expert`].
pub const ONE_AUTHORIZATION: &str = "use either credentials or forwardAuthorization: a request has one Authorization";
/// See [`crate::router::Expert`].
pub const NOT_AUTO: &str = "choose another name: auto is the model that routes";
/// See [`crate::router::Deployment`] and [`crate::router::Gateway`].
pub const REPLICAS_OR_AUTOSCALING: &str = "use either replicas or autoscaling";
/// See [`crate::router::Autoscaling`].
pub const MIN_OVER_MAX: &str = "minReplicas must not be above maxReplicas";
/// See [`ExpertRouterSpec`].
pub const FALLBACK_EXISTS: &str = "policy.fallbackExpert must be the name of one of the experts";
/// See [`ExpertRouterSpec`].
pub const BASELINE_EXISTS: &str = "policy.baselineExpert must be the name of one of the experts";
/// See [`crate::router::Model`].
pub const ONE_MODEL: &str = "say where the model is by exactly one of routerModelRef and bundle";
/// See [`crate::router::Bundle`].
pub const ONE_BUNDLE: &str = "say where the bundle is by exactly one of uri and persistentVolumeClaim";
/// See [`crate::RouterModelSpec`].
pub const ONE_QUERIES: &str = "say where the queries are by exactly one of configMapRef, persistentVolumeClaim and uri";
/// See [`crate::RouterModelSpec`].
pub const ONE_EXPERTS: &str = "say who is asked by exactly one of expertRouterRef and endpoints";
/// See [`crate::RouterModelSpec`].
pub const ONE_OUTPUT: &str = "say where the result goes by exactly one of persistentVolumeClaim, uri and directory";
/// See [`crate::model::Scoring`].
pub const WEIGHT_OF_MIXED: &str = "bertSimWeight belongs to metric Mixed";
/// See [`crate::RouterModelSpec`].
pub const SHADOW_ON_VOLUME: &str =
    "promotion.shadowPercent needs the bundle on trial where proxies can read it: output.persistentVolumeClaim, and no job.workspace";
/// See [`crate::model::Promotion`].
pub const SECONDS_OF_SHADOW: &str = "shadowSeconds belongs to a shadowPercent above 0";

fn broken(field: impl Into<String>, sentence: &str) -> Result<(), ManifestError> {
    Err(ManifestError { field: field.into(), problem: sentence.to_owned() })
}

fn exactly_one(given: &[bool]) -> bool {
    given.iter().filter(|given| **given).count() == 1
}

/// The rules of an `ExpertRouter`.
pub(crate) fn check_router(spec: &ExpertRouterSpec) -> Result<(), ManifestError> {
    spec.experts.iter().enumerate().try_for_each(|(index, expert)| check_expert(expert, &format!("spec.experts[{index}]")))?;
    let exists = |name: &Option<String>| name.as_ref().is_none_or(|name| spec.experts.iter().any(|expert| expert.name == *name));
    if !exists(&spec.policy.fallback_expert) {
        return broken("spec.policy.fallbackExpert", FALLBACK_EXISTS);
    }
    if !exists(&spec.policy.baseline_expert) {
        return broken("spec.policy.baselineExpert", BASELINE_EXISTS);
    }
    if let Some(gateway) = &spec.gateway {
        check_scale(gateway.replicas, gateway.autoscaling.as_ref(), "spec.gateway")?;
    }
    let Some(model) = &spec.model else { return Ok(()) };
    if !exactly_one(&[model.router_model_ref.is_some(), model.bundle.is_some()]) {
        return broken("spec.model", ONE_MODEL);
    }
    match &model.bundle {
        Some(bundle) if !exactly_one(&[bundle.uri.is_some(), bundle.persistent_volume_claim.is_some()]) => {
            broken("spec.model.bundle", ONE_BUNDLE)
        }
        _ => Ok(()),
    }
}

fn check_expert(expert: &Expert, field: &str) -> Result<(), ManifestError> {
    if !exactly_one(&[expert.deployment.is_some(), expert.service.is_some(), expert.url.is_some()]) {
        return broken(field, ONE_ADDRESS);
    }
    if expert.deployment.is_some() && !names_objects(&expert.name) {
        return broken(format!("{field}.name"), DEPLOYMENT_NAME);
    }
    if expert.credentials.is_some() && expert.forward_authorization == Some(true) {
        return broken(format!("{field}.forwardAuthorization"), ONE_AUTHORIZATION);
    }
    if expert.name == routing::AUTO {
        return broken(format!("{field}.name"), NOT_AUTO);
    }
    match &expert.deployment {
        Some(deployment) => check_scale(deployment.replicas, deployment.autoscaling.as_ref(), &format!("{field}.deployment")),
        None => Ok(()),
    }
}

fn names_objects(name: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 40 && name.bytes().all(sound) && name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-')
}

fn check_scale(replicas: Option<u16>, autoscaling: Option<&Autoscaling>, field: &str) -> Result<(), ManifestError> {
    let Some(autoscaling) = autoscaling else { return Ok(()) };
    if replicas.is_some() {
        return broken(format!("{field}.replicas"), REPLICAS_OR_AUTOSCALING);
    }
    if autoscaling.min_replicas.is_some_and(|least| least > autoscaling.max_replicas) {
        return broken(format!("{field}.autoscaling.minReplicas"), MIN_OVER_MAX);
    }
    Ok(())
}

/// The rules of a `RouterModel`.
pub(crate) fn check_model(spec: &RouterModelSpec) -> Result<(), ManifestError> {
    let queries = &spec.queries;
    if !exactly_one(&[queries.config_map_ref.is_some(), queries.persistent_volume_claim.is_some(), queries.uri.is_some()]) {
        return broken("spec.queries", ONE_QUERIES);
    }
    if !exactly_one(&[spec.experts.expert_router_ref.is_some(), !spec.experts.endpoints.is_empty()]) {
        return broken("spec.experts", ONE_EXPERTS);
    }
    for (index, expert) in spec.experts.endpoints.iter().enumerate() {
        let field = format!("spec.experts.endpoints[{index}]");
        if expert.deployment.is_some() || expert.service.is_some() == expert.url.is_some() {
            return broken(field, ONE_ENDPOINT);
        }
        check_expert(expert, &field)?;
    }
    let output = &spec.output;
    if !exactly_one(&[output.persistent_volume_claim.is_some(), output.uri.is_some(), output.directory.is_some()]) {
        return broken("spec.output", ONE_OUTPUT);
    }
    if spec.scoring.bert_sim_weight.is_some() && spec.scoring.metric != Some(crate::model::Metric::Mixed) {
        return broken("spec.scoring.bertSimWeight", WEIGHT_OF_MIXED);
    }
    let in_shadow = spec.promotion.shadow_percent.is_some_and(|percent| percent > 0);
    if spec.promotion.shadow_seconds.is_some() && !in_shadow {
        return broken("spec.promotion", SECONDS_OF_SHADOW);
    }
    if in_shadow && (output.persistent_volume_claim.is_none() || spec.job.workspace.is_some()) {
        return broken("spec", SHADOW_ON_VOLUME);
    }
    Ok(())
}
