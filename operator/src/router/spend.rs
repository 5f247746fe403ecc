//! What all proxies of a router together have spent, by budget. Pure: counters and the time come in as arguments.
//!
//! Each proxy counts dollars since it started. The ledger remembers of each the last count, so that only what came since is added, and is
//! kept in a ConfigMap, so that a new operator goes on from it. It is written, and handed back to the proxies in the snapshot, when that
//! matters: enough was spent since, a budget was crossed, or a period began.

use std::collections::{BTreeMap, BTreeSet};

use api::router::Budget;
use routing::budget::period_start;
use serde::{Deserialize, Serialize};

/// A hundredth of an amount is worth a write; less waits.
const WORTH_A_WRITE: f64 = 0.01;
/// However little was spent, it is written after this many seconds.
const AT_LATEST: u64 = 300;

/// What was spent, and by whom it was counted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ledger {
    /// By budget.
    pub accounts: BTreeMap<String, Account>,
    /// By the uid of the Pod.
    pub counters: BTreeMap<String, Counter>,
}

/// What was spent of a budget in a period.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Account {
    /// Seconds since 1970.
    pub period_start: u64,
    /// In USD.
    pub spent_usd: f64,
}

/// What a proxy had counted when it was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counter {
    /// When its process started, in whole seconds since 1970: a later one counts from nothing again.
    pub started: u64,
    /// In USD.
    pub usd: f64,
}

impl Ledger {
    /// A proxy has counted so much by now.
    pub fn observe(&mut self, budgets: &[Budget], pod: &str, counter: Counter, now: u64) {
        let before = self.counters.insert(pod.to_owned(), counter);
        let spent = match before {
            Some(before) if before.started == counter.started => counter.usd - before.usd,
            Some(_) | None => counter.usd,
        };
        for budget in budgets {
            let start = period_start(budget.period, now);
            let account = self.account(&budget.name, start);
            // Of a process that was not known before, what it spent in earlier periods cannot be told from the rest.
            if before.is_some() || counter.started >= start {
                account.spent_usd += spent.max(0.0);
            }
        }
    }

    /// Time passed: periods begin, and budgets and proxies that are no more are forgotten.
    pub fn settle(&mut self, budgets: &[Budget], pods: &BTreeSet<String>, now: u64) {
        self.accounts.retain(|name, _| budgets.iter().any(|budget| budget.name == *name));
        self.counters.retain(|pod, _| pods.contains(pod));
        for budget in budgets.iter().filter(|budget| self.accounts.contains_key(&budget.name)).collect::<Vec<_>>() {
            self.account(&budget.name, period_start(budget.period, now));
        }
    }

    fn account(&mut self, budget: &str, period_start: u64) -> &mut Account {
        let account = self.accounts.entry(budget.to_owned()).or_default();
        if account.period_start != period_start {
            *account = Account { period_start, spent_usd: 0.0 };
        }
        account
    }

    /// Whether it differs from what was written last by so much that it is to be written, `age` seconds later.
    #[must_use]
    pub fn is_due(&self, written: &Self, budgets: &[Budget], age: u64) -> bool {
        let worth = |budget: &Budget| {
            let amount = budget.amount_usd.value();
            let [now, then] = [self, written].map(|ledger| ledger.accounts.get(&budget.name).copied().unwrap_or_default());
            let crossed = (now.spent_usd >= amount) != (then.spent_usd >= amount);
            let spent = now.spent_usd - then.spent_usd;
            let began = now.period_start != then.period_start && (now.spent_usd > 0.0 || then.spent_usd > 0.0);
            began || crossed && now.spent_usd > 0.0 || spent > 0.0 && (spent >= amount * WORTH_A_WRITE || age >= AT_LATEST)
        };
        budgets.iter().any(worth)
    }

    /// As in the snapshot.
    #[must_use]
    pub fn spent(&self) -> BTreeMap<String, (f64, u64)> {
        self.accounts.iter().map(|(name, account)| (name.clone(), (account.spent_usd, account.period_start))).collect()
    }
}

/// What a proxy's metrics say: its count, the revision in force, and whether a bundle is in use.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// Dollars, and since when.
    pub counter: Counter,
    /// The snapshot in force.
    pub revision: String,
    /// A bundle is loaded and in use.
    pub model_ready: bool,
}

