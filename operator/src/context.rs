//! What every step of both controllers may use, and what may go wrong in them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use api::{ExpertRouter, RouterModel};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};

use crate::{
    apply::{Applier, ApplyError, in_words},
    cache::{Cache, Kind, ObjectKey},
    config::Config,
    dependencies::Dependencies,
    events::Events,
    metrics::Metrics,
    owner::OwnerKey,
    router::Routers,
    status::StatusWriter,
    watch::{Triggers, Watch},
};

/// The version of a Secret, and the keys it has.
type KeysOfVersion = (String, Arc<BTreeSet<String>>);

/// What is watched in a namespace, or in all.
type Scoped<K> = (Option<String>, Store<DeserializeGuard<K>>);

/// Shared by all reconciles.
pub struct Context {
    /// To the API server.
    pub client: Client,
    /// From the flags.
    pub config: Config,
    /// What is known of the cluster.
    pub cache: Arc<Cache>,
    /// Who is to hear of what.
    pub dependencies: Arc<Dependencies>,
    /// Has objects of ours visited.
    pub triggers: Arc<Triggers>,
    /// Writes children.
    pub applier: Applier,
    /// Writes status.
    pub status: StatusWriter,
    /// Publishes events.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// All ExpertRouters.
    pub routers: Stores<ExpertRouter>,
    /// All RouterModels.
    pub models: Stores<RouterModel>,
    /// Kinds that not every cluster has, and this one does.
    pub optional: Mutex<BTreeSet<Kind>>,
    /// Kept from one visit of a router to the next.
    pub router_state: Routers,
    secret_keys: Mutex<HashMap<ObjectKey, KeysOfVersion>>,
    failures: Mutex<HashMap<OwnerKey, u32>>,
}

/// Why a reconcile did not come to its end. It is tried again, later each time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server could not be asked.
    #[error("cannot read {what}: {}", in_words(source))]
    Read {
        /// What was asked for.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// A child could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A status could not be written.
    #[error("cannot write the status of {what}: {}", in_words(source))]
    Status {
        /// Of what.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

impl Context {
    /// Nothing known yet.
    #[must_use]
    pub fn new(client: Client, config: Config, metrics: Arc<Metrics>) -> Self {
        let cache = Arc::new(Cache::default());
        Self {
            applier: Applier::new(client.clone(), cache.clone(), metrics.clone()),
            status: StatusWriter::new(client.clone(), metrics.clone()),
            events: Events::new(client.clone(), &config.identity),
            client,
            config,
            cache,
            dependencies: Arc::new(Dependencies::default()),
            triggers: Arc::new(Triggers::default()),
            metrics,
            routers: Stores::default(),
            models: Stores::default(),
            optional: Mutex::new(BTreeSet::new()),
            router_state: Routers::default(),
            secret_keys: Mutex::new(HashMap::new()),
            failures: Mutex::new(HashMap::new()),
        }
    }

    /// What watches need.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            client: self.client.clone(),
            cache: self.cache.clone(),
            dependencies: self.dependencies.clone(),
            triggers: self.triggers.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Whether the cluster has a kind that not every cluster has.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.optional.lock().unwrap_or_else(PoisonError::into_inner).contains(&kind)
    }

    /// The keys of a Secret; `None` where there is no such Secret. Asked once for each version of it, and the values are not kept.
    ///
    /// # Errors
    /// The API server cannot be asked.
    pub async fn secret_keys(&self, namespace: &str, name: &str) -> Result<Option<Arc<BTreeSet<String>>>, Error> {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(seen) = self.cache.get(Kind::Secret, namespace, name) else {
            self.secret_keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            return Ok(None);
        };
        let known = self.secret_keys.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((version, keys)) = known
            && version == seen.resource_version
        {
            return Ok(Some(keys));
        }
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|source| Error::Read { what: format!("Secret {name}"), source: Box::new(source) })?;
        let Some(secret) = found else { return Ok(None) };
        let empty = |value: &k8s_openapi::ByteString| value.0.trim_ascii().is_empty();
        let filled = secret.data.unwrap_or_default().into_iter().filter(|(_, value)| !empty(value));
        let keys: Arc<BTreeSet<String>> = Arc::new(filled.map(|(key, _)| key).collect());
        let version = secret.metadata.resource_version.unwrap_or_default();
        self.secret_keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (version, keys.clone()));
        Ok(Some(keys))
    }

    /// A reconcile failed: how often in a row by now.
    pub fn failed(&self, owner: &OwnerKey) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(owner.clone()).or_default();
        *count += 1;
        *count
    }

    /// A reconcile came to its end.
    pub fn succeeded(&self, owner: &OwnerKey) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(owner);
    }
}

/// All objects of a kind of ours: a store for each namespace that is watched, or one for all.
pub struct Stores<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    stores: RwLock<Vec<Scoped<K>>>,
}

impl<K> Default for Stores<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn default() -> Self {
        Self { stores: RwLock::new(Vec::new()) }
    }
}

impl<K> Stores<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// One more namespace, or all.
    pub fn add(&self, namespace: Option<String>, store: Store<DeserializeGuard<K>>) {
        self.stores.write().unwrap_or_else(PoisonError::into_inner).push((namespace, store));
    }

    /// An object: one that can be read, or one that cannot.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<DeserializeGuard<K>>> {
        let reference = ObjectRef::new(name).within(namespace);
        self.stores.read().unwrap_or_else(PoisonError::into_inner).iter().find_map(|(_, store)| store.get(&reference))
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<DeserializeGuard<K>>> {
        self.stores.read().unwrap_or_else(PoisonError::into_inner).iter().flat_map(|(_, store)| store.state()).collect()
    }
}
