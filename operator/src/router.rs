//! The ExpertRouter controller: `dereference -> validate -> plan -> apply -> status`.
//!
//! The first step reads (what is known already, and Secrets' keys), the next two are pure, the last two write. Beside them, `observe`
//! asks the data-plane Pods how they are and what they spent.

pub mod bundle;
pub mod dereference;
pub mod experts;
pub mod judge;
pub mod observe;
pub mod plan;
pub mod spend;
pub mod valid;

use std::{sync::Arc, time::Duration};

use api::{
    ExpertRouter,
    status::{ExpertRouterStatus, router_conditions},
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::controller::Action,
};
use serde_json::json;

use crate::{
    apply::ApplyError,
    cache::{Detail, Kind},
    conditions::{Finding, merge, merge_some},
    context::{Context, Error},
    events::{Happening, of_conditions},
    names,
    owner::Owner,
};
use judge::Facts;
use plan::{Applied, Plan, Prepared};

pub use observe::Routers;

/// A name that somebody else has may become free without our hearing of it.
const TAKEN_RETRY: Duration = Duration::from_secs(60);

/// One visit.
///
/// # Errors
/// What the API server refused; it is tried again.
pub async fn reconcile(router: Arc<DeserializeGuard<ExpertRouter>>, context: Arc<Context>) -> Result<Action, Error> {
    let router = match &router.0 {
        Ok(router) => router,
        Err(invalid) => {
            let status = unreadable_status(&context, &invalid.metadata).await?;
            let visit = Visit::new(&context, &invalid.metadata, Some(&status));
            return visit.refuse(&format!("the object cannot be read: {}", invalid.error)).await;
        }
    };
    if router.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let visit = Visit::new(&context, &router.metadata, router.status.as_ref());
    let references = dereference::dereference(router, &context).await?;
    let valid = match valid::validate(router, &references) {
        Ok(valid) => valid,
        Err(problem) => return visit.refuse(&problem.to_string()).await,
    };
    let spend = context.router_state.spend_to_keep(&visit.owner, &router.spec.budgets);
    let plan = match plan::plan(&valid, spend.as_deref(), &context.config.images) {
        Ok(plan) => plan,
        Err(plan::TooLarge { bytes }) => {
            let problem = format!("the snapshot has {bytes} bytes, more than a ConfigMap holds: shorten prependMessages");
            return visit.refuse(&problem).await;
        }
    };
    let secrets = dereference::secrets_revision(router, &context);
    let applied = match visit.apply(plan, secrets).await {
        Ok(applied) => applied,
        Err(Error::Apply(error @ ApplyError::Taken { .. })) => {
            visit.tell_refusal(&judge::name_taken(&error.to_string(), &visit.before)).await?;
            return Ok(Action::requeue(TAKEN_RETRY));
        }
        Err(error) => {
            let happening = Happening { warning: true, reason: "ApplyFailed".into(), note: error.to_string(), action: "Apply" };
            context.events.publish(&visit.owner, &happening).await;
            return Err(error);
        }
    };
    let facts = visit.facts(&applied);
    let (findings, status) = judge::judge(&valid, &facts, &visit.before);
    visit.tell(&findings, &status).await?;
    Ok(Action::await_change())
}

/// The status of an object that cannot be read as a whole, as far as it can.
async fn unreadable_status(context: &Context, metadata: &ObjectMeta) -> Result<ExpertRouterStatus, Error> {
    let (namespace, name) = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
    let resource = kube::api::ApiResource::erase::<ExpertRouter>(&());
    let api = Api::<kube::api::DynamicObject>::namespaced_with(context.client.clone(), &namespace, &resource);
    let found =
        api.get_opt(&name).await.map_err(|source| Error::Read { what: format!("ExpertRouter {name}"), source: Box::new(source) })?;
    let status = found.and_then(|object| serde_json::from_value(object.data.get("status")?.clone()).ok());
    Ok(status.unwrap_or_default())
}

/// One object being visited.
struct Visit<'a> {
    context: &'a Context,
    owner: Owner,
    version: String,
    generation: Option<i64>,
    before: ExpertRouterStatus,
}

impl<'a> Visit<'a> {
    fn new(context: &'a Context, metadata: &ObjectMeta, status: Option<&ExpertRouterStatus>) -> Self {
        let owner = Owner::of_router(metadata);
        let version = metadata.resource_version.clone().unwrap_or_default();
        let before = context.status.current(&owner.uid, &version, status);
        Self { context, owner, version, generation: metadata.generation, before }
    }

    /// The spec makes no sense: nothing is touched, so that what was in force stays.
    async fn refuse(&self, problem: &str) -> Result<Action, Error> {
        self.tell_refusal(&judge::invalid(problem, &self.before)).await?;
        Ok(Action::await_change())
    }

