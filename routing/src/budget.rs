//! Money spent per calendar period, against the amounts that may be.
//!
//! In: the snapshot's budgets (with what all Pods together had spent when it was written), what each request cost, and the time as
//! seconds since 1970. Out: whether a budget is spent, and what to do then. The ledger serialises, so that a process that has nobody
//! above it can keep it in a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::snapshot::{Budget, OnExceeded, Period};

const DAY: u64 = 86_400;

/// What the budgets say to one more request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// None is spent.
    NotExceeded,
    /// One is, and says to choose the cheapest candidate.
    PreferCheaper,
    /// One is, and says to refuse until its period ends.
    Refuse {
        /// Until the last of the refusing budgets starts anew.
        retry_after_seconds: u64,
    },
}

/// What was spent, by budget.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ledger {
    accounts: BTreeMap<String, Account>,
}

/// What was spent of one budget in one period.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Account {
    period_start: u64,
    spent_usd: f64,
    /// For budgets per client key; requests without a key share the empty one.
    by_client_key: BTreeMap<String, f64>,
}

impl Ledger {
    /// A snapshot came. Budgets that are no more are forgotten. What all Pods had spent is taken over where it is more than what is
    /// known here: it lags behind by what was spent since it was summed, so it never lowers the sum.
    pub fn adopt(&mut self, budgets: &[Budget], now: u64) {
        self.accounts.retain(|name, _| budgets.iter().any(|budget| budget.name == *name));
        for budget in budgets {
            let account = self.account(budget, now);
            if budget.period_start == account.period_start && budget.spent_usd > account.spent_usd {
                account.spent_usd = budget.spent_usd;
            }
        }
    }

    /// A request of that client key cost `usd`.
    pub fn spend(&mut self, budgets: &[Budget], client_key: Option<&str>, usd: f64, now: u64) {
        if usd.is_nan() || usd <= 0.0 {
            return;
        }
        for budget in budgets {
            let account = self.account(budget, now);
            account.spent_usd += usd;
            if budget.per_client_key {
                *account.by_client_key.entry(client_key.unwrap_or_default().to_owned()).or_default() += usd;
            }
        }
    }

    /// What the budgets say to one more request of that client key. The harshest wins.
    #[must_use]
    pub fn verdict(&self, budgets: &[Budget], client_key: Option<&str>, now: u64) -> Verdict {
        let mut verdict = Verdict::NotExceeded;
        for budget in budgets.iter().filter(|budget| self.spent_usd(budget, client_key, now) >= budget.amount_usd) {
            verdict = match (budget.on_exceeded, verdict) {
                (OnExceeded::Refuse, earlier) => {
                    let wait = period_end(budget.period, now).saturating_sub(now).max(1);
                    let before = if let Verdict::Refuse { retry_after_seconds } = earlier { retry_after_seconds } else { 0 };
                    Verdict::Refuse { retry_after_seconds: wait.max(before) }
                }
                (OnExceeded::PreferCheaper, Verdict::NotExceeded) => Verdict::PreferCheaper,
                (OnExceeded::PreferCheaper, earlier) => earlier,
            };
        }
        verdict
    }

    /// Spent of a budget in the current period: by that client key where it is counted per key, else by all.
    #[must_use]
    pub fn spent_usd(&self, budget: &Budget, client_key: Option<&str>, now: u64) -> f64 {
        match self.accounts.get(&budget.name) {
            Some(account) if account.period_start == period_start(budget.period, now) => {
                if budget.per_client_key {
                    account.by_client_key.get(client_key.unwrap_or_default()).copied().unwrap_or(0.0)
                } else {
                    account.spent_usd
                }
            }
            _ => 0.0,
        }
    }

    /// The account of the current period, begun anew where the period changed.
    fn account(&mut self, budget: &Budget, now: u64) -> &mut Account {
        let start = period_start(budget.period, now);
        let account = self.accounts.entry(budget.name.clone()).or_default();
        if account.period_start != start {
            *account = Account { period_start: start, ..Account::default() };
        }
        account
    }
}

/// The start of the period `now` lies in; both seconds since 1970, UTC.
#[must_use]
pub fn period_start(period: Period, now: u64) -> u64 {
    let day = now / DAY;
    DAY * match period {
        Period::Day => day,
        // 1970 began on a Thursday, three days after a Monday; the three days before 1970 are left out.
        Period::Week => day.saturating_sub((day + 3) % 7),
        Period::Month => day - (day_of_month(day) - 1),
    }
}

/// The start of the next period.
#[must_use]
pub fn period_end(period: Period, now: u64) -> u64 {
    let start = period_start(period, now);
    match period {
        Period::Day => start.saturating_add(DAY),
        Period::Week if start == 0 => 4 * DAY,
        Period::Week => start.saturating_add(7 * DAY),
        // The 32nd day from a first of the month lies in the next month.
        Period::Month => period_start(period, start.saturating_add(31 * DAY)),
    }
}

/// Day of the month (from 1) of a day since 1970, by the Gregorian calendar's 400-year cycle, whose years are counted from 1 March so
/// that leap days come last.
fn day_of_month(day: u64) -> u64 {
    let since_year_0 = day + 719_468;
    let day_of_era = since_year_0 % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    day_of_year - (153 * month + 2) / 5 + 1
}
