//! The objects of a training: one Job a step, the ConfigMap it reads, the claim it works on. Pure.
//!
//! Jobs have no API token and no rights, run as nobody on a read-only root, read secrets from files, and say what they found in their
//! termination message. They are written once: a Job that should be another is another Job.

mod mounts;
mod pod;

use std::collections::BTreeMap;

use api::{
    ExpertRouter, ExpertRouterSpec, RouterModel,
    model::AccessMode,
    router::{Expert, Policy},
    status::Step,
};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule},
        core::v1::{ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use serde_json::{Map, json};

use super::{
    inputs::digest_of,
    valid::{Queries, ValidModel},
};
use crate::{config::Images, names};

/// A finished Job is kept this long for people who want its log.
const KEPT_SECONDS: i32 = 24 * 3600;
/// Pods that may fail before their Job has.
const BACKOFF_LIMIT: i32 = 3;

/// On Jobs and their Pods: which step.
pub const STEP: &str = "expertrouter.dev/step";

const MANIFEST: &str = "manifest.yaml";
const FINGERPRINTS: &str = "fingerprints.json";

/// As in names, labels and commands.
#[must_use]
pub fn word(step: Step) -> &'static str {
    match step {
        Step::Prepare => "prepare",
        Step::Fit => "fit",
        Step::Evaluate => "evaluate",
        Step::Publish => "publish",
    }
}

/// How long a step may take before its Job has failed: asking waits for others, fine-tuning an encoder for few cores.
fn deadline_seconds(step: Step) -> i64 {
    match step {
        Step::Prepare => 72 * 3600,
        Step::Fit => 24 * 3600,
        Step::Evaluate => 4 * 3600,
        Step::Publish => 3600,
    }
}

/// What a step's Job is told beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task<'a> {
    /// Ask.
    Prepare,
    /// Train.
    Fit {
        /// Parts the answers lie in.
        parts: u32,
    },
    /// Compare.
    Evaluate {
        /// The bundle on trial.
        digest: &'a str,
        /// The bundle in force, where it is another and lies at the output.
        in_force: Option<&'a str>,
        /// Parts the answers lie in.
        parts: u32,
    },
    /// Put in its place.
    Publish {
        /// The bundle.
        digest: &'a str,
    },
}

impl Task<'_> {
    /// Which step it is.
    #[must_use]
    pub fn step(&self) -> Step {
        match self {
            Self::Prepare => Step::Prepare,
            Self::Fit { .. } => Step::Fit,
            Self::Evaluate { .. } => Step::Evaluate,
            Self::Publish { .. } => Step::Publish,
        }
    }
}

/// What a step's Job is, its name aside.
#[must_use]
pub fn job_spec(model: &ValidModel, images: &Images, task: &Task<'_>) -> JobSpec {
    let step = task.step();
    let parts = (step == Step::Prepare).then(|| parts(model));
    JobSpec {
        completion_mode: parts.map(|_| "Indexed".to_owned()),
        completions: Some(parts.unwrap_or(1)),
        parallelism: Some(parts.unwrap_or(1)),
        backoff_limit: Some(BACKOFF_LIMIT.saturating_add(parts.map_or(0, |parts| parts - 1))),
        active_deadline_seconds: Some(deadline_seconds(step)),
        ttl_seconds_after_finished: Some(KEPT_SECONDS),
        // A Pod that had to leave its node did nothing wrong.
        pod_failure_policy: Some(PodFailurePolicy {
            rules: vec![PodFailurePolicyRule {
                action: "Ignore".to_owned(),
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".to_owned(),
                    status: Some("True".to_owned()),
                }]),
                ..PodFailurePolicyRule::default()
            }],
        }),
        template: pod::template(model, images, task),
        ..JobSpec::default()
    }
}

/// A step's Job.
#[must_use]
pub fn job(model: &ValidModel, step: Step, name: &str, spec: JobSpec) -> Job {
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels(model, step)), ..ObjectMeta::default() };
    Job { metadata, spec: Some(spec), status: None }
}

/// Parts that the queries are asked in.
#[must_use]
pub fn parts(model: &ValidModel) -> i32 {
    let asked = i32::from(model.spec.job.parallelism.unwrap_or(1)).max(1);
    // A part without a query is nothing to do.
    match &model.queries {
        Queries::ConfigMap { count, .. } => asked.min(i32::try_from(*count).unwrap_or(i32::MAX)),
        Queries::Claim(_) | Queries::Uri(_) => asked,
    }
}

/// What the ConfigMap is called.
#[must_use]
pub fn config_map_name(model: &ValidModel) -> String {
    names::child(&model.owner.key.name, "training")
}

/// What Jobs read: the experts by URL, and the model as it is.
#[must_use]
pub fn config_map(model: &ValidModel) -> ConfigMap {
    let experts: Vec<Expert> = model.experts.iter().map(|resolved| resolved.expert.clone()).collect();
    let spec = ExpertRouterSpec {
        experts,
        model: None,
        policy: Policy::default(),
        session: None,
        budgets: Vec::new(),
        client_keys: None,
        gateway: None,
        sidecar: None,
        observability: None,
    };
    let mut router = ExpertRouter::new(&model.router_name, spec);
    let mut trained = RouterModel::new(&model.owner.key.name, model.spec.clone());
    router.metadata.namespace = Some(model.owner.key.namespace.clone());
    trained.metadata.namespace = Some(model.owner.key.namespace.clone());
    let pretty = |object: serde_json::Result<String>| object.expect("our objects have string keys only");
    // JSON is YAML.
    let manifest = format!("{}\n---\n{}\n", pretty(serde_json::to_string_pretty(&router)), pretty(serde_json::to_string_pretty(&trained)));
    let fingerprints: Map<_, _> = model.experts.iter().map(|it| (it.expert.name.clone(), json!(it.fingerprint))).collect();
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(config_map_name(model)),
            labels: Some(names::labels(&model.owner.key, "job")),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([
            (MANIFEST.to_owned(), manifest),
            (FINGERPRINTS.to_owned(), format!("{}\n", serde_json::Value::Object(fingerprints))),
        ])),
        ..ConfigMap::default()
    }
}

/// The claim for answers and bundles on trial, where it is to be our own.
#[must_use]
pub fn claim(model: &ValidModel) -> Option<PersistentVolumeClaim> {
    let workspace = model.own_claim.as_ref()?;
    let mode = match workspace.access_mode {
        None | Some(AccessMode::ReadWriteOnce) => "ReadWriteOnce",
        Some(AccessMode::ReadWriteMany) => "ReadWriteMany",
    };
    let storage = Quantity(workspace.storage.clone().unwrap_or_else(|| "10Gi".to_owned()));
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(model.workspace.claim.clone()),
            labels: Some(names::labels(&model.owner.key, "job")),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![mode.to_owned()]),
            storage_class_name: workspace.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage)])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}

/// Names a Job as it is: its digest changes with anything in it, and with the Secrets it reads.
#[must_use]
pub fn template_digest(model: &ValidModel, spec: &JobSpec) -> String {
    digest_of(&json!([spec, model.secret_versions]))
}

fn labels(model: &ValidModel, step: Step) -> BTreeMap<String, String> {
    let mut labels = names::labels(&model.owner.key, "job");
    labels.insert(STEP.to_owned(), word(step).to_owned());
    labels
}
