//! Both controllers, from watches to reconciles. Runs while this replica leads.
//!
//! Every watched type of ours is read through `DeserializeGuard`: an object that cannot be read is one broken object and not a broken
//! watch. First the watches of everything else complete their lists, so that no reconcile takes what is not known yet for what is not
//! there; then reconciles begin.

use std::{sync::Arc, time::Duration, time::Instant};

use api::{ExpertRouter, RouterModel};
use futures_util::{FutureExt, StreamExt, future::join_all};
use kube::{
    Api, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        controller::{self, Action, Controller},
        reflector::{self, ObjectRef},
        watcher,
    },
};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    cache::Kind,
    context::{Context, Error, Stores},
    dependencies::Dependency,
    owner::{Owner, OwnerKey, OwnerKind},
    router, training,
    watch::{self, ALWAYS},
};

/// Changes that come together are one visit.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// A visit that failed is tried again after this long, then twice as long ...
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// ... and so on up to this.
const LAST_RETRY: Duration = Duration::from_secs(120);
/// How often it is asked whether the cluster has learnt a new kind.
const DISCOVERY: Duration = Duration::from_secs(60);
/// Visits under way are waited for at the end no longer than this.
const GRACE: Duration = Duration::from_secs(10);

/// Reconciles until told to stop.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    discover(&context).await;
    let kinds: Vec<Kind> =
        ALWAYS.into_iter().chain(context.optional.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()).collect();
    let mut complete = Vec::new();
    for kind in kinds {
        for scope in &context.config.scopes {
            let (ready, done) = oneshot::channel();
            complete.push(done);
            tasks.spawn(context.watch().run(kind, scope.clone(), ready));
        }
    }
    tokio::select! {
        _ = join_all(complete) => tracing::info!("everything is listed; reconciling"),
        () = stop.cancelled() => return,
    }
    tasks.spawn(rediscover(context.clone()));
    tasks.spawn(router::observe::watch(context.clone()));
    let routers = context.config.scopes.iter().map(|scope| {
        let control = Control { kind: OwnerKind::Router, scope: scope.clone(), context: context.clone(), stop: stop.clone() };
        control.run(&context.routers, ExpertRouter::stripped, router::reconcile).boxed()
    });
    let models = context.config.scopes.iter().map(|scope| {
        let control = Control { kind: OwnerKind::Model, scope: scope.clone(), context: context.clone(), stop: stop.clone() };
        control.run(&context.models, RouterModel::stripped, training::reconcile).boxed()
    });
    let all = join_all(routers.chain(models));
    tokio::select! {
        _ = all => {}
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => tracing::warn!("reconciles under way were cut off"),
    }
    tasks.shutdown().await;
}

/// What is not read of an object is not kept either.
trait Stripped {
    fn stripped(object: &mut DeserializeGuard<Self>)
    where
        Self: Sized;
}

