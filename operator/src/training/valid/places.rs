//! Where answers and bundles lie: on which claim, in which folder, in which store.

use api::{RouterModelSpec, model::Workspace};

use super::{Problem, problem};
use crate::names;

/// A folder on a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The claim.
    pub claim: String,
    /// From the volume's root, without slashes at its ends.
    pub folder: String,
}

/// Where bundles in force lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// On a volume.
    Claim(Place),
    /// In an object store.
    Store {
        /// Of the model's own folder.
        uri: String,
    },
}

impl Destination {
    /// The address of a bundle there.
    #[must_use]
    pub fn bundle_uri(&self, digest: &str) -> String {
        match self {
            Self::Claim(place) => format!("pvc://{}/{}/{digest}/bundle", place.claim, place.folder),
            Self::Store { uri } => format!("{uri}/{digest}/bundle"),
        }
    }
}

/// Where bundles in force go, where the training works, and the claim for that where it is to be our own.
pub(super) fn places(spec: &RouterModelSpec, name: &str) -> Result<(Destination, Place, Option<Workspace>), Problem> {
    let own = || Place { claim: names::child(name, "workspace"), folder: name.to_owned() };
    if let Some(volume) = &spec.output.persistent_volume_claim {
        let base = folder(volume.path.as_deref())?;
        let place = |parts: &[&str]| {
            let folder = [base.as_str()].iter().chain(parts).filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
            Place { claim: volume.name.clone(), folder }
        };
        let output = Destination::Claim(place(&[name]));
        return Ok(match &spec.job.workspace {
            Some(workspace) => (output, own(), Some(workspace.clone())),
            None => (output, place(&[".training", name]), None),
        });
    }
    match &spec.output.uri {
        Some(uri) if ["s3://", "gs://", "az://"].iter().any(|scheme| uri.starts_with(scheme)) => {
            let uri = format!("{}/{name}", uri.trim_end_matches('/'));
            Ok((Destination::Store { uri }, own(), Some(spec.job.workspace.clone().unwrap_or_default())))
        }
        Some(_) => Err(problem("Invalid", "spec.output.uri: expected s3://, gs:// or az://")),
        None => Err(problem("Invalid", "spec.output.directory is for machines outside of clusters: use persistentVolumeClaim or uri")),
    }
}

/// The share of requests that a bundle on trial is to score, where it is to score any.
#[must_use]
pub fn shadow_percent(spec: &RouterModelSpec) -> Option<u8> {
    spec.promotion.shadow_percent.filter(|percent| *percent > 0)
}

/// Where a bundle on trial lies that proxies can read: on the volume of the output, which they have anyway.
#[must_use]
pub fn shadow_place(spec: &RouterModelSpec, name: &str, digest: &str) -> Option<Place> {
    let output = spec.output.persistent_volume_claim.as_ref()?;
    let (_, workspace, _) = places(spec, name).ok()?;
    let folder = format!("{}/bundles/{digest}/bundle", workspace.folder);
    (workspace.claim == output.name).then_some(Place { claim: workspace.claim, folder })
}

/// A path within a volume, that does not lead out of it.
pub(super) fn folder(path: Option<&str>) -> Result<String, Problem> {
    let path = path.unwrap_or_default().trim_matches('/');
    if path.split('/').any(|part| part == ".." || part == "." || part.is_empty() && !path.is_empty()) || path.contains('\0') {
        return Err(problem("Invalid", format!("{path:?}: expected a path within the volume, without . and ..")));
    }
    Ok(path.to_owned())
}
