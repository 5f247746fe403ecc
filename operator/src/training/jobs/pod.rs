//! A step's Pod: what it may, what it asks for, and where it runs.

use std::collections::BTreeMap;

use api::{router::PodOverrides, status::Step};
use k8s_openapi::{
    api::core::v1::{
        Affinity, Container, LocalObjectReference, PodAffinity, PodAffinityTerm, PodSpec, PodTemplateSpec, ResourceRequirements,
        WeightedPodAffinityTerm,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
    },
};

use super::{Task, labels, mounts::Mounted};
use crate::{
    config::Images,
    names,
    router::plan::pod::{container_security, pod_security},
    training::valid::ValidModel,
};

pub(super) fn template(model: &ValidModel, images: &Images, task: &Task<'_>) -> PodTemplateSpec {
    let step = task.step();
    let overrides = model.spec.job.pod_overrides.clone().unwrap_or_default();
    let mut labels_of_pod = overrides.labels.clone();
    labels_of_pod.extend(labels(model, step));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels_of_pod),
            annotations: some(overrides.annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(model, images, task, overrides)),
    }
}

fn pod(model: &ValidModel, images: &Images, task: &Task<'_>, overrides: PodOverrides) -> PodSpec {
    let Mounted { volumes, mounts, arguments } = Mounted::of(model, task);
    let PodOverrides {
        labels: _,
        annotations: _,
        node_selector,
        tolerations,
        image_pull_secrets,
        service_account_name,
        priority_class_name,
        runtime_class_name,
    } = overrides;
    let pull = images.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).chain(image_pull_secrets);
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        service_account_name,
        node_selector: some(node_selector),
        tolerations: some(tolerations),
        image_pull_secrets: some(pull.collect()),
        priority_class_name,
        runtime_class_name,
        affinity: Some(beside_each_other(model)),
        security_context: Some(pod_security()),
        containers: vec![Container {
            name: "train".to_owned(),
            image: Some(images.train.clone()),
            image_pull_policy: images.pull_policy.clone(),
            args: Some(arguments),
            resources: Some(resources(model, task.step())),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            security_context: Some(container_security()),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// A volume that one node has at a time is where the others are.
fn beside_each_other(model: &ValidModel) -> Affinity {
    let labels = BTreeMap::from([(names::MODEL.to_owned(), names::label_value(&model.owner.key.name))]);
    Affinity {
        pod_affinity: Some(PodAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    label_selector: Some(LabelSelector { match_labels: Some(labels), match_expressions: None }),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// What a step asks for where the spec does not say.
fn resources(model: &ValidModel, step: Step) -> ResourceRequirements {
    if let Some(resources) = &model.spec.job.resources {
        return resources.clone();
    }
    let (cpu, memory) = match step {
        Step::Fit => ("1", "2Gi"),
        Step::Prepare | Step::Evaluate | Step::Publish => ("250m", "1Gi"),
    };
    let requests = [("cpu", cpu), ("memory", memory)].map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
    ResourceRequirements { requests: Some(BTreeMap::from(requests)), ..ResourceRequirements::default() }
}

/// Server-side apply owns what is given: what is empty is not given.
fn some<T: IntoIterator>(values: T) -> Option<T>
where
    for<'a> &'a T: IntoIterator,
{
    let is_filled = (&values).into_iter().next().is_some();
    is_filled.then_some(values)
}
