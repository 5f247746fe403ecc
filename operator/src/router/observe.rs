//! Data-plane Pods asked how they are: what they spent, which snapshot is in force in them, and what they think of its bundle.
//!
//! Asked every few seconds, of routers with a budget or a model, by the admin port. What is learnt is kept for the next visit, and a visit
//! is asked for only where something changed that it would write.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use api::{ExpertRouter, router::Budget};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{
    judge::Report,
    spend::{Ledger, read_metrics},
};
use crate::{
    cache::Detail,
    context::Context,
    owner::{Owner, OwnerKey},
};

/// Pods asked at once.
const AT_ONCE: usize = 32;
/// A Pod that takes longer is asked again next time.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than this is no answer of a proxy.
const MOST_BYTES: usize = 4 << 20;

type Http = Client<HttpConnector, Empty<Bytes>>;

/// Kept from one visit to the next, of all routers, by uid.
#[derive(Debug, Default)]
pub struct Routers {
    routers: Mutex<HashMap<String, Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    reports: BTreeMap<String, Report>,
    /// Up to date; absent before the first visit.
    ledger: Option<Ledger>,
    /// As in the ConfigMap and in the snapshot.
    written: Ledger,
    written_at: Option<Instant>,
}

impl Routers {
    /// A router is no more.
    pub fn forget(&self, owner: &Owner) {
        self.lock().remove(&owner.uid);
    }

    /// What its proxies said of themselves, by Pod.
    #[must_use]
    pub fn reports(&self, owner: &Owner) -> BTreeMap<String, Report> {
        self.lock().get(&owner.uid).map(|kept| kept.reports.clone()).unwrap_or_default()
    }

    /// What was spent, as the snapshot is to say it. `stored` is the ConfigMap's content, from which the first visit goes on.
    #[must_use]
    pub fn spent(&self, owner: &Owner, budgets: &[Budget], stored: Option<&str>) -> BTreeMap<String, (f64, u64)> {
        let mut routers = self.lock();
        let kept = routers.entry(owner.uid.clone()).or_default();
        if kept.ledger.is_none() {
            let ledger = stored.and_then(|json| match serde_json::from_str::<Ledger>(json) {
                Ok(ledger) => Some(ledger),
                Err(error) => {
                    tracing::warn!(router = owner.key.name, namespace = owner.key.namespace, %error, "what was spent is not known any more");
                    None
                }
            });
            kept.written = ledger.clone().unwrap_or_default();
            kept.ledger = Some(ledger.unwrap_or_default());
        }
        let mut spent = kept.written.spent();
        spent.retain(|name, _| budgets.iter().any(|budget| budget.name == *name));
        spent
    }

    /// What the ConfigMap is to have; nothing while nothing was spent.
    #[must_use]
    pub fn spend_to_keep(&self, owner: &Owner, budgets: &[Budget]) -> Option<String> {
        let routers = self.lock();
        let written = &routers.get(&owner.uid)?.written;
        let nothing = budgets.is_empty() || *written == Ledger::default();
        (!nothing).then(|| serde_json::to_string(written).expect("a ledger has string keys only"))
    }

    /// A round of questions was answered. Returns whether a visit would write something for it.
    fn learn(&self, owner: &Owner, budgets: &[Budget], pods: &[Asked], now: u64) -> bool {
        let mut routers = self.lock();
        let Some(kept) = routers.get_mut(&owner.uid) else { return false };
        // Who did not answer is as it was.
        let reports: BTreeMap<String, Report> = pods
            .iter()
            .filter_map(|pod| {
                Some((
                    pod.name.clone(),
                    pod.answer.as_ref().map(|answer| answer.report.clone()).or_else(|| kept.reports.get(&pod.name).cloned())?,
                ))
            })
            .collect();
        let changed = reports != kept.reports;
        kept.reports = reports;
        let Some(ledger) = &mut kept.ledger else { return changed };
        for pod in pods {
            if let Some(answer) = &pod.answer {
                ledger.observe(budgets, &pod.uid, answer.counter, now);
            }
        }
        ledger.settle(budgets, &pods.iter().map(|pod| pod.uid.clone()).collect(), now);
        let age = kept.written_at.map_or(u64::MAX, |at| at.elapsed().as_secs());
        let due = ledger.is_due(&kept.written, budgets, age);
        if due {
            kept.written = ledger.clone();
            kept.written_at = Some(Instant::now());
        }
        changed || due
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.routers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A Pod that was asked.
struct Asked {
    name: String,
    uid: String,
    answer: Option<Answer>,
}

struct Answer {
    report: Report,
    counter: super::spend::Counter,
}

/// Asks, for ever.
pub async fn watch(context: Arc<Context>) {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(PATIENCE));
    let http: Http = Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(60)).build(connector);
    loop {
        tokio::time::sleep(context.config.spend_every).await;
        count(&context);
        let rounds = context.routers.all().into_iter().filter_map(|router| {
            let router = router.0.as_ref().ok()?;
            let wanted = router.spec.model.is_some() || !router.spec.budgets.is_empty();
            wanted.then(|| round(context.clone(), http.clone(), router.clone()))
        });
        stream::iter(rounds).buffer_unordered(AT_ONCE).collect::<()>().await;
    }
}

