//! The same YAML on a laptop as in a cluster: a manifest file to a snapshot.
//!
//! In: text. Out: a snapshot, or the first thing wrong with the field it is in. Types, limits and rules are those the API server applies.
//! Other objects in the file are left alone, so that one file can be applied to a cluster and served from a laptop.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    ExpertRouter, ExpertRouterSpec, References, RouterModel, RouterModelSpec,
    references::SecretKeyRef,
    router::Tracing,
    rules::{check_model, check_router},
    schema, snapshot,
};

/// A manifest is written by hand; more than this is not one.
const MOST_BYTES: usize = 4 << 20;
const GROUP: &str = "expertrouter.dev/";
const VERSION: &str = "expertrouter.dev/v1alpha1";

/// Where a standalone process finds what a cluster would resolve.
#[derive(Debug, Clone, Default)]
pub struct Standalone {
    /// Relative bundle paths and files start here: the manifest's folder.
    pub base_directory: PathBuf,
    /// `credentials.secretRef: {name, key}` is the file `<secrets>/<name>/<key>`, as a mounted Secret would be.
    pub secrets_directory: Option<PathBuf>,
    /// Where experts are, by name: needed for those with a `deployment`, which nothing runs here; goes before `service` and `url`.
    pub expert_urls: BTreeMap<String, String>,
}

/// What is wrong with a manifest. The message names the field and what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// As a path into the object: `spec.experts[2].pricing.inputPerMillion`; empty where the YAML itself is broken.
    pub field: String,
    /// What is wrong, and what is expected.
    pub problem: String,
}

impl std::error::Error for ManifestError {}

impl std::fmt::Display for ManifestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.problem)
    }
}

/// The objects of ours in a file.
#[derive(Debug, Clone)]
pub struct Objects {
    /// All of them, in the file's order.
    pub routers: Vec<ExpertRouter>,
    /// All of them, in the file's order.
    pub models: Vec<RouterModel>,
}

/// Reads a manifest (one `ExpertRouter`, and any `RouterModel`s, in one YAML file of several documents) and makes the snapshot.
///
/// # Errors
/// The first thing wrong, by field.
pub fn read_manifest(yaml: &str, standalone: &Standalone) -> Result<routing::Snapshot, ManifestError> {
    let objects = read_objects(yaml)?;
    let [router] = objects.routers.as_slice() else {
        let names: Vec<&str> = objects.routers.iter().filter_map(|router| router.metadata.name.as_deref()).collect();
        return fail("", format!("expected one {VERSION} ExpertRouter, found {} ({})", names.len(), names.join(", ")).replace(" ()", ""));
    };
    snapshot(router, &standalone.references(router, &objects.models)?)
}

/// Where the traces of a manifest's router go. What is wrong with a manifest is for [`read_manifest`] to say.
#[must_use]
pub fn tracing(yaml: &str) -> Option<Tracing> {
    read_objects(yaml).ok()?.routers.into_iter().next()?.spec.observability?.tracing
}

/// Reads all objects of ours in a file, strictly: unknown fields, limits and rules are checked as a cluster would.
///
/// # Errors
/// The first thing wrong, by field; in other objects than the first `ExpertRouter` the field begins with the object.
pub fn read_objects(yaml: &str) -> Result<Objects, ManifestError> {
    if yaml.len() > MOST_BYTES {
        return fail("", format!("expected at most {MOST_BYTES} bytes of YAML, got {}", yaml.len()));
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).map_err(|error| yaml_error(&error))?;
    let [router_schema, model_schema] = schema::of_specs();
    let mut objects = Objects { routers: Vec::new(), models: Vec::new() };
    for document in documents {
        match (text(&document, "apiVersion"), text(&document, "kind")) {
            (Some(VERSION), Some("ExpertRouter")) => {
                let (metadata, spec): (_, ExpertRouterSpec) = read_object(&document, router_schema)?;
                check_router(&spec)?;
                objects.routers.push(ExpertRouter { metadata, spec, status: None });
            }
            (Some(VERSION), Some("RouterModel")) => objects.models.push(read_model(&document, model_schema)?),
            (Some(version), kind) if version.starts_with(GROUP) => {
                let kind = kind.unwrap_or_default();
                return fail("kind", format!("expected ExpertRouter or RouterModel of {VERSION}, got {kind:?} of {version}"));
            }
            (Some(_), Some(_)) => {}
            (None, _) => return fail("apiVersion", format!("expected {VERSION}, but there is none")),
            (_, None) => return fail("kind", "expected ExpertRouter or RouterModel, but there is none"),
        }
    }
    Ok(objects)
}

fn fail<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, ManifestError> {
    Err(ManifestError { field: field.into(), problem: problem.into() })
}

fn text<'a>(document: &'a Value, field: &str) -> Option<&'a str> {
    document.get(field).and_then(Value::as_str)
}

