//! What is known of the cluster: of each object that was seen the few facts that decisions need, a few hundred bytes instead of the
//! object. Filled by `watch`; read by every step that asks what is there. No I/O.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::{
    api::batch::v1::JobStatus,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};
use sha2::{Digest, Sha256};

use crate::{
    names,
    owner::{Owner, controller_of},
};

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Children: experts' and gateways' pods.
    Deployment,
    /// Children, and Services that experts name. All of them.
    Service,
    /// Children.
    HorizontalPodAutoscaler,
    /// Children.
    PodDisruptionBudget,
    /// Children: snapshots and what was spent. With their content.
    ConfigMap,
    /// Children.
    ServiceAccount,
    /// Children.
    NetworkPolicy,
    /// Children, where the cluster has the Gateway API.
    HttpRoute,
    /// Children, where the cluster has Prometheus' operator.
    PodMonitor,
    /// Children of RouterModels.
    Job,
    /// Named by specs; all of them, without content.
    Secret,
    /// Named by specs; all of them, without content.
    AnyConfigMap,
    /// Named by specs; all of them.
    PersistentVolumeClaim,
    /// Where Services lead. By `<service>/<slice>`.
    EndpointSlice,
    /// Pods that carry the data plane: gateways' and injected ones.
    Pod,
}

/// Namespace and name.
pub type ObjectKey = (String, String);

/// What is kept of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Tells it from a later one of the same name.
    pub uid: String,
    /// Changes with every write.
    pub resource_version: String,
    /// Changes with its spec, where its kind counts that.
    pub generation: Option<i64>,
    /// The object of ours that controls it.
    pub owner: Option<Owner>,
    /// The digest of what we applied last, as the object says.
    pub applied: Option<String>,
    /// A digest of the fields that are ours by server-side apply. Somebody who changes one of them takes it from us, so this changes too.
    pub fields: Option<u64>,
    /// The number of its Pods is among these fields.
    pub scales: bool,
    /// Somebody else wrote something no earlier than we did: whether it was ours cannot be told from this alone.
    pub touched: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// What else matters of its kind.
    pub detail: Detail,
}

/// What else matters, by kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Detail {
    /// Nothing.
    #[default]
    None,
    /// Of a Deployment.
    Deployment(DeploymentFacts),
    /// Of a Job: its whole status.
    Job(Box<JobStatus>),
    /// Of a ConfigMap of ours: its content.
    ConfigMap(Arc<BTreeMap<String, String>>),
    /// Of a Service.
    Service(ServiceFacts),
    /// Of an EndpointSlice: endpoints that are ready.
    Endpoints(usize),
    /// Of a Pod of the data plane.
    Pod(PodFacts),
}

/// How a Deployment is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeploymentFacts {
    /// Pods asked for.
    pub replicas: i32,
    /// Pods that can take requests.
    pub available: i32,
    /// Pods of the newest template.
    pub updated: i32,
    /// Whether its status speaks of its newest spec.
    pub current: bool,
    /// Why it does not get on, as the Deployment's own conditions say.
    pub trouble: Option<String>,
}

/// Where a Service leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceFacts {
    /// Its ports.
    pub ports: Vec<i32>,
    /// Outside of the cluster: there are no endpoints to count.
    pub external: bool,
}

/// A Pod that carries the data plane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFacts {
    /// The router's label value.
    pub router: String,
    /// `gateway` or `sidecar`.
    pub role: String,
    /// Where its admin port is, once it has an address.
    pub admin: Option<String>,
    /// The snapshot's revision in its annotation.
    pub revision: Option<String>,
    /// The Secrets' revision in its annotation.
    pub secrets_revision: Option<String>,
    /// The proxy's container is ready.
    pub ready: bool,
    /// It will not run again.
    pub finished: bool,
    /// Why an init container failed: the first line of its termination message.
    pub init_failure: Option<String>,
}