/// Reads the text of `/metrics`. Bytes from outside: what makes no sense counts as nothing.
#[must_use]
pub fn read_metrics(text: &str) -> Sample {
    let mut sample = Sample::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let value = value.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0).unwrap_or(0.0);
        match name {
            "expert_router_cost_usd_total" => sample.counter.usd += value,
            "process_start_time_seconds" => sample.counter.started = value as u64,
            "expert_router_model_ready" => sample.model_ready = value > 0.0,
            "expert_router_snapshot_info" if value > 0.0 => {
                let revision = labels.split_once("revision=\"").and_then(|(_, rest)| rest.split('"').next());
                sample.revision = revision.unwrap_or_default().to_owned();
            }
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONDAY: u64 = 1_767_571_200;
    const DAY: u64 = 86_400;

    fn budgets() -> Vec<Budget> {
        let budget = |name: &str, amount: &str, period: &str| {
            serde_json::from_value(serde_json::json!({"name": name, "amountUsd": amount, "period": period, "onExceeded": "Refuse"}))
                .unwrap()
        };
        vec![budget("day", "10", "Day"), budget("week", "100", "Week")]
    }

    fn counter(usd: f64) -> Counter {
        Counter { started: MONDAY + 10, usd }
    }

    fn spent(ledger: &Ledger) -> [f64; 2] {
        ["day", "week"].map(|name| ledger.accounts.get(name).map_or(f64::NAN, |account| account.spent_usd))
    }

    #[test]
    fn only_what_came_since_is_added() {
        let mut ledger = Ledger::default();
        ledger.observe(&budgets(), "a", counter(2.0), MONDAY + 20);
        ledger.observe(&budgets(), "b", counter(1.0), MONDAY + 20);
        ledger.observe(&budgets(), "a", counter(2.5), MONDAY + 30);
        assert_eq!(spent(&ledger), [3.5, 3.5]);
        // Restarted: it counts from nothing.
        ledger.observe(&budgets(), "a", Counter { started: MONDAY + 40, usd: 0.25 }, MONDAY + 50);
        assert_eq!(spent(&ledger), [3.75, 3.75]);
    }

    #[test]
    fn a_period_begins_with_nothing_spent() {
        let mut ledger = Ledger::default();
        ledger.observe(&budgets(), "a", counter(2.0), MONDAY + 20);
        ledger.observe(&budgets(), "a", counter(2.5), MONDAY + DAY + 1);
        assert_eq!(spent(&ledger), [0.5, 2.5]);
    }

    #[test]
    fn what_an_unknown_process_spent_in_earlier_periods_is_not_this_ones() {
        let mut ledger = Ledger::default();
        ledger.observe(&budgets(), "a", counter(7.0), MONDAY + DAY + 1);
        assert_eq!(spent(&ledger), [0.0, 7.0]);
    }

    #[test]
    fn it_survives_being_written_and_read() {
        let mut ledger = Ledger::default();
        ledger.observe(&budgets(), "a", counter(2.0), MONDAY + 20);
        let mut again: Ledger = serde_json::from_str(&serde_json::to_string(&ledger).unwrap()).unwrap();
        assert_eq!(again, ledger);
        again.observe(&budgets(), "a", counter(2.0), MONDAY + 30);
        assert_eq!(spent(&again), [2.0, 2.0]);
    }

    #[test]
    fn little_is_not_worth_a_write_and_much_is() {
        let mut ledger = Ledger::default();
        let written = ledger.clone();
        assert!(!ledger.is_due(&written, &budgets(), 1000));
        ledger.observe(&budgets(), "a", counter(0.05), MONDAY + 20);
        let begun = ledger.clone();
        assert!(ledger.is_due(&written, &budgets(), 0), "a period began");
        ledger.observe(&budgets(), "a", counter(0.1), MONDAY + 30);
        assert!(!ledger.is_due(&begun, &budgets(), 10));
        assert!(ledger.is_due(&begun, &budgets(), AT_LATEST));
        ledger.observe(&budgets(), "a", counter(0.2), MONDAY + 40);
        assert!(ledger.is_due(&begun, &budgets(), 0));
        ledger.observe(&budgets(), "a", counter(9.99), MONDAY + 50);
        let near = ledger.clone();
        ledger.observe(&budgets(), "a", counter(10.0), MONDAY + 60);
        assert!(ledger.is_due(&near, &budgets(), 0), "crossed");
    }

    #[test]
    fn what_is_no_more_is_forgotten() {
        let mut ledger = Ledger::default();
        ledger.observe(&budgets(), "a", counter(2.0), MONDAY + 20);
        ledger.settle(&budgets()[1..], &BTreeSet::new(), MONDAY + 30);
        assert!(ledger.counters.is_empty() && !ledger.accounts.contains_key("day"));
        assert_eq!(ledger.accounts["week"].spent_usd, 2.0);
    }

    #[test]
    fn metrics_are_read_as_the_proxy_writes_them() {
        let text = "# HELP expert_router_cost_usd_total What answers cost, in USD.\n# TYPE expert_router_cost_usd_total counter\n\
                    expert_router_cost_usd_total{expert=\"a b\"} 1.5\nexpert_router_cost_usd_total{expert=\"c\"} 0.25\n\
                    expert_router_snapshot_info{revision=\"0a1b\"} 1\nexpert_router_model_ready 1\nprocess_start_time_seconds 1767571210.5\n\
                    nonsense\nexpert_router_cost_usd_total{expert=\"d\"} NaN\n";
        let sample = read_metrics(text);
        assert_eq!(sample, Sample { counter: Counter { started: MONDAY + 10, usd: 1.75 }, revision: "0a1b".into(), model_ready: true });
    }
}