/// How many objects of ours are Ready, for `/metrics`.
fn count(context: &Context) {
    let ready = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
        conditions.iter().find(|condition| condition.type_ == "Ready").map_or("Unknown", |condition| match condition.status.as_str() {
            "True" => "True",
            "False" => "False",
            _ => "Unknown",
        })
    };
    let of_router = |router: &ExpertRouter| router.status.as_ref().map_or("Unknown", |status| ready(&status.conditions));
    let of_model = |model: &api::RouterModel| model.status.as_ref().map_or("Unknown", |status| ready(&status.conditions));
    let routers: Vec<_> = context.routers.all().iter().map(|router| router.0.as_ref().map_or("Unknown", of_router)).collect();
    let models: Vec<_> = context.models.all().iter().map(|model| model.0.as_ref().map_or("Unknown", of_model)).collect();
    let all = context.models.all();
    let trainings = all.iter().filter_map(|model| {
        let model = model.0.as_ref().ok()?;
        Some((model.metadata.namespace.as_deref()?, model.metadata.name.as_deref()?, model.status.as_ref()?))
    });
    context.metrics.trainings(trainings);
    for (kind, found) in [("ExpertRouter", routers), ("RouterModel", models)] {
        for verdict in ["True", "False", "Unknown"] {
            context.metrics.count(kind, verdict, found.iter().filter(|of| **of == verdict).count());
        }
    }
}

async fn round(context: Arc<Context>, http: Http, router: ExpertRouter) {
    let owner = Owner::of_router(&router.metadata);
    let mut asked = Vec::new();
    for (name, seen) in context.pods(&owner.key) {
        let Detail::Pod(pod) = &seen.detail else { continue };
        if pod.finished {
            continue;
        }
        let answer = match &pod.admin {
            Some(admin) => ask(&http, admin).await,
            None => None,
        };
        asked.push(Asked { name, uid: seen.uid.clone(), answer });
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if context.router_state.learn(&owner, &router.spec.budgets, &asked, now) {
        context.triggers.send(OwnerKey::router(&owner.key.namespace, &owner.key.name));
    }
}

async fn ask(http: &Http, admin: &str) -> Option<Answer> {
    let sample = read_metrics(&get(http, admin, "/metrics").await?);
    let mut report = Report { revision: sample.revision, model_ready: sample.model_ready, problem: None };
    if !sample.model_ready {
        let snapshot = get(http, admin, "/snapshot").await?;
        report.problem = problem(&snapshot);
    }
    Some(Answer { report, counter: sample.counter })
}

/// What a proxy says is wrong with its bundle.
fn problem(snapshot: &str) -> Option<String> {
    let snapshot: serde_json::Value = serde_json::from_str(snapshot).ok()?;
    Some(snapshot.pointer("/model/problem")?.as_str()?.to_owned())
}

async fn get(http: &Http, admin: &str, path: &str) -> Option<String> {
    let uri = format!("http://{admin}{path}").parse().ok()?;
    let answer = async {
        let response = http.get(uri).await.ok().filter(|response| response.status().is_success())?;
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.ok()?;
        String::from_utf8(body.to_bytes().to_vec()).ok()
    };
    tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::spend::Counter;

    fn owner() -> Owner {
        Owner { key: OwnerKey::router("llm", "chat"), uid: "r".to_owned() }
    }

    fn budgets() -> Vec<Budget> {
        vec![
            serde_json::from_value(serde_json::json!({"name": "day", "amountUsd": "10", "period": "Day", "onExceeded": "Refuse"})).unwrap(),
        ]
    }

    fn asked(usd: f64) -> Vec<Asked> {
        let answer = Answer { report: Report::default(), counter: Counter { started: 100, usd } };
        vec![Asked { name: "a".into(), uid: "1".into(), answer: Some(answer) }]
    }

    #[test]
    fn what_was_spent_is_told_when_it_matters_and_known_to_the_next_operator() {
        let routers = Routers::default();
        assert!(routers.spent(&owner(), &budgets(), None).is_empty());
        assert_eq!(routers.spend_to_keep(&owner(), &budgets()), None);
        assert!(routers.learn(&owner(), &budgets(), &asked(1.0), 200));
        assert!(!routers.learn(&owner(), &budgets(), &asked(1.0), 210), "nothing came since");
        assert_eq!(routers.spent(&owner(), &budgets(), None)["day"].0, 1.0);
        let kept = routers.spend_to_keep(&owner(), &budgets()).unwrap();
        let next = Routers::default();
        assert_eq!(next.spent(&owner(), &budgets(), Some(&kept))["day"].0, 1.0);
        assert_eq!(next.spend_to_keep(&owner(), &budgets()), Some(kept));
        assert!(next.spent(&owner(), &[], None).is_empty());
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_begun_anew() {
        assert!(Routers::default().spent(&owner(), &budgets(), Some("[")).is_empty());
    }

    #[test]
    fn a_proxy_that_does_not_answer_is_as_it_was() {
        let routers = Routers::default();
        drop(routers.spent(&owner(), &budgets(), None));
        routers.learn(&owner(), &budgets(), &asked(1.0), 200);
        let silent = vec![Asked { name: "a".into(), uid: "1".into(), answer: None }];
        assert!(!routers.learn(&owner(), &budgets(), &silent, 210));
        assert_eq!(routers.reports(&owner()).len(), 1);
    }

    #[test]
    fn a_broken_bundle_is_heard_of() {
        assert_eq!(problem(r#"{"model": {"state": "broken", "problem": "bundle /a: no"}}"#).as_deref(), Some("bundle /a: no"));
        assert_eq!(problem(r#"{"model": {"state": "none"}}"#), None);
        assert_eq!(problem("<html>"), None);
    }
}
