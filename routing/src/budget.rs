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

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, ToSpan, civil::Weekday, tz::TimeZone};
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-24T02:00:00Z, a Tuesday.
    const NOW: u64 = 1_795_485_600;

    fn budget(name: &str, amount_usd: f64, period: Period, on_exceeded: OnExceeded) -> Budget {
        Budget { name: name.into(), amount_usd, period, on_exceeded, per_client_key: false, spent_usd: 0.0, period_start: 0 }
    }

    #[test]
    fn nothing_is_exceeded_until_the_amount_is_reached() {
        let budgets = [budget("day", 1.0, Period::Day, OnExceeded::PreferCheaper)];
        let mut ledger = Ledger::default();
        ledger.adopt(&budgets, NOW);
        ledger.spend(&budgets, None, 0.75, NOW);
        assert_eq!(ledger.verdict(&budgets, None, NOW), Verdict::NotExceeded);
        ledger.spend(&budgets, Some("team"), 0.25, NOW);
        assert_eq!(ledger.verdict(&budgets, None, NOW), Verdict::PreferCheaper);
        assert_eq!(ledger.verdict(&budgets, None, NOW + DAY), Verdict::NotExceeded);
    }

    #[test]
    fn refusing_wins_and_lasts_until_the_last_refusing_period_ends() {
        let budgets = [
            budget("a", 1.0, Period::Day, OnExceeded::Refuse),
            budget("b", 1.0, Period::Week, OnExceeded::Refuse),
            budget("c", 1.0, Period::Month, OnExceeded::PreferCheaper),
        ];
        let mut ledger = Ledger::default();
        ledger.spend(&budgets, None, 2.0, NOW);
        // From Tuesday 02:00 to Monday 00:00.
        assert_eq!(ledger.verdict(&budgets, None, NOW), Verdict::Refuse { retry_after_seconds: 6 * DAY - 2 * 3600 });
        assert_eq!(ledger.verdict(&budgets[..1], None, NOW), Verdict::Refuse { retry_after_seconds: 22 * 3600 });
    }

    #[test]
    fn client_keys_are_counted_apart_where_the_budget_says_so() {
        let budgets = [Budget { per_client_key: true, ..budget("key", 1.0, Period::Month, OnExceeded::PreferCheaper) }];
        let mut ledger = Ledger::default();
        ledger.spend(&budgets, Some("red"), 1.5, NOW);
        let verdict = |key| ledger.verdict(&budgets, key, NOW);
        assert_eq!(
            (verdict(Some("red")), verdict(Some("blue")), verdict(None)),
            (Verdict::PreferCheaper, Verdict::NotExceeded, Verdict::NotExceeded)
        );
    }

    #[test]
    fn the_sum_of_all_pods_is_adopted_where_it_is_more_and_of_this_period() {
        let start = period_start(Period::Month, NOW);
        let told = |spent_usd, period_start| [Budget { spent_usd, period_start, ..budget("m", 10.0, Period::Month, OnExceeded::Refuse) }];
        let mut ledger = Ledger::default();
        let mut spent_after = |budgets: &[Budget]| {
            ledger.adopt(budgets, NOW);
            ledger.spend(budgets, None, 1.0, NOW);
            ledger.spent_usd(&budgets[0], None, NOW)
        };
        assert_eq!(spent_after(&told(4.0, start)), 5.0);
        assert_eq!(spent_after(&told(4.0, start)), 6.0, "the same sum again changes nothing");
        assert_eq!(spent_after(&told(5.5, start)), 7.0, "a sum that lags behind does not lower it");
        assert_eq!(spent_after(&told(9.0, start - 1)), 8.0, "last month's sum is not this month's");
        assert_eq!(spent_after(&told(9.0, start)), 10.0);
    }

    #[test]
    fn a_ledger_survives_a_restart_and_forgets_budgets_that_are_gone() {
        let budgets = [budget("a", 1.0, Period::Month, OnExceeded::Refuse), budget("b", 1.0, Period::Month, OnExceeded::Refuse)];
        let mut ledger = Ledger::default();
        ledger.spend(&budgets, Some("team"), 1.25, NOW);
        let mut again: Ledger = serde_json::from_str(&serde_json::to_string(&ledger).unwrap()).unwrap();
        assert_eq!(again, ledger);
        again.adopt(&budgets[..1], NOW);
        assert_eq!((again.spent_usd(&budgets[0], None, NOW), again.spent_usd(&budgets[1], None, NOW)), (1.25, 0.0));
    }

    #[test]
    fn costs_that_are_no_numbers_are_not_spent() {
        let budgets = [budget("a", 1.0, Period::Day, OnExceeded::Refuse)];
        let mut ledger = Ledger::default();
        [f64::NAN, -5.0, 0.0].into_iter().for_each(|usd| ledger.spend(&budgets, None, usd, NOW));
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        for now in [0, DAY, 3 * DAY, 4 * DAY, 253_402_300_799, u64::MAX / 2, u64::MAX] {
            for period in [Period::Day, Period::Week, Period::Month] {
                assert!(period_start(period, now) <= now && period_end(period, now) >= period_start(period, now));
            }
        }
        assert_eq!((period_end(Period::Week, 0), period_start(Period::Week, 4 * DAY)), (4 * DAY, 4 * DAY));
    }

    proptest! {
        #[test]
        fn periods_are_those_of_the_calendar(now in 400_000_u64..16_000_000_000) {
            let time = Timestamp::from_second(now as i64).unwrap().to_zoned(TimeZone::UTC);
            let day = time.start_of_day().unwrap();
            let month = day.first_of_month().unwrap();
            let week = day.checked_sub((day.weekday().since(Weekday::Monday) as i64).days()).unwrap();
            for (period, start, end) in [
                (Period::Day, &day, day.tomorrow().unwrap()),
                (Period::Week, &week, week.checked_add(7.days()).unwrap()),
                (Period::Month, &month, month.checked_add(1.month()).unwrap()),
            ] {
                prop_assert_eq!(period_start(period, now) as i64, start.timestamp().as_second());
                prop_assert_eq!(period_end(period, now) as i64, end.timestamp().as_second());
            }
        }
    }
}
