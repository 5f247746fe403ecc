//! Watches into `cache`, and news to those it concerns.
//!
//! One task per kind and namespace (or one for all). Of big kinds only metadata is asked for. News of a child goes to its owner; news of
//! something that specs name goes to those that named it at their last visit.

mod facts;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{Stream, StreamExt, pin_mut, stream::poll_fn};
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    cache::{Cache, Kind, ObjectKey, Seen},
    dependencies::{Dependencies, Dependency},
    metrics::Metrics,
    names,
    owner::{OwnerKey, OwnerKind},
};

pub use facts::{ADMIN_PORT, GATEWAY_API_VERSION, PROXY, deployment_facts};

/// Kinds that every cluster has.
pub const ALWAYS: [Kind; 13] = [
    Kind::Deployment,
    Kind::Service,
    Kind::HorizontalPodAutoscaler,
    Kind::PodDisruptionBudget,
    Kind::ConfigMap,
    Kind::ServiceAccount,
    Kind::NetworkPolicy,
    Kind::Job,
    Kind::Secret,
    Kind::AnyConfigMap,
    Kind::PersistentVolumeClaim,
    Kind::EndpointSlice,
    Kind::Pod,
];

/// A kind as the API server knows it.
#[must_use]
pub fn resource(kind: Kind) -> Option<ApiResource> {
    let dynamic = |group: &str, version: &str, kind: &str, plural: &str| ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    Some(match kind {
        Kind::Deployment => ApiResource::erase::<Deployment>(&()),
        Kind::Service => ApiResource::erase::<Service>(&()),
        Kind::HorizontalPodAutoscaler => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        Kind::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
        Kind::ConfigMap | Kind::AnyConfigMap => ApiResource::erase::<ConfigMap>(&()),
        Kind::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
        Kind::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
        Kind::HttpRoute => dynamic("gateway.networking.k8s.io", GATEWAY_API_VERSION, "HTTPRoute", "httproutes"),
        Kind::PodMonitor => dynamic("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
        Kind::Job => ApiResource::erase::<Job>(&()),
        Kind::Secret => ApiResource::erase::<Secret>(&()),
        Kind::PersistentVolumeClaim => ApiResource::erase::<PersistentVolumeClaim>(&()),
        Kind::EndpointSlice => ApiResource::erase::<EndpointSlice>(&()),
        Kind::Pod => ApiResource::erase::<Pod>(&()),
    })
}

/// Reconciles asked for, to whoever does them.
#[derive(Debug, Default)]
pub struct Triggers {
    listeners: Mutex<Vec<Listener>>,
}

#[derive(Debug)]
struct Listener {
    kind: OwnerKind,
    namespace: Option<String>,
    sender: mpsc::UnboundedSender<OwnerKey>,
}

impl Triggers {
    /// The keys of one kind, in one namespace or all, that are to be visited from now on.
    pub fn listen(&self, kind: OwnerKind, namespace: Option<String>) -> impl Stream<Item = OwnerKey> + Send + 'static + use<> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.sender.is_closed());
        listeners.push(Listener { kind, namespace, sender });
        poll_fn(move |context| receiver.poll_recv(context))
    }

    /// Have an object of ours visited.
    pub fn send(&self, owner: OwnerKey) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let hears = |listener: &&Listener| {
            listener.kind == owner.kind && listener.namespace.as_ref().is_none_or(|namespace| *namespace == owner.namespace)
        };
        if let Some(listener) = listeners.iter().find(hears) {
            // Nobody listens any more: the process is about to end.
            let _ = listener.sender.send(owner);
        }
    }
}

/// What a watch needs.
#[derive(Clone)]
pub struct Watch {
    /// To the API server.
    pub client: Client,
    /// Filled.
    pub cache: Arc<Cache>,
    /// Asked who is concerned.
    pub dependencies: Arc<Dependencies>,
    /// Told.
    pub triggers: Arc<Triggers>,
    /// Counted.
    pub metrics: Arc<Metrics>,
}

