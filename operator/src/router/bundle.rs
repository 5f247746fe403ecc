//! Where a router's bundle comes from, and where Pods find it. Pure.
//!
//! On a volume the claim is mounted read-only, and a new bundle on it is another path in the snapshot: no Pod restarts. From a store it is
//! fetched by an init container into a folder of the Pod, called after its digest.

use std::collections::BTreeSet;

use api::{
    router::{Bundle, Model},
    status::BundleStatus,
};
use routing::snapshot as data;
use sha2::{Digest, Sha256};

use super::valid::{ModelFacts, References};

/// Where claims are mounted, each under its name.
pub const VOLUMES: &str = "/var/lib/expert-router/volumes";
/// Where bundles are fetched to, each under its digest.
pub const FETCHED: &str = "/var/lib/expert-router/bundles";

/// Where a bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A volume that is mounted.
    Volume {
        /// The claim.
        claim: String,
        /// From the volume's root; absent while it is not known.
        path: Option<String>,
        /// Its digest.
        sha256: Option<String>,
    },
    /// Fetched before the proxy starts.
    Fetch {
        /// From where.
        uri: String,
        /// Its digest.
        sha256: Option<String>,
        /// A Secret whose keys are the store's environment.
        credentials: Option<String>,
    },
}

impl Source {
    /// What the snapshot says of it.
    #[must_use]
    pub fn model(&self) -> Option<data::Model> {
        match self {
            Self::Volume { claim, path, sha256 } => {
                let path = path.as_ref()?.trim_matches('/');
                let uri = if path.is_empty() { format!("{VOLUMES}/{claim}") } else { format!("{VOLUMES}/{claim}/{path}") };
                Some(data::Model { uri, sha256: sha256.clone() })
            }
            Self::Fetch { uri, sha256, .. } => {
                // The digest of a tar is checked where it is fetched; what lies in the folder then is no tar any more.
                let sha256 = sha256.clone().filter(|_| !is_tar(uri));
                Some(data::Model { uri: self.folder()?, sha256 })
            }
        }
    }

    /// The folder a bundle is fetched to: its name changes with the bundle, so that an old Pod never takes its bundle for a new one.
    #[must_use]
    pub fn folder(&self) -> Option<String> {
        let Self::Fetch { uri, sha256, .. } = self else { return None };
        let named = sha256.clone().unwrap_or_else(|| hex::encode(Sha256::digest(uri)));
        Some(format!("{FETCHED}/{}", &named[..named.len().min(16)]))
    }

    /// Its digest, where that is known.
    #[must_use]
    pub fn sha256(&self) -> Option<&String> {
        let (Self::Volume { sha256, .. } | Self::Fetch { sha256, .. }) = self;
        sha256.as_ref()
    }

    /// What must be mounted for a bundle that a status says is in force.
    #[must_use]
    pub fn of_status(bundle: &BundleStatus) -> Option<Self> {
        let sha256 = Some(bundle.digest.clone()).filter(|digest| !digest.is_empty());
        let Some(place) = bundle.uri.strip_prefix("pvc://") else {
            return Some(Self::Fetch { uri: bundle.uri.clone(), sha256, credentials: bundle.credentials.clone() });
        };
        let (claim, path) = place.split_once('/').unwrap_or((place, ""));
        (!claim.is_empty()).then(|| Self::Volume { claim: claim.to_owned(), path: Some(path.to_owned()), sha256 })
    }

    /// What must be mounted for a model that is in a snapshot already.
    #[must_use]
    pub fn of_model(model: &data::Model, status: Option<&BundleStatus>) -> Option<Self> {
        if model.uri.starts_with(FETCHED) {
            // From where, with which Secret, and of a tar the digest: the snapshot has none of these. Any other would be another Pod.
            return Self::of_status(status?).filter(|source| matches!(source, Self::Fetch { .. }));
        }
        let place = model.uri.strip_prefix(VOLUMES)?.strip_prefix('/')?;
        let (claim, path) = place.split_once('/').unwrap_or((place, ""));
        (!claim.is_empty()).then(|| Self::Volume { claim: claim.to_owned(), path: Some(path.to_owned()), sha256: model.sha256.clone() })
    }
}

fn is_tar(uri: &str) -> bool {
    [".tar", ".tar.gz", ".tgz"].iter().any(|ending| uri.split('?').next().unwrap_or_default().ends_with(ending))
}