impl<K: Resource<DynamicType = ()>> Stripped for K {
    fn stripped(object: &mut DeserializeGuard<Self>) {
        object.managed_fields_mut().clear();
        object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// One kind in one namespace, or in all.
struct Control {
    kind: OwnerKind,
    scope: Option<String>,
    context: Arc<Context>,
    stop: CancellationToken,
}

impl Control {
    fn run<K, Reconcile, Visit>(
        self,
        stores: &Stores<K>,
        strip: fn(&mut DeserializeGuard<K>),
        mut reconcile: Reconcile,
    ) -> impl Future<Output = ()> + Send + use<K, Reconcile, Visit>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
        Reconcile: FnMut(Arc<DeserializeGuard<K>>, Arc<Context>) -> Visit + Send + 'static,
        Visit: Future<Output = Result<Action, Error>> + Send + 'static,
    {
        let Self { kind, scope, context, stop } = self;
        let api: Api<DeserializeGuard<K>> = match &scope {
            Some(namespace) => Api::namespaced(context.client.clone(), namespace),
            None => Api::all(context.client.clone()),
        };
        let (store, writer) = reflector::store();
        stores.add(scope.clone(), store.clone());
        let news = context.clone();
        let objects = reflector::reflector(writer, watcher(api, watcher::Config::default()).modify(strip).default_backoff())
            .inspect(move |event| tell(&news, kind, event))
            .touched_objects();
        let asked = context.triggers.listen(kind, scope).map(|key| ObjectRef::new(&key.name).within(&key.namespace));
        let config = controller::Config::default().debounce(DEBOUNCE).concurrency(context.config.concurrency);
        Controller::for_stream(objects, store)
            .with_config(config)
            .reconcile_on(asked)
            .graceful_shutdown_on(async move { stop.cancelled().await })
            .run(
                move |object, context: Arc<Context>| {
                    let owner = OwnerKey { kind, namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
                    visit(owner, context.clone(), reconcile(object, context))
                },
                move |object, error, context| {
                    let owner = OwnerKey { kind, namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
                    retry(&owner, error, &context)
                },
                context,
            )
            .for_each(|_| std::future::ready(()))
    }
}

/// Those that named the object hear of it; and what was kept for it is forgotten when it goes.
fn tell<K: Resource<DynamicType = ()>>(context: &Context, kind: OwnerKind, event: &watcher::Result<watcher::Event<DeserializeGuard<K>>>) {
    let (object, gone) = match event {
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => (object, false),
        Ok(watcher::Event::Delete(object)) => (object, true),
        Ok(watcher::Event::Init | watcher::Event::InitDone) => return,
        Err(error) => {
            tracing::warn!(kind = kind.as_str(), %error, "a watch broke off");
            return context.metrics.watch_failed(kind.as_str());
        }
    };
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let dependency = match kind {
        OwnerKind::Router => Dependency::Router(name.clone()),
        OwnerKind::Model => Dependency::Model(name.clone()),
    };
    context.dependencies.owners(&namespace, &dependency).into_iter().for_each(|owner| context.triggers.send(owner));
    if gone {
        let owner = match kind {
            OwnerKind::Router => Owner::of_router(object.meta()),
            OwnerKind::Model => Owner::of_model(object.meta()),
        };
        context.dependencies.forget(&owner.key);
        context.applier.forget(&namespace, &owner.uid);
        context.status.forget(&owner.uid);
        context.router_state.forget(&owner);
        context.succeeded(&owner.key);
    }
}

async fn visit(owner: OwnerKey, context: Arc<Context>, reconcile: impl Future<Output = Result<Action, Error>>) -> Result<Action, Error> {
    let begin = Instant::now();
    let result = reconcile.await;
    context.metrics.reconciled(owner.kind.as_str(), result.is_ok(), begin.elapsed().as_secs_f64());
    if result.is_ok() {
        context.succeeded(&owner);
    }
    result
}

fn retry(owner: &OwnerKey, error: &Error, context: &Context) -> Action {
    let failures = context.failed(owner);
    let wait = FIRST_RETRY.saturating_mul(1 << (failures - 1).min(10)).min(LAST_RETRY);
    tracing::warn!(kind = owner.kind.as_str(), namespace = owner.namespace, name = owner.name, %error, failures, "tried again in {wait:?}");
    Action::requeue(wait)
}

/// Learns which kinds the cluster has that not every cluster has. Returns those that are new.
async fn discover(context: &Context) -> Vec<Kind> {
    let mut new = Vec::new();
    for kind in [Kind::HttpRoute, Kind::PodMonitor] {
        let Some(resource) = watch::resource(kind) else { continue };
        let found = match context.client.list_api_group_resources(&resource.api_version).await {
            Ok(list) => list.resources.iter().any(|found| found.name == resource.plural),
            Err(_) => false,
        };
        if found && context.optional.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(kind) {
            tracing::info!(kind = resource.kind, "the cluster knows it");
            new.push(kind);
        }
    }
    new
}

/// A kind that came later is watched from then on, and every router visited.
async fn rediscover(context: Arc<Context>) {
    let mut watches = JoinSet::new();
    loop {
        tokio::time::sleep(DISCOVERY).await;
        let new = discover(&context).await;
        if new.is_empty() {
            continue;
        }
        let mut complete = Vec::new();
        for kind in new {
            for scope in &context.config.scopes {
                let (ready, done) = oneshot::channel();
                complete.push(done);
                watches.spawn(context.watch().run(kind, scope.clone(), ready));
            }
        }
        join_all(complete).await;
        for router in context.routers.all() {
            context.triggers.send(OwnerKey::router(&router.namespace().unwrap_or_default(), &router.name_any()));
        }
    }
}
