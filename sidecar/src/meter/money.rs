//! What an answer cost, and what it would have cost from the baseline.

use routing::{Table, table::ExpertIndex};
use wire::Usage;

/// The bill of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Money {
    /// Real, or estimated.
    pub usage: Usage,
    /// The expert's server said nothing of usage.
    pub estimated: bool,
    /// The expert has prices.
    pub priced: bool,
    /// Nothing where it has none.
    pub cost_usd: f64,
    /// The policy's baseline expert for the same tokens and the same time; without one, the dearest of the router's experts.
    pub baseline_usd: Option<f64>,
}

impl Money {
    /// The bill.
    #[must_use]
    pub fn of(table: &Table, expert: ExpertIndex, usage: Usage, estimated: bool, busy_seconds: f64) -> Self {
        let cost = |expert: ExpertIndex| table.experts().get(expert)?.prices.map(|prices| prices.cost_usd(usage, busy_seconds));
        let own = cost(expert);
        let baseline_usd = match table.baseline() {
            Some(baseline) => cost(baseline),
            None => (0..table.experts().len()).filter_map(cost).max_by(f64::total_cmp),
        };
        Self { usage, estimated, priced: own.is_some(), cost_usd: own.unwrap_or(0.0), baseline_usd }
    }

    /// Less than nothing where the baseline would have been cheaper; unknown where one of the two has no prices.
    #[must_use]
    pub fn savings_usd(&self) -> Option<f64> {
        self.baseline_usd.filter(|_| self.priced).map(|baseline| baseline - self.cost_usd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(baseline: Option<&str>) -> Table {
        let json = serde_json::json!({
            "formatVersion": 1, "revision": "r", "router": "chat",
            "experts": [
                {"name": "free", "baseUrl": "http://127.0.0.1:1/v1", "modelName": "m"},
                {"name": "small", "baseUrl": "http://127.0.0.1:2/v1", "modelName": "m",
                 "prices": {"inputPerMillion": 1.0, "outputPerMillion": 4.0}},
                {"name": "large", "baseUrl": "http://127.0.0.1:3/v1", "modelName": "m",
                 "prices": {"inputPerMillion": 10.0, "outputPerMillion": 40.0, "cachedInputPerMillion": 5.0}},
            ],
            "policy": {"baselineExpert": baseline},
        });
        Table::compile(serde_json::from_value(json).unwrap()).unwrap()
    }

    fn check(baseline: Option<&str>, expert: &str, cost: f64, savings: Option<f64>) {
        let table = table(baseline);
        let usage = Usage { prompt_tokens: 1_000_000, completion_tokens: 500_000, cached_tokens: 200_000 };
        let money = Money::of(&table, table.expert(expert).unwrap(), usage, false, 1.0);
        assert!((money.cost_usd - cost).abs() < 1e-9, "{money:?}");
        assert_eq!(money.savings_usd().map(|usd| (usd * 1e6).round() / 1e6), savings, "{money:?}");
    }

    #[test]
    fn savings_are_against_the_baseline_or_the_dearest_and_may_be_negative() {
        check(None, "small", 3.0, Some(26.0));
        check(None, "large", 29.0, Some(0.0));
        check(Some("small"), "large", 29.0, Some(-26.0));
        check(Some("free"), "large", 29.0, None);
        check(None, "free", 0.0, None);
    }
}