/// The claims that a model may be on.
#[must_use]
pub fn claims(model: Option<&Model>, facts: Option<&ModelFacts>) -> BTreeSet<String> {
    let given = model.and_then(|model| Some(model.bundle.as_ref()?.persistent_volume_claim.as_ref()?.name.clone()));
    let published = facts.and_then(|facts| facts.bundle.as_ref()?.0.strip_prefix("pvc://")?.split('/').next());
    let expected = facts.and_then(|facts| facts.claim.clone());
    given.into_iter().chain(published.map(str::to_owned)).chain(expected).collect()
}

/// Where a spec's model comes from now; or reason and message where it comes from nowhere.
#[must_use]
pub fn resolve(model: Option<&Model>, references: &References) -> (Option<Source>, Option<(&'static str, String)>) {
    let Some(model) = model else { return (None, None) };
    let found = match (&model.router_model_ref, &model.bundle) {
        (Some(reference), _) => of_router_model(&reference.name, references),
        (None, Some(bundle)) => of_bundle(bundle, references),
        (None, None) => Err(("NoModel", api::rules::ONE_MODEL.to_owned())),
    };
    match found {
        Ok(source) => (Some(source), None),
        Err(problem) => (None, Some(problem)),
    }
}

fn of_router_model(name: &str, references: &References) -> Result<Source, (&'static str, String)> {
    let Some(facts) = &references.model else { return Err(("NoModel", format!("there is no RouterModel {name}"))) };
    let Some((uri, digest)) = &facts.bundle else {
        let why = facts.not_ready.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        return Err(("NotTrained", format!("RouterModel {name} has published no bundle yet{why}")));
    };
    let Some(place) = uri.strip_prefix("pvc://") else {
        return Ok(Source::Fetch { uri: uri.clone(), sha256: Some(digest.clone()), credentials: facts.credentials.clone() });
    };
    let (claim, path) = place.split_once('/').unwrap_or((place, ""));
    volume(claim, path, Some(digest.clone()), references)
}

fn of_bundle(bundle: &Bundle, references: &References) -> Result<Source, (&'static str, String)> {
    if let Some(place) = &bundle.persistent_volume_claim {
        return volume(&place.name, place.path.as_deref().unwrap_or_default(), bundle.sha256.clone(), references);
    }
    let uri = bundle.uri.clone().unwrap_or_default();
    let Some((scheme, _)) = uri.split_once("://") else {
        return Err((
            "FetchFailed",
            format!("{uri} is a path, and in a cluster there is no file of that name: give a uri or a persistentVolumeClaim"),
        ));
    };
    if !["http", "https", "s3", "gs", "az"].contains(&scheme) {
        return Err((
            "FetchFailed",
            format!("nothing fetches {scheme} in a cluster: give an http, https, s3, gs or az uri or a persistentVolumeClaim"),
        ));
    }
    let credentials = bundle.credentials.as_ref().map(|credentials| credentials.secret_ref.name.clone());
    if let Some(name) = credentials.as_ref().filter(|name| !references.secrets.contains_key(*name)) {
        return Err(("FetchFailed", format!("there is no Secret {name} with the store's credentials")));
    }
    Ok(Source::Fetch { uri, sha256: bundle.sha256.clone(), credentials })
}

fn volume(claim: &str, path: &str, sha256: Option<String>, references: &References) -> Result<Source, (&'static str, String)> {
    if !references.claims.contains(claim) {
        return Err(("FetchFailed", format!("there is no PersistentVolumeClaim {claim}")));
    }
    Ok(Source::Volume { claim: claim.to_owned(), path: Some(path.to_owned()), sha256 })
}

/// The volume a bundle will come on, so that Pods have it before: nothing restarts when it does.
#[must_use]
pub fn expected(model: Option<&Model>, references: &References) -> Option<Source> {
    model?.router_model_ref.as_ref()?;
    let claim = references.model.as_ref()?.claim.as_ref().filter(|claim| references.claims.contains(*claim))?;
    Some(Source::Volume { claim: claim.clone(), path: None, sha256: None })
}

/// The model on trial, where the Pods have its volume.
#[must_use]
pub fn shadow(facts: Option<&ModelFacts>, bundle: Option<&Source>) -> Option<data::Shadow> {
    let shadow = facts?.shadow.as_ref()?;
    let Some(Source::Volume { claim, .. }) = bundle else { return None };
    let source = Source::Volume { claim: shadow.claim.clone(), path: Some(shadow.path.clone()), sha256: Some(shadow.digest.clone()) };
    (*claim == shadow.claim).then(|| source.model()).flatten().map(|model| data::Shadow { model, percent: shadow.percent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::valid::ShadowFacts;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn check(model: serde_json::Value, facts: Option<ModelFacts>, expect: Result<Option<&str>, &str>) {
        let references = References { model: facts, claims: BTreeSet::from(["models".to_owned()]), ..References::default() };
        let model: Model = serde_json::from_value(model).unwrap();
        let (source, problem) = resolve(Some(&model), &references);
        let found = match &problem {
            Some((reason, _)) => Err(*reason),
            None => Ok(source.and_then(|source| source.model()).map(|model| model.uri)),
        };
        assert_eq!(found.as_ref().map(Option::as_deref).map_err(|reason| *reason), expect, "{problem:?}");
    }

    fn published(uri: &str) -> Option<ModelFacts> {
        Some(ModelFacts { bundle: Some((uri.to_owned(), DIGEST.to_owned())), claim: Some("models".to_owned()), ..ModelFacts::default() })
    }

    #[test]
    fn each_way_to_name_a_model_leads_somewhere_or_says_why_not() {
        let by_name = serde_json::json!({"routerModelRef": {"name": "chat"}});
        check(by_name.clone(), None, Err("NoModel"));
        check(by_name.clone(), Some(ModelFacts::default()), Err("NotTrained"));
        check(by_name.clone(), published("pvc://models/chat/ab/bundle"), Ok(Some("/var/lib/expert-router/volumes/models/chat/ab/bundle")));
        check(by_name.clone(), published("pvc://gone/chat/ab/bundle"), Err("FetchFailed"));
        check(by_name, published("s3://bucket/chat/ab/bundle"), Ok(Some("/var/lib/expert-router/bundles/0123456789abcdef")));
        let bundle = |bundle: serde_json::Value| serde_json::json!({"bundle": bundle});
        check(
            bundle(serde_json::json!({"persistentVolumeClaim": {"name": "models"}})),
            None,
            Ok(Some("/var/lib/expert-router/volumes/models")),
        );
        check(bundle(serde_json::json!({"uri": "bundles/chat"})), None, Err("FetchFailed"));
        check(bundle(serde_json::json!({"uri": "file:///a"})), None, Err("FetchFailed"));
        check(
            bundle(serde_json::json!({"uri": "https://a/b.tar", "credentials": {"secretRef": {"name": "store"}}})),
            None,
            Err("FetchFailed"),
        );
    }

    #[test]
    fn a_model_in_a_snapshot_says_what_must_be_mounted() {
        let source = Source::Volume { claim: "models".into(), path: Some("chat/ab".into()), sha256: Some(DIGEST.into()) };
        assert_eq!(Source::of_model(&source.model().unwrap(), None), Some(source));
        assert_eq!(Source::of_model(&data::Model { uri: "/elsewhere/chat".into(), sha256: None }, None), None);
        let root = Source::Volume { claim: "models".into(), path: Some(String::new()), sha256: None };
        assert_eq!(Source::of_model(&root.model().unwrap(), None), Some(root));
    }

    #[test]
    fn a_bundle_on_trial_is_in_shadow_where_pods_have_its_volume() {
        let on_trial =
            ShadowFacts { claim: "models".into(), path: ".training/chat/bundles/ab/bundle".into(), digest: DIGEST.into(), percent: 5 };
        let facts = ModelFacts { shadow: Some(on_trial), ..ModelFacts::default() };
        let mounted = |claim: &str| Source::Volume { claim: claim.into(), path: None, sha256: None };
        let found = shadow(Some(&facts), Some(&mounted("models"))).unwrap();
        assert_eq!(found.model.uri, "/var/lib/expert-router/volumes/models/.training/chat/bundles/ab/bundle");
        assert_eq!((found.model.sha256.as_deref(), found.percent), (Some(DIGEST), 5));
        assert_eq!(shadow(Some(&facts), Some(&mounted("others"))), None);
        assert_eq!(shadow(Some(&facts), None), None);
        assert_eq!(shadow(Some(&ModelFacts::default()), Some(&mounted("models"))), None);
    }

    #[test]
    fn another_bundle_is_another_folder() {
        let fetch =
            |uri: &str, sha256: Option<&str>| Source::Fetch { uri: uri.into(), sha256: sha256.map(str::to_owned), credentials: None };
        assert_ne!(fetch("https://a", None).folder(), fetch("https://b", None).folder());
        assert_ne!(fetch("https://a", Some(DIGEST)).folder(), fetch("https://a", None).folder());
        // Of a tar the digest is the fetcher's to check.
        assert_eq!(fetch("https://a/b.tgz?x=1", Some(DIGEST)).model().unwrap().sha256, None);
        assert!(fetch("https://a/b", Some(DIGEST)).model().unwrap().sha256.is_some());
    }
}