impl Watch {
    /// Watches a kind until it is dropped. `ready` hears of the first complete list.
    pub async fn run(self, kind: Kind, namespace: Option<String>, ready: oneshot::Sender<()>) {
        let ours = format!("{}={}", names::MANAGED_BY, names::MANAGER);
        let config = watcher::Config::default();
        let labelled = config.clone().labels(&ours);
        match kind {
            Kind::Deployment => {
                self.follow(kind, namespace.clone(), typed(self.api(namespace), labelled, facts::of_deployment), ready).await
            }
            Kind::Service => self.follow(kind, namespace.clone(), typed(self.api(namespace), config, facts::of_service), ready).await,
            Kind::ConfigMap => {
                self.follow(kind, namespace.clone(), typed(self.api(namespace), labelled, facts::of_config_map), ready).await
            }
            Kind::Job => self.follow(kind, namespace.clone(), typed(self.api(namespace), labelled, facts::of_job), ready).await,
            Kind::EndpointSlice => {
                self.follow(kind, namespace.clone(), typed(self.api(namespace), config, facts::of_endpoint_slice), ready).await;
            }
            Kind::Pod => {
                let data_plane = config.labels(&format!("{} in (gateway,sidecar)", names::ROLE));
                self.follow(kind, namespace.clone(), typed(self.api(namespace), data_plane, facts::of_pod), ready).await;
            }
            Kind::Secret | Kind::AnyConfigMap | Kind::PersistentVolumeClaim => {
                self.follow(kind, namespace.clone(), self.metadata(kind, namespace.as_deref(), config), ready).await;
            }
            Kind::HorizontalPodAutoscaler
            | Kind::PodDisruptionBudget
            | Kind::ServiceAccount
            | Kind::NetworkPolicy
            | Kind::HttpRoute
            | Kind::PodMonitor => self.follow(kind, namespace.clone(), self.metadata(kind, namespace.as_deref(), labelled), ready).await,
        }
    }

    fn api<K>(&self, namespace: Option<String>) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), &namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn metadata(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        config: watcher::Config,
    ) -> impl Stream<Item = watcher::Result<Event<(ObjectKey, Seen)>>> + Send + use<> {
        let resource = resource(kind).expect("every watched kind has a resource");
        let api = match namespace {
            Some(namespace) => Api::<PartialObjectMeta<DynamicObject>>::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        watcher::watcher(api, config).map(|event| event.map(|event| map(event, |object| facts::of_metadata(&object.metadata))))
    }

    async fn follow(
        &self,
        kind: Kind,
        namespace: Option<String>,
        events: impl Stream<Item = watcher::Result<Event<(ObjectKey, Seen)>>> + Send,
        ready: oneshot::Sender<()>,
    ) {
        let events = events.default_backoff();
        pin_mut!(events);
        let mut ready = Some(ready);
        let mut listed = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply((key, seen))) => self.put(kind, key, seen),
                Ok(Event::Delete((key, _))) => self.remove(kind, &key),
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply((key, seen))) => {
                    listed.insert(key.clone());
                    self.put(kind, key, seen);
                }
                Ok(Event::InitDone) => {
                    let gone = self.cache.keys(kind, namespace.as_deref()).into_iter().filter(|key| !listed.contains(key));
                    gone.for_each(|key| self.remove(kind, &key));
                    listed = HashSet::new();
                    // Whoever waited may have given up.
                    let _ = ready.take().map(|ready| ready.send(()));
                }
                Err(error) => {
                    tracing::warn!(?kind, %error, "a watch broke off");
                    self.metrics.watch_failed(resource(kind).map_or("", |_| facts::name(kind)));
                }
            }
        }
    }

    fn put(&self, kind: Kind, key: ObjectKey, seen: Seen) {
        let seen = Arc::new(seen);
        let before = self.cache.put(kind, key.clone(), seen.clone());
        if facts::is_news(kind, before.as_deref(), &seen) {
            self.tell(kind, &key, [before.as_deref(), Some(&*seen)]);
        }
    }

    fn remove(&self, kind: Kind, key: &ObjectKey) {
        let before = self.cache.remove(kind, key);
        if before.is_some() {
            self.tell(kind, key, [before.as_deref(), None]);
        }
    }

    fn tell(&self, kind: Kind, (namespace, name): &ObjectKey, seen: [Option<&Seen>; 2]) {
        let mut owners: HashSet<OwnerKey> = seen.into_iter().flatten().filter_map(|seen| Some(seen.owner.as_ref()?.key.clone())).collect();
        let named = if kind == Kind::EndpointSlice { name.split('/').next().unwrap_or_default() } else { name };
        owners.extend(self.dependencies.owners(namespace, &Dependency::Object(kind, named.to_owned())));
        if kind == Kind::Pod {
            let routers = seen.into_iter().flatten().filter_map(facts::router_of_pod);
            owners.extend(routers.flat_map(|router| self.dependencies.owners(namespace, &Dependency::Object(kind, router.to_owned()))));
        }
        owners.into_iter().for_each(|owner| self.triggers.send(owner));
    }
}

fn typed<K>(
    api: Api<K>,
    config: watcher::Config,
    facts: impl Fn(&K) -> (ObjectKey, Seen) + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<(ObjectKey, Seen)>>> + Send
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher::watcher(api, config).map(move |event| event.map(|event| map(event, &facts)))
}

fn map<K, T>(event: Event<K>, with: impl Fn(&K) -> T) -> Event<T> {
    match event {
        Event::Apply(object) => Event::Apply(with(&object)),
        Event::Delete(object) => Event::Delete(with(&object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(with(&object)),
        Event::InitDone => Event::InitDone,
    }
}
