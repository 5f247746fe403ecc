//! Money spent against budgets, and its file.
//!
//! In: what each request cost. Out: whether a budget is spent. In a cluster the snapshot brings what all Pods have spent; standalone the
//! state file keeps it across restarts. The file is written whole beside the old one and renamed, so that it is never half a file.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use routing::{
    budget::{Ledger, Verdict, period_end},
    snapshot::Budget,
};

use crate::{shared::unix_seconds, state::lock};

/// The ledger behind a lock that is held for a few comparisons.
#[derive(Debug, Default)]
pub struct Spend {
    ledger: Mutex<Ledger>,
    changed: AtomicBool,
    file: Option<PathBuf>,
}

/// How a budget stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// In the current period, by all clients together.
    pub spent_usd: f64,
    /// Share of the amount; of a budget per client key, by the client that spent most.
    pub used: f64,
    /// Until the budget starts anew.
    pub remaining_seconds: u64,
}

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpendError {
    /// It cannot be read or written.
    #[error("cannot use the state file {file}: {source}")]
    File {
        /// Its path.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what this program writes.
    #[error("the state file {file} is not one of expert-router: {source}")]
    Content {
        /// Its path.
        file: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Spend {
    /// Goes on from the file, or from nothing where there is none yet.
    ///
    /// # Errors
    /// A file that is there and cannot be used: going on from nothing would spend a budget twice.
    pub fn open(file: Option<&Path>) -> Result<Self, SpendError> {
        let ledger = match file.map(|path| (path, std::fs::read(path))) {
            None => Ledger::default(),
            Some((_, Err(error))) if error.kind() == std::io::ErrorKind::NotFound => Ledger::default(),
            Some((path, Err(source))) => return Err(SpendError::File { file: path.display().to_string(), source }),
            Some((path, Ok(bytes))) => {
                serde_json::from_slice(&bytes).map_err(|source| SpendError::Content { file: path.display().to_string(), source })?
            }
        };
        Ok(Self { ledger: Mutex::new(ledger), changed: AtomicBool::new(false), file: file.map(Path::to_owned) })
    }

    /// A snapshot came.
    pub fn adopt(&self, budgets: &[Budget]) {
        lock(&self.ledger).adopt(budgets, unix_seconds());
    }

    /// What the budgets say to one more request of that client.
    #[must_use]
    pub fn verdict(&self, budgets: &[Budget], client: Option<&str>) -> Verdict {
        if budgets.is_empty() {
            return Verdict::NotExceeded;
        }
        lock(&self.ledger).verdict(budgets, client, unix_seconds())
    }

    /// A request cost so much.
    pub fn spend(&self, budgets: &[Budget], client: Option<&str>, usd: f64) {
        if budgets.is_empty() {
            return;
        }
        lock(&self.ledger).spend(budgets, client, usd, unix_seconds());
        self.changed.store(true, Ordering::Release);
    }

    /// Spent of each budget in its current period, by all clients together.
    #[must_use]
    pub fn totals(&self, budgets: &[Budget]) -> Vec<f64> {
        let (ledger, now) = (lock(&self.ledger), unix_seconds());
        let whole = |budget: &Budget| ledger.spent_usd(&Budget { per_client_key: false, ..budget.clone() }, None, now);
        budgets.iter().map(whole).collect()
    }

    /// How each budget stands, for people. `clients` are the names of all client keys.
    #[must_use]
    pub fn balances(&self, budgets: &[Budget], clients: &[&str]) -> Vec<Balance> {
        let (ledger, now) = (lock(&self.ledger), unix_seconds());
        let balance = |budget: &Budget| {
            let spent = |client| ledger.spent_usd(budget, client, now);
            let most = clients.iter().map(|client| spent(Some(*client))).fold(spent(None), f64::max);
            Balance {
                spent_usd: ledger.spent_usd(&Budget { per_client_key: false, ..budget.clone() }, None, now),
                used: if budget.amount_usd > 0.0 { most / budget.amount_usd } else { 1.0 },
                remaining_seconds: period_end(budget.period, now).saturating_sub(now),
            }
        };
        budgets.iter().map(balance).collect()
    }

    /// Writes the file, if there is one and anything changed since.
    ///
    /// # Errors
    /// The file that cannot be written; the next call tries again.
    pub fn save(&self) -> Result<(), SpendError> {
        let Some(path) = &self.file else { return Ok(()) };
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let failed = |source| {
            self.changed.store(true, Ordering::Release);
            SpendError::File { file: path.display().to_string(), source }
        };
        let bytes =
            serde_json::to_vec(&*lock(&self.ledger)).map_err(|source| SpendError::Content { file: path.display().to_string(), source })?;
        let beside = path.with_extension("new");
        std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path)).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use routing::snapshot::{OnExceeded, Period};

    use super::*;

    fn budget(amount_usd: f64) -> Vec<Budget> {
        vec![Budget {
            name: "day".into(),
            amount_usd,
            period: Period::Day,
            on_exceeded: OnExceeded::PreferCheaper,
            per_client_key: false,
            spent_usd: 0.0,
            period_start: 0,
        }]
    }

    #[test]
    fn what_was_spent_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let budgets = budget(2.0);
        let first = Spend::open(Some(&path)).unwrap();
        first.spend(&budgets, None, 1.5);
        first.save().unwrap();
        let second = Spend::open(Some(&path)).unwrap();
        second.adopt(&budgets);
        assert!((second.totals(&budgets)[0] - 1.5).abs() < 1e-9);
        assert_eq!(second.verdict(&budgets, None), Verdict::NotExceeded);
        second.spend(&budgets, None, 0.75);
        assert_eq!(second.verdict(&budgets, None), Verdict::PreferCheaper);
    }

    #[test]
    fn a_budget_per_client_is_as_used_as_by_the_client_that_spent_most() {
        let all = budget(4.0);
        let each = vec![Budget { per_client_key: true, name: "each".into(), ..all[0].clone() }];
        let budgets = [all, each].concat();
        let spend = Spend::default();
        spend.adopt(&budgets);
        spend.spend(&budgets, Some("red"), 1.0);
        spend.spend(&budgets, Some("blue"), 2.0);
        let balances = spend.balances(&budgets, &["red", "blue"]);
        assert_eq!(balances.iter().map(|balance| (balance.spent_usd, balance.used)).collect::<Vec<_>>(), [(3.0, 0.75), (3.0, 0.5)]);
        assert!(balances.iter().all(|balance| (1..=86_400).contains(&balance.remaining_seconds)));
    }

    #[test]
    fn a_file_of_something_else_is_refused_rather_than_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        std::fs::write(&path, "[1, 2]").unwrap();
        assert!(matches!(Spend::open(Some(&path)), Err(SpendError::Content { .. })));
    }
}
