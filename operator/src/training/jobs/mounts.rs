//! What a step's container finds where, and what it is told of it.

use api::references::SecretRef;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource, ProjectedVolumeSource, SecretProjection,
    SecretVolumeSource, Volume, VolumeMount, VolumeProjection,
};

use super::{FINGERPRINTS, MANIFEST, Task, config_map_name, parts, word};
use crate::training::valid::{Destination, Queries, ValidModel, secret_keys};

const CONFIG: &str = "/etc/expert-router";
const QUERIES: &str = "/queries";
const SECRETS: &str = "/var/run/secrets/expertrouter.dev/experts";
const STORE_SECRETS: &str = "/var/run/secrets/expertrouter.dev/store";
const WORKSPACE: &str = "/workspace";
const OUTPUT: &str = "/output";
const TEMPORARY: &str = "/tmp";

/// What a container finds where, and what it is told.
pub(super) struct Mounted {
    pub(super) volumes: Vec<Volume>,
    pub(super) mounts: Vec<VolumeMount>,
    pub(super) arguments: Vec<String>,
}

impl Mounted {
    pub(super) fn of(model: &ValidModel, task: &Task<'_>) -> Self {
        let mut mounted = Self { volumes: Vec::new(), mounts: Vec::new(), arguments: Vec::new() };
        let workspace = format!("{WORKSPACE}/{}", model.workspace.folder);
        mounted.tell(["job", word(task.step()), "--manifest", &format!("{CONFIG}/{MANIFEST}"), "--workspace", &workspace]);
        mounted.config(model);
        mounted.claim("workspace", &model.workspace.claim, WORKSPACE, false);
        match task {
            Task::Prepare => mounted.prepare(model),
            Task::Fit { parts } => mounted.tell(["--parts", &parts.to_string()]),
            Task::Evaluate { digest, in_force, parts } => {
                mounted.tell(["--parts", &parts.to_string(), "--digest", digest]);
                if let Some(in_force) = in_force.filter(|in_force| in_force != digest) {
                    let output = mounted.output(model, true);
                    mounted.tell(["--in-force", in_force, "--output", &output]);
                }
            }
            Task::Publish { digest } => {
                let output = mounted.output(model, false);
                mounted.tell(["--digest", digest, "--output", &output]);
            }
        }
        mounted.mount("temporary", TEMPORARY, false, |volume| volume.empty_dir = Some(EmptyDirVolumeSource::default()));
        mounted
    }

    fn tell<'a>(&mut self, arguments: impl IntoIterator<Item = &'a str>) {
        self.arguments.extend(arguments.into_iter().map(str::to_owned));
    }

    fn prepare(&mut self, model: &ValidModel) {
        let parts = parts(model).to_string();
        self.tell(["--parts", &parts, "--fingerprints", &format!("{CONFIG}/{FINGERPRINTS}")]);
        // As arguments, so that the Job is another when they change.
        let job = &model.spec.job;
        if let Some(most) = &job.max_cost_usd {
            self.tell(["--max-cost-usd", most.as_str()]);
        }
        if let Some(concurrency) = job.concurrency {
            self.tell(["--concurrency", &concurrency.to_string()]);
        }
        match &model.queries {
            Queries::ConfigMap { key, .. } => {
                self.mount("queries", QUERIES, true, |volume| {
                    let items = Some(vec![KeyToPath { key: key.key.clone(), path: key.key.clone(), mode: None }]);
                    volume.config_map = Some(ConfigMapVolumeSource { name: key.name.clone(), items, ..ConfigMapVolumeSource::default() });
                });
                self.tell(["--queries", &format!("{QUERIES}/{}", key.key)]);
            }
            Queries::Claim(claim) => {
                self.claim("queries", &claim.name, QUERIES, true);
                self.tell(["--queries", &format!("{QUERIES}/{}", claim.path.as_deref().unwrap_or_default())]);
            }
            Queries::Uri(uri) => {
                self.tell(["--queries", uri]);
                self.store_secrets(model.spec.output.credentials_secret_ref.as_ref());
            }
        }
        self.secrets(model);
    }

    /// Each expert's keys, as files by Secret and key.
    fn secrets(&mut self, model: &ValidModel) {
        let keys = secret_keys(model.experts.iter().map(|resolved| &resolved.expert));
        if keys.is_empty() {
            return;
        }
        let sources = keys.iter().map(|key| VolumeProjection {
            secret: Some(SecretProjection {
                name: key.name.clone(),
                items: Some(vec![KeyToPath { key: key.key.clone(), path: format!("{}/{}", key.name, key.key), mode: None }]),
                optional: None,
            }),
            ..VolumeProjection::default()
        });
        let sources = Some(sources.collect());
        self.mount("secrets", SECRETS, true, |volume| {
            volume.projected = Some(ProjectedVolumeSource { sources, default_mode: Some(0o440) });
        });
        self.tell(["--secrets", SECRETS]);
    }

    fn store_secrets(&mut self, secret: Option<&SecretRef>) {
        let Some(secret) = secret else { return };
        self.mount("store-secrets", STORE_SECRETS, true, |volume| {
            let secret_name = Some(secret.name.clone());
            volume.secret = Some(SecretVolumeSource { secret_name, default_mode: Some(0o440), ..SecretVolumeSource::default() });
        });
        self.tell(["--credentials", STORE_SECRETS]);
    }

    /// Where published bundles are for this Pod.
    fn output(&mut self, model: &ValidModel, read_only: bool) -> String {
        match &model.output {
            Destination::Claim(place) => {
                self.claim("output", &place.claim, OUTPUT, read_only);
                format!("{OUTPUT}/{}", place.folder)
            }
            Destination::Store { uri } => {
                self.store_secrets(model.spec.output.credentials_secret_ref.as_ref());
                uri.clone()
            }
        }
    }

    fn config(&mut self, model: &ValidModel) {
        self.mount("config", CONFIG, true, |volume| {
            volume.config_map = Some(ConfigMapVolumeSource { name: config_map_name(model), ..ConfigMapVolumeSource::default() });
        });
    }

    /// A claim is one volume of the Pod, however often it is mounted; read-only is the mount's.
    fn claim(&mut self, name: &str, claim: &str, path: &str, read_only: bool) {
        let of_claim = |volume: &&Volume| volume.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == claim);
        if let Some(volume) = self.volumes.iter().find(of_claim) {
            let name = volume.name.clone();
            self.mounts.push(mount_of(&name, path, read_only));
            return;
        }
        self.mount(name, path, read_only, |volume| {
            let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
            volume.persistent_volume_claim = Some(source);
        });
    }

    fn mount(&mut self, name: &str, path: &str, read_only: bool, source: impl FnOnce(&mut Volume)) {
        let mut volume = Volume { name: name.to_owned(), ..Volume::default() };
        source(&mut volume);
        self.volumes.push(volume);
        self.mounts.push(mount_of(name, path, read_only));
    }
}

fn mount_of(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), read_only: read_only.then_some(true), ..VolumeMount::default() }
}
