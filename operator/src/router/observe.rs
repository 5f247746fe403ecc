//! Data-plane Pods asked how they are: what they spent, which snapshot is in force in them, and what they think of its bundle.
//!
//! Asked every few seconds, of routers with a budget or a model, by the admin port. What is learnt is kept for the next visit, and a visit
//! is asked for only where something changed that it would write.

mod ask;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use api::{ExpertRouter, router::Budget};
use futures_util::{StreamExt, stream};

use super::{judge::Report, spend::Ledger};
use crate::{
    cache::Detail,
    context::Context,
    owner::{Owner, OwnerKey},
};
use ask::{Asked, Asking, Http};

/// Routers looked after at once.
const AT_ONCE: usize = 32;

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

/// Asks, for ever.
pub async fn watch(context: Arc<Context>) {
    let http = ask::http();
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
    let pods = context.pods(&owner.key).into_iter().filter_map(|(name, seen)| {
        let Detail::Pod(pod) = &seen.detail else { return None };
        (!pod.finished).then(|| Asking { name, uid: seen.uid.clone(), admin: pod.admin.clone() })
    });
    let asked = ask::all(&http, pods.collect()).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if context.router_state.learn(&owner, &router.spec.budgets, &asked, now) {
        context.triggers.send(OwnerKey::router(&owner.key.namespace, &owner.key.name));
    }
}

#[cfg(test)]
mod tests {
    use super::{ask::Answer, *};
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
}