impl Seen {
    /// What an object's metadata says.
    #[must_use]
    pub fn of(metadata: &ObjectMeta, detail: Detail) -> Self {
        let fields = metadata.managed_fields.as_deref().unwrap_or_default();
        let ours = fields.iter().find(|entry| is_ours(entry));
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            generation: metadata.generation,
            owner: controller_of(metadata),
            applied: metadata.annotations.as_ref().and_then(|annotations| annotations.get(names::APPLIED).cloned()),
            fields: ours.map(digest),
            scales: ours.is_some_and(has_replicas),
            touched: ours.is_none_or(|ours| fields.iter().any(|entry| !is_ours(entry) && may_be_later(entry, ours))),
            deleting: metadata.deletion_timestamp.is_some(),
            detail,
        }
    }

    /// Whether something changed that a reconcile would want to know. The resource version alone is not such a thing.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        let Self { uid, resource_version: _, generation: _, owner, applied, fields, scales: _, touched: _, deleting, detail } = self;
        *uid != other.uid
            || *owner != other.owner
            || *applied != other.applied
            || *fields != other.fields
            || *deleting != other.deleting
            || *detail != other.detail
    }
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(names::MANAGER) && entry.operation.as_deref() == Some("Apply") && entry.subresource.is_none()
}

fn has_replicas(entry: &ManagedFieldsEntry) -> bool {
    entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
}

/// Writers of status and scale do not touch what we apply; nor does who has the number of Pods from us.
fn may_be_later(entry: &ManagedFieldsEntry, ours: &ManagedFieldsEntry) -> bool {
    let is_part = entry.subresource.as_ref().is_some_and(|part| !part.is_empty()) || entry.manager.as_deref() == Some(names::SCALED);
    !is_part && entry.time.as_ref().zip(ours.time.as_ref()).is_none_or(|(theirs, ours)| theirs.0 >= ours.0)
}

fn digest(entry: &ManagedFieldsEntry) -> u64 {
    // Fields of an object that came as JSON go back to it.
    let json = entry.fields_v1.as_ref().and_then(|fields| serde_json::to_vec(&fields.0).ok()).unwrap_or_default();
    let digest = Sha256::digest(json);
    digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Cache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: HashMap<Kind, BTreeMap<ObjectKey, Arc<Seen>>>,
    children: HashMap<String, BTreeMap<(Kind, String), Arc<Seen>>>,
}

