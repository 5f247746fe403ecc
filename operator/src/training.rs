//! The RouterModel controller: `dereference -> validate -> plan -> apply -> status`.
//!
//! A training is four steps, each a Job: prepare (ask and score, in parallel parts), fit, evaluate, publish. `steps` works out from the
//! inputs, from the status and from the Jobs that are there which step is due; `jobs` makes it; `promote` decides whether a bundle takes
//! the place of the one in force; `report` tells how it stands. All of these are pure. A bundle in force stays in force until another is
//! published, whatever fails.

pub mod inputs;
pub mod jobs;
pub mod observed;
pub mod promote;
pub mod report;
pub mod schedule;
pub mod steps;
pub mod valid;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use api::{RouterModel, router::Expert, status::RouterModelStatus};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Pod},
    },
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Preconditions},
    core::DeserializeGuard,
    runtime::controller::Action,
};

use crate::{
    apply::{ApplyError, Child},
    cache::{Detail, Kind},
    conditions::Finding,
    context::{Context, Error},
    dependencies::Dependency,
    events::{Happening, of_conditions},
    names,
    owner::Owner,
};
use observed::{JobState, Observed, SeenJob, SeenPod};
use steps::Standing;
use valid::{Named, Problem, References, ValidModel};

/// One visit.
///
/// # Errors
/// What the API server refused; it is tried again.
pub async fn reconcile(model: Arc<DeserializeGuard<RouterModel>>, context: Arc<Context>) -> Result<Action, Error> {
    let now = Timestamp::now();
    let model = match &model.0 {
        Ok(model) => model,
        Err(invalid) => {
            let problem = Problem { reason: "Invalid", message: format!("the object cannot be read: {}", invalid.error) };
            let visit = Visit::of(&context, &invalid.metadata, None);
            let (findings, status) = report::of_problem(&problem, &visit.before, invalid.metadata.generation, now);
            visit.tell(&findings, &status, Vec::new()).await?;
            return Ok(Action::await_change());
        }
    };
    if model.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let visit = Visit::of(&context, &model.metadata, model.status.as_ref());
    let references = visit.dereference(model).await?;
    let valid = match valid::validate(model, &references) {
        Ok(valid) => valid,
        Err(problem) => {
            let (findings, status) = report::of_problem(&problem, &visit.before, model.metadata.generation, now);
            visit.tell(&findings, &status, Vec::new()).await?;
            return Ok(Action::await_change());
        }
    };
    let observed = visit.observe().await?;
    let standing = steps::advance(&valid, &visit.before, &observed, &context.config.images, now);
    if let Err(error) = visit.apply(&valid, &standing, &observed).await {
        if let Error::Apply(refused) = &error
            && let Some(problem) = report::unwritten(refused)
        {
            let (findings, status) = report::of_problem(&problem, &visit.before, model.metadata.generation, now);
            visit.tell(&findings, &status, Vec::new()).await?;
        }
        return Err(error);
    }
    let (findings, status) = report::of_standing(&valid, &standing, &visit.before, model.metadata.generation, now);
    visit.tell(&findings, &status, happenings(&standing, &visit.before, &status)).await?;
    Ok(match standing.look_at {
        Some(at) => Action::requeue(Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_secs(1))),
        None => Action::await_change(),
    })
}

/// What is worth an event beside conditions.
fn happenings(standing: &Standing, before: &RouterModelStatus, status: &RouterModelStatus) -> Vec<Happening> {
    let mut happenings = Vec::new();
    let say = |reason: &str, note: String| Happening { warning: false, reason: reason.to_owned(), note, action: "Train" };
    if let Some(job) = &standing.job {
        // A reason for each step: events of one reason are counted together, and show the words of the first.
        let step = job.metadata.labels.as_ref().and_then(|labels| labels.get(jobs::STEP));
        let reason = match step.map(String::as_str) {
            Some("prepare") => "PrepareStarted",
            Some("fit") => "FitStarted",
            Some("evaluate") => "EvaluateStarted",
            _ => "PublishStarted",
        };
        happenings.push(say(reason, format!("created Job {}", job.metadata.name.as_deref().unwrap_or_default())));
    }
    if let Some(bundle) = status.bundle.as_ref().filter(|bundle| !before.bundle.as_ref().is_some_and(|before| before.is_same(bundle))) {
        happenings.push(say("Promoted", format!("bundle {} is in force now", bundle.digest)));
    }
    let awaits = |status: &RouterModelStatus| status.conditions.iter().any(|condition| condition.reason == "AwaitsPromotion");
    if let Some(candidate) = status.candidate.as_ref().filter(|_| awaits(status))
        && before.candidate.as_ref().is_none_or(|before| before.digest != candidate.digest || !awaits_already(before))
    {
        happenings.push(say("AwaitsPromotion", format!("bundle {} is evaluated and awaits its promotion", candidate.digest)));
    }
    happenings
}

fn awaits_already(candidate: &api::status::Candidate) -> bool {
    candidate.gain.is_some()
}

/// One object being visited.
struct Visit<'a> {
    context: &'a Context,
    owner: Owner,
    version: String,
    before: RouterModelStatus,
}

impl<'a> Visit<'a> {
    fn of(
        context: &'a Context,
        metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        status: Option<&RouterModelStatus>,
    ) -> Self {
        let owner = Owner::of_model(metadata);
        let version = metadata.resource_version.clone().unwrap_or_default();
        let before = context.status.current(&owner.uid, &version, status);
        Self { context, owner, version, before }
    }

