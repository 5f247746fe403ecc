//! Children written: server-side apply by one field manager, forced, and only where something would change; what is no longer planned is
//! deleted.
//!
//! Nothing is read from the API server to find out: `cache` says of each child what was applied last (an annotation) and which fields are
//! ours (its managed fields). A child is left alone where the first is what is wanted and the second is what it was after the write. So
//! fields that others add (replicas by an autoscaler, defaults, status) cost nothing, and a field of ours that somebody changes is ours
//! again at the next visit. A second manager has a hand in one case alone, see `replicas`.

mod child;
mod replicas;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, PartialObjectMeta, Patch, PatchParams, Preconditions},
};
use serde_json::Value;

use crate::{
    cache::{Cache, Detail, Kind, Seen},
    metrics::Metrics,
    names,
    owner::Owner,
};
pub use child::Child;

/// The news of a write should have come back by then; later, what the cache says is believed again.
const NEWS: Duration = Duration::from_secs(5);

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Children written.
    pub written: usize,
    /// Children deleted.
    pub deleted: usize,
    /// Children that were as they should be.
    pub unchanged: usize,
}

/// Why a child is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server says no.
    #[error("cannot write {kind} {name}: {}", in_words(source))]
    Write {
        /// Of what.
        kind: String,
        /// Which.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server says no.
    #[error("cannot delete {kind} {name}: {}", in_words(source))]
    Delete {
        /// Of what.
        kind: String,
        /// Which.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Something of that name is there and belongs to somebody else; it is left alone.
    #[error("there is a {kind} {name} already that belongs to {holder}: rename or delete one of the two")]
    Taken {
        /// Of what.
        kind: String,
        /// Which.
        name: String,
        /// Who has it.
        holder: String,
    },
}

/// What the API server said, without what it also says to machines.
#[must_use]
pub fn in_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// Writes children, and remembers what came of it.
pub struct Applier {
    client: Client,
    cache: Arc<Cache>,
    metrics: Arc<Metrics>,
    memory: Mutex<HashMap<(Kind, String, String), Memory>>,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
struct Memory {
    digest: String,
    uid: String,
    fields: Option<u64>,
    /// What the cache knew before the write: until it knows more, the write is news to it.
    known_before: Option<String>,
    at: Instant,
}

impl Applier {
    /// Nothing written yet.
    #[must_use]
    pub fn new(client: Client, cache: Arc<Cache>, metrics: Arc<Metrics>) -> Self {
        Self { client, cache, metrics, memory: Mutex::new(HashMap::new()) }
    }

    /// Makes it so: writes what differs, then deletes the owner's children of the kinds in `prune` that are not among `children`.
    ///
    /// # Errors
    /// The first child that cannot be written or deleted; the others are tried all the same.
    pub async fn apply(&self, owner: &Owner, children: &[Child], prune: &[Kind]) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        let mut failed = None;
        for child in children {
            match self.write(owner, child).await {
                Ok(true) => applied.written += 1,
                Ok(false) => applied.unchanged += 1,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        for (kind, name, seen) in self.cache.children(&owner.uid) {
            let planned = children.iter().any(|child| child.kind == kind && child.name == name);
            if planned || seen.deleting || !prune.contains(&kind) {
                continue;
            }
            match self.delete(owner, kind, &name, &seen).await {
                Ok(()) => applied.deleted += 1,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(applied), Err)
    }

    async fn write(&self, owner: &Owner, child: &Child) -> Result<bool, ApplyError> {
        let (object, digest) = child.prepared(owner);
        let seen = self.cache.get(child.kind, &owner.key.namespace, &child.name);
        let key = (child.kind, owner.key.namespace.clone(), child.name.clone());
        let memory = self.lock().get(&key).cloned();
        if is_settled(owner, seen.as_deref(), memory.as_ref(), &digest) {
            return Ok(false);
        }
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &owner.key.namespace, &child.resource);
        let failed = |source| ApplyError::Write { kind: child.resource.kind.clone(), name: child.name.clone(), source: Box::new(source) };
        let there = match &seen {
            Some(seen) => Some((**seen).clone()),
            // Server-side apply would take over whatever is there.
            None => self.foreign(owner, child, &api).await.map_err(failed)?,
        };
        if let Some(there) = there.filter(|there| !is_of(owner, there)) {
            return Err(taken(child, &there));
        }
        if let Some(seen) = &seen
            && let Some(replicas) = replicas::left_to_an_autoscaler(child, seen)
        {
            self.hand_over(&api, child, &seen.uid, replicas).await.map_err(failed)?;
        }
        let written = self.put(&api, child, &object, seen.is_some()).await.map_err(failed)?;
        self.metrics.applied(&child.resource.kind, "apply");
        let after = Seen::of(&written.metadata, Detail::None);
        let known_before = seen.map(|seen| seen.resource_version.clone());
        // A write that changed nothing brings no news.
        let known_before = known_before.filter(|version| *version != after.resource_version);
        let memory = Memory { digest, uid: after.uid, fields: after.fields, known_before, at: Instant::now() };
        self.lock().insert(key, memory);
        Ok(true)
    }

    /// Applied; a child that is there already a second time, where the first cannot be.
    async fn put(
        &self,
        api: &Api<DynamicObject>,
        child: &Child,
        object: &Value,
        exists: bool,
    ) -> kube::Result<PartialObjectMeta<DynamicObject>> {
        match self.server_side_apply(api, child, object).await {
            // Lists that are maps: an entry whose key somebody changed is theirs now, and ours beside it may be one too many. What we
            // want takes the place of the whole list, once; then ours is applied again.
            Err(kube::Error::Api(status)) if status.code == 422 && exists => {
                let parameters = PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() };
                api.patch_metadata(&child.name, &parameters, &Patch::Merge(object)).await?;
                self.metrics.applied(&child.resource.kind, "merge");
                self.server_side_apply(api, child, object).await
            }
            result => result,
        }
    }

    /// What is there under a child's name though it is not known as one of ours. Kinds that are watched whole need not be asked for.
    async fn foreign(&self, owner: &Owner, child: &Child, api: &Api<DynamicObject>) -> kube::Result<Option<Seen>> {
        match child.kind {
            Kind::Service => Ok(None),
            Kind::ConfigMap => {
                let seen = self.cache.get(Kind::AnyConfigMap, &owner.key.namespace, &child.name);
                Ok(seen.map(|seen| (*seen).clone()))
            }
            _ => Ok(api.get_metadata_opt(&child.name).await?.map(|found| Seen::of(&found.metadata, Detail::None))),
        }
    }

    async fn server_side_apply(
        &self,
        api: &Api<DynamicObject>,
        child: &Child,
        object: &Value,
    ) -> kube::Result<PartialObjectMeta<DynamicObject>> {
        api.patch_metadata(&child.name, &PatchParams::apply(names::MANAGER).force(), &Patch::Apply(object)).await
    }

    async fn delete(&self, owner: &Owner, kind: Kind, name: &str, seen: &Seen) -> Result<(), ApplyError> {
        let Some(resource) = crate::watch::resource(kind) else { return Ok(()) };
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &owner.key.namespace, &resource);
        let parameters = DeleteParams::background().preconditions(Preconditions { uid: Some(seen.uid.clone()), resource_version: None });
        self.lock().remove(&(kind, owner.key.namespace.clone(), name.to_owned()));
        match api.delete(name, &parameters).await {
            Ok(_) => {
                self.metrics.applied(&resource.kind, "delete");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(source) => Err(ApplyError::Delete { kind: resource.kind, name: name.to_owned(), source: Box::new(source) }),
        }
    }

    /// An owner is no more: what was written for it need not be remembered.
    pub fn forget(&self, namespace: &str, uid: &str) {
        let gone: Vec<_> = self.cache.children(uid).into_iter().map(|(kind, name, _)| (kind, namespace.to_owned(), name)).collect();
        let mut memory = self.lock();
        gone.iter().for_each(|key| drop(memory.remove(key)));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Kind, String, String), Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of(owner: &Owner, seen: &Seen) -> bool {
    seen.owner.as_ref().is_some_and(|of| of.uid == owner.uid)
}

fn taken(child: &Child, seen: &Seen) -> ApplyError {
    let holder = match &seen.owner {
        Some(owner) => format!("{} {}", owner.key.kind.as_str(), owner.key.name),
        None => "somebody else".to_owned(),
    };
    ApplyError::Taken { kind: child.resource.kind.clone(), name: child.name.clone(), holder }
}

/// Whether a child is as it should be, as far as anybody can tell without asking.
fn is_settled(owner: &Owner, seen: Option<&Seen>, memory: Option<&Memory>, digest: &str) -> bool {
    if let Some(memory) = memory.filter(|memory| memory.digest == digest) {
        let is_news = match (seen, &memory.known_before) {
            (Some(seen), Some(before)) => seen.resource_version == *before,
            (None, None) => true,
            _ => false,
        };
        if is_news && memory.at.elapsed() < NEWS {
            return true;
        }
    }
    let Some(seen) = seen else { return false };
    if seen.deleting || !is_of(owner, seen) || seen.applied.as_deref() != Some(digest) {
        return false;
    }
    match memory.filter(|memory| memory.uid == seen.uid && memory.digest == digest) {
        Some(memory) => memory.fields == seen.fields,
        // Written before this process began: trusted where nobody else wrote since.
        None => !seen.touched,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::OwnerKey;

    fn owner() -> Owner {
        Owner { key: OwnerKey::router("llm", "chat"), uid: "r".to_owned() }
    }

    fn seen(version: &str, applied: &str, fields: u64, touched: bool) -> Seen {
        Seen {
            uid: "1".to_owned(),
            resource_version: version.to_owned(),
            generation: None,
            owner: Some(owner()),
            applied: Some(applied.to_owned()),
            fields: Some(fields),
            scales: false,
            touched,
            deleting: false,
            detail: Detail::None,
        }
    }

    fn memory(digest: &str, fields: u64, known_before: Option<&str>, age: u64) -> Memory {
        let at = Instant::now().checked_sub(Duration::from_secs(age)).unwrap();
        Memory { digest: digest.to_owned(), uid: "1".to_owned(), fields: Some(fields), known_before: known_before.map(str::to_owned), at }
    }

    fn check(seen: Option<Seen>, memory: Option<Memory>, expect: bool) {
        assert_eq!(is_settled(&owner(), seen.as_ref(), memory.as_ref(), "d"), expect, "{seen:?} {memory:?}");
    }

    #[test]
    fn a_child_that_is_as_it_should_be_is_left_alone() {
        check(Some(seen("5", "d", 7, true)), Some(memory("d", 7, Some("4"), 100)), true);
        check(Some(seen("5", "d", 7, false)), None, true);
    }

    #[test]
    fn a_child_that_is_not_is_written() {
        check(None, None, false);
        check(Some(seen("5", "old", 7, false)), None, false);
        check(Some(seen("5", "d", 8, true)), Some(memory("d", 7, Some("4"), 100)), false);
        check(Some(seen("5", "d", 7, true)), None, false);
        check(Some(Seen { deleting: true, ..seen("5", "d", 7, false) }), None, false);
        check(Some(Seen { owner: None, ..seen("5", "d", 7, false) }), None, false);
    }

    #[test]
    fn a_write_is_not_repeated_while_its_news_is_under_way() {
        check(None, Some(memory("d", 7, None, 0)), true);
        check(Some(seen("4", "old", 7, false)), Some(memory("d", 7, Some("4"), 0)), true);
        check(None, Some(memory("d", 7, None, 100)), false);
        // Deleted by somebody after it was seen.
        check(None, Some(memory("d", 7, Some("4"), 0)), false);
    }
}
