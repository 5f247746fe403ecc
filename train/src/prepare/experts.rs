//! Which experts are asked: those of the manifest, where it says or elsewhere.

use std::path::Path;

use anyhow::{Context, Result, bail};
use routing::snapshot::Expert;

use super::PrepareOptions;

/// The experts of the manifest's one router.
///
/// # Errors
/// The manifest is wrong, by file and field.
pub fn read_experts(manifest: &Path, options: &PrepareOptions) -> Result<Vec<Expert>> {
    let yaml = std::fs::read_to_string(manifest).with_context(|| format!("reading {}", manifest.display()))?;
    experts_of(&yaml, manifest.parent().unwrap_or(Path::new("")), options).with_context(|| manifest.display().to_string())
}

/// The experts of a manifest's text; relative paths in it start at `base`.
///
/// # Errors
/// The manifest is wrong, by field.
pub fn experts_of(yaml: &str, base: &Path, options: &PrepareOptions) -> Result<Vec<Expert>> {
    let objects = api::read_objects(yaml)?;
    let names = objects.routers.iter().flat_map(|router| &router.spec.experts).map(|expert| expert.name.clone()).collect::<Vec<_>>();
    let mut expert_urls = std::collections::BTreeMap::new();
    for given in &options.expert_url {
        match given.split_once('=').filter(|(name, _)| !name.contains("://")) {
            Some((name, url)) => drop(expert_urls.insert(name.to_owned(), url.to_owned())),
            None => names.iter().for_each(|name| drop(expert_urls.insert(name.clone(), given.clone()))),
        }
    }
    let standalone = api::Standalone { base_directory: base.into(), secrets_directory: options.secrets.clone(), expert_urls };
    Ok(api::read_manifest(yaml, &standalone)?.experts)
}

/// Those of these names; without names all.
pub(super) fn select(experts: &[Expert], names: &[String]) -> Result<Vec<Expert>> {
    if let Some(name) = names.iter().find(|name| !experts.iter().any(|expert| expert.name == **name)) {
        let known: Vec<&str> = experts.iter().map(|expert| expert.name.as_str()).collect();
        bail!("--experts: there is no expert {name:?}; there are {}", known.join(", "));
    }
    Ok(experts.iter().filter(|expert| names.is_empty() || names.contains(&expert.name)).cloned().collect())
}