fn yaml_error(error: &serde_saphyr::Error) -> ManifestError {
    ManifestError { field: String::new(), problem: format!("not YAML: {}", error.without_snippet()) }
}

fn read_model(document: &Value, schema: &Value) -> Result<RouterModel, ManifestError> {
    let read = || {
        let (metadata, spec): (_, RouterModelSpec) = read_object(document, schema)?;
        check_model(&spec)?;
        Ok(RouterModel { metadata, spec, status: None })
    };
    let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    read().map_err(|error: ManifestError| ManifestError { field: format!("RouterModel {name}: {}", error.field), ..error })
}

/// Metadata and spec of one object.
fn read_object<Spec: DeserializeOwned>(document: &Value, schema: &Value) -> Result<(ObjectMeta, Spec), ManifestError> {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    if let Some(field) = document.as_object().and_then(|fields| fields.keys().find(|field| !known.contains(&field.as_str()))) {
        return fail(field, format!("unknown field, expected one of {}", known.join(", ")));
    }
    let metadata: ObjectMeta = typed(document, "metadata")?;
    if metadata.name.as_ref().is_none_or(String::is_empty) {
        return fail("metadata.name", "expected a name");
    }
    let spec = typed(document, "spec")?;
    schema::check(schema, &document["spec"], "spec")?;
    Ok((metadata, spec))
}

fn typed<T: DeserializeOwned>(document: &Value, field: &str) -> Result<T, ManifestError> {
    let Some(value) = document.get(field).filter(|value| !value.is_null()) else {
        return fail(field, "expected an object, but there is none");
    };
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        // The path of the object itself is `.`.
        let separator = if path == "." || path.starts_with('[') { "" } else { "." };
        let field = format!("{field}{separator}{}", path.trim_start_matches('.'));
        ManifestError { field, problem: error.into_inner().to_string() }
    })
}

impl Standalone {
    /// What a router's names resolve to on this machine.
    fn references(&self, router: &ExpertRouter, models: &[RouterModel]) -> Result<References, ManifestError> {
        let spec = &router.spec;
        if let Some(name) = self.expert_urls.keys().find(|name| !spec.experts.iter().any(|expert| expert.name == **name)) {
            return fail("spec.experts", format!("there is no expert {name:?}, for which a URL was given"));
        }
        let credentials = spec.experts.iter().filter_map(|expert| expert.credentials.as_ref().map(|credentials| &credentials.secret_ref));
        let authorities = spec.experts.iter().filter_map(|expert| expert.tls.as_ref().map(|tls| &tls.ca_secret_ref));
        let keys = credentials.chain(authorities).chain(spec.client_keys.as_ref().map(|keys| &keys.secret_ref));
        let file = |folder: &Path, key: &SecretKeyRef| (key.clone(), folder.join(&key.name).join(&key.key));
        Ok(References {
            expert_urls: self.expert_urls.clone(),
            namespace: router.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            secret_files: self.secrets_directory.iter().flat_map(|folder| keys.clone().map(|key| file(folder, key))).collect(),
            model: self.model(spec, models)?,
            // Here a bundle is in force as soon as it is trained; `expert-router --shadow-bundle` names one to try.
            shadow: None,
            spent: BTreeMap::new(),
        })
    }

    fn model(&self, spec: &ExpertRouterSpec, models: &[RouterModel]) -> Result<Option<routing::snapshot::Model>, ManifestError> {
        let Some(model) = &spec.model else { return Ok(None) };
        if let Some(reference) = &model.router_model_ref {
            let Some(model) = models.iter().find(|model| model.metadata.name.as_ref() == Some(&reference.name)) else {
                return fail("spec.model.routerModelRef.name", format!("there is no RouterModel {:?} in this file", reference.name));
            };
            // What is published elsewhere is not here: the fallback expert answers, as it does before anything is published.
            let Some(directory) = &model.spec.output.directory else { return Ok(None) };
            return Ok(Some(routing::snapshot::Model { uri: self.path(&format!("{directory}/bundle")), sha256: None }));
        }
        let Some(bundle) = &model.bundle else { return Ok(None) };
        let Some(uri) = &bundle.uri else {
            return fail("spec.model.bundle.persistentVolumeClaim", "expected a uri: outside of a cluster there are no volumes");
        };
        let path = uri.strip_prefix("file://").unwrap_or(uri);
        if path.contains("://") {
            return fail("spec.model.bundle.uri", format!("expected a path: outside of a cluster nothing fetches {uri}"));
        }
        Ok(Some(routing::snapshot::Model { uri: self.path(path), sha256: bundle.sha256.clone() }))
    }

    /// A path as this process can open it, without needless dots.
    fn path(&self, path: &str) -> String {
        self.base_directory.join(path).components().collect::<PathBuf>().to_string_lossy().into_owned()
    }
}