    async fn apply(&self, plan: Plan<Prepared>, secrets: Option<String>) -> Result<Plan<Applied>, Error> {
        let prune = prune(&plan);
        self.context.applier.apply(&self.owner, &plan.children, &prune).await?;
        let plan = plan.applied();
        if let Some(revision) = &plan.revision {
            self.announce(revision, secrets.as_deref()).await?;
        }
        Ok(plan)
    }

    /// Writes the revisions of snapshot and Secrets into the metadata of each Pod that mounts them: kubelet then refreshes them at once.
    async fn announce(&self, revision: &str, secrets: Option<&str>) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.context.client.clone(), &self.owner.key.namespace);
        for (name, seen) in self.context.pods(&self.owner.key) {
            let Detail::Pod(pod) = &seen.detail else { continue };
            let is_told = pod.revision.as_deref() == Some(revision) && pod.secrets_revision.as_deref() == secrets;
            if pod.finished || seen.deleting || is_told {
                continue;
            }
            // A null takes the annotation away.
            let annotations = json!({names::REVISION: revision, names::SECRETS_REVISION: secrets});
            let patch = json!({"metadata": {"uid": seen.uid, "annotations": annotations}});
            match api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => self.context.metrics.applied("Pod", "annotate"),
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(source) => return Err(Error::Read { what: format!("Pod {name}"), source: Box::new(source) }),
            }
        }
        Ok(())
    }

    fn facts(&self, plan: &Plan<Applied>) -> Facts {
        let gateway = plan::names::gateway(&self.owner.key.name);
        let gateway = self.context.cache.get(Kind::Deployment, &self.owner.key.namespace, &gateway);
        let gateway = gateway.filter(|seen| seen.owner.as_ref().is_some_and(|owner| owner.uid == self.owner.uid));
        Facts {
            gateway: gateway.and_then(|seen| if let Detail::Deployment(facts) = &seen.detail { Some(facts.clone()) } else { None }),
            pods: self
                .context
                .pods(&self.owner.key)
                .into_iter()
                .filter(|(_, seen)| !seen.deleting)
                .filter_map(|(name, seen)| if let Detail::Pod(pod) = &seen.detail { Some((name, pod.clone())) } else { None })
                .filter(|(_, pod)| !pod.finished)
                .collect(),
            reports: self.context.router_state.reports(&self.owner),
            revision: plan.revision.clone(),
        }
    }

    /// Nothing else was looked at: the rest of the status stays.
    async fn tell_refusal(&self, findings: &[Finding]) -> Result<(), Error> {
        let mut after = self.before.clone();
        after.conditions = merge_some(&self.before.conditions, findings, self.generation, Timestamp::now(), &router_conditions::ALL);
        self.write(findings, after).await
    }

    async fn tell(&self, findings: &[Finding], status: &ExpertRouterStatus) -> Result<(), Error> {
        let mut after = status.clone();
        after.conditions = merge(&self.before.conditions, findings, self.generation, Timestamp::now());
        self.write(findings, after).await
    }

    /// Status and events, both only where something changed.
    async fn write(&self, findings: &[Finding], mut after: ExpertRouterStatus) -> Result<(), Error> {
        after.observed_generation = self.generation;
        if self.context.status.write(&self.owner, &self.version, &self.before, &after).await? {
            let mut happenings = of_conditions(&self.before.conditions, findings, &judge::WAITS);
            let was = self.before.model.as_ref();
            if let Some(model) = after.model.as_ref().filter(|model| !was.is_some_and(|before| before.is_same(model))) {
                let note = format!("bundle {} is in the snapshot", model.digest);
                happenings.push(Happening { warning: false, reason: "ModelChanged".into(), note, action: "Reconcile" });
            }
            for happening in happenings {
                self.context.events.publish(&self.owner, &happening).await;
            }
        }
        Ok(())
    }
}

/// What may be taken away. What was spent goes only when the last budget does.
fn prune(plan: &Plan<Prepared>) -> Vec<Kind> {
    let mut kinds = plan::PRUNED.to_vec();
    // Both ConfigMaps are in the plan, or the snapshot is one that stays though it is not: then nothing of that kind is pruned.
    if plan.revision.is_some() {
        kinds.push(Kind::ConfigMap);
    }
    kinds
}

impl Context {
    /// The Pods that carry a router's data plane.
    #[must_use]
    pub fn pods(&self, router: &crate::owner::OwnerKey) -> Vec<(String, Arc<crate::cache::Seen>)> {
        let label = names::label_value(&router.name);
        self.cache.select(Kind::Pod, &router.namespace, |_, seen| matches!(&seen.detail, Detail::Pod(pod) if pod.router == label))
    }
}