    /// Fetches what the spec names. Reads.
    async fn dereference(&self, model: &RouterModel) -> Result<References, Error> {
        let (context, namespace, spec) = (self.context, self.owner.key.namespace.as_str(), &model.spec);
        let mut dependencies = BTreeSet::new();
        let mut found = References::default();
        if let Some(reference) = &spec.experts.expert_router_ref {
            dependencies.insert(Dependency::Router(reference.name.clone()));
            let router = context.routers.get(namespace, &reference.name);
            found.router = router.and_then(|router| router.0.as_ref().ok().cloned());
        }
        if let Some(key) = &spec.queries.config_map_ref {
            dependencies.insert(Dependency::Object(Kind::AnyConfigMap, key.name.clone()));
            let api = Api::<ConfigMap>::namespaced(context.client.clone(), namespace);
            let what = format!("ConfigMap {}", key.name);
            let read = api.get_opt(&key.name).await.map_err(|source| Error::Read { what, source: Box::new(source) })?;
            found.queries = read.map(|map| map.data.unwrap_or_default().remove(&key.key));
        }
        let experts: Vec<Expert> = match &found.router {
            Some(router) => router.spec.experts.clone(),
            None => spec.experts.endpoints.clone(),
        };
        let named = Named::by(spec, &experts);
        let names = named.secret_keys.iter().map(|key| (&key.name, Some(&key.key))).chain(named.secrets.iter().map(|it| (&it.name, None)));
        for (name, key) in names {
            dependencies.insert(Dependency::Object(Kind::Secret, name.clone()));
            let version = context.cache.get(Kind::Secret, namespace, name).map(|seen| seen.resource_version.clone());
            found.secret_versions.extend(version.map(|version| (name.clone(), version)));
            match (context.secret_keys(namespace, name).await?, key) {
                (None, _) => found.missing_secrets.push(format!("there is no Secret {name}")),
                (Some(keys), Some(key)) if !keys.contains(key) => {
                    found.missing_secrets.push(format!("the Secret {name} has no key {key}, or an empty one"));
                }
                _ => {}
            }
        }
        for claim in named.claims {
            dependencies.insert(Dependency::Object(Kind::PersistentVolumeClaim, claim.clone()));
            if context.cache.get(Kind::PersistentVolumeClaim, namespace, &claim).is_none() {
                found.missing_claims.push(claim);
            }
        }
        context.dependencies.record(&self.owner.key, dependencies);
        Ok(found)
    }

    /// The model's Jobs, while they are kept, and their Pods. Reads.
    async fn observe(&self) -> Result<Observed, Error> {
        let children = self.context.cache.children(&self.owner.uid);
        let jobs: Vec<SeenJob> = children
            .into_iter()
            .filter_map(|(kind, name, seen)| match (&seen.detail, kind) {
                (Detail::Job(_), Kind::Job) if seen.deleting => Some(SeenJob { name, uid: seen.uid.clone(), state: JobState::Active }),
                (Detail::Job(status), Kind::Job) => Some(SeenJob { name, uid: seen.uid.clone(), state: JobState::of(status) }),
                _ => None,
            })
            .collect();
        if jobs.is_empty() {
            return Ok(Observed::default());
        }
        let api = Api::<Pod>::namespaced(self.context.client.clone(), &self.owner.key.namespace);
        let selector = format!("{}={},{}=job", names::MODEL, names::label_value(&self.owner.key.name), names::ROLE);
        let listed = api.list(&ListParams::default().labels(&selector)).await;
        let listed = listed.map_err(|source| Error::Read { what: "Pods of Jobs".to_owned(), source: Box::new(source) })?;
        Ok(Observed { jobs, pods: listed.items.iter().filter_map(SeenPod::of).collect() })
    }

    /// Ends Jobs whose inputs are no more, and makes what is due. Writes.
    async fn apply(&self, model: &ValidModel, standing: &Standing, observed: &Observed) -> Result<(), Error> {
        let is_over = |job: &&SeenJob| job.state == JobState::Active && standing.active.as_deref() != Some(job.name.as_str());
        for job in observed.jobs.iter().filter(is_over) {
            self.end(job).await?;
        }
        let mut children = vec![Child::of(Kind::ConfigMap, &jobs::config_map(model))];
        let namespace = self.owner.key.namespace.as_str();
        // A claim cannot be changed: it is made once.
        let claim =
            jobs::claim(model).filter(|_| self.context.cache.get(Kind::PersistentVolumeClaim, namespace, &model.workspace.claim).is_none());
        children.extend(claim.map(|claim| Child::of(Kind::PersistentVolumeClaim, &claim)));
        children.extend(standing.job.as_deref().map(|job| Child::of(Kind::Job, job)));
        self.context.applier.apply(&self.owner, &children, &[]).await?;
        Ok(())
    }

    async fn end(&self, job: &SeenJob) -> Result<(), Error> {
        let api = Api::<Job>::namespaced(self.context.client.clone(), &self.owner.key.namespace);
        let preconditions = Preconditions { uid: Some(job.uid.clone()), resource_version: None };
        match api.delete(&job.name, &DeleteParams::background().preconditions(preconditions)).await {
            Ok(_) => {
                self.context.metrics.applied("Job", "delete");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(source) => {
                let (kind, name) = ("Job".to_owned(), job.name.clone());
                Err(ApplyError::Delete { kind, name, source: Box::new(source) }.into())
            }
        }
    }

    /// Tells how it stands, where that is news. Writes.
    async fn tell(&self, findings: &[Finding], status: &RouterModelStatus, happenings: Vec<Happening>) -> Result<(), Error> {
        let written = self.context.status.write(&self.owner, &self.version, &self.before, status).await?;
        if written {
            let news = of_conditions(&self.before.conditions, findings, &report::WAITS);
            for happening in happenings.iter().chain(&news) {
                self.context.events.publish(&self.owner, happening).await;
            }
        }
        Ok(())
    }
}