impl Cache {
    /// An object.
    #[must_use]
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<Seen>> {
        self.lock().objects.get(&kind)?.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// What an object of ours controls, by its uid.
    #[must_use]
    pub fn children(&self, owner_uid: &str) -> Vec<(Kind, String, Arc<Seen>)> {
        let inner = self.lock();
        let children = inner.children.get(owner_uid).into_iter().flatten();
        children.map(|((kind, name), seen)| (*kind, name.clone(), seen.clone())).collect()
    }

    /// The objects of a kind in a namespace that `wanted` picks.
    #[must_use]
    pub fn select(&self, kind: Kind, namespace: &str, wanted: impl Fn(&str, &Seen) -> bool) -> Vec<(String, Arc<Seen>)> {
        self.range(kind, namespace, "", |_| true).into_iter().filter(|(name, seen)| wanted(name, seen)).collect()
    }

    /// Ready endpoints of a Service; `None` where it has no EndpointSlice at all.
    #[must_use]
    pub fn ready_endpoints(&self, namespace: &str, service: &str) -> Option<usize> {
        let prefix = format!("{service}/");
        let slices = self.range(Kind::EndpointSlice, namespace, &prefix, |name| name.starts_with(&prefix));
        let ready = |seen: &Seen| if let Detail::Endpoints(ready) = seen.detail { ready } else { 0 };
        (!slices.is_empty()).then(|| slices.iter().map(|(_, seen)| ready(seen)).sum())
    }

    fn range(&self, kind: Kind, namespace: &str, from: &str, within: impl Fn(&str) -> bool) -> Vec<(String, Arc<Seen>)> {
        let inner = self.lock();
        let Some(objects) = inner.objects.get(&kind) else { return Vec::new() };
        let start = (namespace.to_owned(), from.to_owned());
        let here = objects.range(start..).take_while(|((of, name), _)| of == namespace && within(name));
        here.map(|((_, name), seen)| (name.clone(), seen.clone())).collect()
    }

    /// An object is as it is now. Returns what it was before.
    pub fn put(&self, kind: Kind, key: ObjectKey, seen: Arc<Seen>) -> Option<Arc<Seen>> {
        let mut inner = self.lock();
        let before = inner.objects.entry(kind).or_default().insert(key.clone(), seen.clone());
        if let Some(before) = &before {
            inner.disown(kind, &key.1, before);
        }
        if let Some(owner) = &seen.owner {
            inner.children.entry(owner.uid.clone()).or_default().insert((kind, key.1), seen.clone());
        }
        before
    }

    /// An object is no more. Returns what it was.
    pub fn remove(&self, kind: Kind, key: &ObjectKey) -> Option<Arc<Seen>> {
        let mut inner = self.lock();
        let before = inner.objects.get_mut(&kind)?.remove(key)?;
        inner.disown(kind, &key.1, &before);
        Some(before)
    }

    /// The keys of a kind, in one namespace or all.
    #[must_use]
    pub fn keys(&self, kind: Kind, namespace: Option<&str>) -> Vec<ObjectKey> {
        let inner = self.lock();
        let keys = inner.objects.get(&kind).into_iter().flat_map(BTreeMap::keys);
        keys.filter(|(of, _)| namespace.is_none_or(|namespace| namespace == of)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn disown(&mut self, kind: Kind, name: &str, before: &Seen) {
        let Some(owner) = &before.owner else { return };
        let Some(children) = self.children.get_mut(&owner.uid) else { return };
        children.remove(&(kind, name.to_owned()));
        if children.is_empty() {
            self.children.remove(&owner.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(fields: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(json!({
            "name": "chat-gateway", "namespace": "llm", "uid": "1", "resourceVersion": "5",
            "annotations": {"expertrouter.dev/applied": "abc"},
            "ownerReferences": [{"apiVersion": "expertrouter.dev/v1alpha1", "kind": "ExpertRouter", "name": "chat", "uid": "r", "controller": true}],
            "managedFields": fields,
        }))
        .unwrap()
    }

    fn entry(manager: &str, operation: &str, subresource: &str, second: u32, fields: serde_json::Value) -> serde_json::Value {
        let time = format!("2026-01-01T00:00:{second:02}Z");
        let mut entry = json!({"manager": manager, "operation": operation, "time": time, "fieldsV1": fields});
        if !subresource.is_empty() {
            entry["subresource"] = subresource.into();
        }
        entry
    }

    #[test]
    fn a_field_taken_from_us_shows() {
        let ours = |fields| Seen::of(&metadata(json!([entry(names::MANAGER, "Apply", "", 10, fields)])), Detail::None);
        let before = ours(json!({"f:spec": {"f:replicas": {}}}));
        let after = ours(json!({"f:spec": {}}));
        assert!(before.differs(&after) && !before.differs(&before.clone()));
        assert!(before.scales && !after.scales);
    }

    #[test]
    fn writers_of_status_are_not_somebody_who_touched_it() {
        let with = |other| Seen::of(&metadata(json!([entry(names::MANAGER, "Apply", "", 10, json!({})), other])), Detail::None).touched;
        assert!(!with(entry("kube-controller-manager", "Update", "status", 30, json!({}))));
        assert!(!with(entry("kubectl", "Update", "", 9, json!({}))));
        assert!(!with(entry(names::SCALED, "Apply", "", 10, json!({"f:spec": {"f:replicas": {}}}))));
        assert!(with(entry("kubectl", "Update", "", 10, json!({}))));
    }

    #[test]
    fn children_follow_their_owner() {
        let cache = Cache::default();
        let seen = Arc::new(Seen::of(&metadata(json!([])), Detail::None));
        let key = ("llm".to_owned(), "chat-gateway".to_owned());
        cache.put(Kind::Deployment, key.clone(), seen.clone());
        assert_eq!(cache.children("r").len(), 1);
        let orphan = Seen { owner: None, ..(*seen).clone() };
        cache.put(Kind::Deployment, key.clone(), Arc::new(orphan));
        assert!(cache.children("r").is_empty());
        cache.put(Kind::Deployment, key.clone(), seen);
        cache.remove(Kind::Deployment, &key);
        assert!(cache.children("r").is_empty() && cache.get(Kind::Deployment, "llm", "chat-gateway").is_none());
    }

    #[test]
    fn endpoints_are_summed_over_the_slices_of_a_service() {
        let cache = Cache::default();
        for (name, ready) in [("vllm/a", 2), ("vllm/b", 1), ("vllm-coder/a", 8)] {
            let seen = Seen::of(&metadata(json!([])), Detail::Endpoints(ready));
            cache.put(Kind::EndpointSlice, ("llm".to_owned(), name.to_owned()), Arc::new(seen));
        }
        assert_eq!(cache.ready_endpoints("llm", "vllm"), Some(3));
        assert_eq!(cache.ready_endpoints("llm", "other"), None);
        assert_eq!(cache.ready_endpoints("other", "vllm"), None);
    }
}
