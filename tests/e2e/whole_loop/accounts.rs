//! What requests cost and saved, added up by their clients: from the tokens each answer told and the prices of the manifest, by the rules
//! of docs/serving.md and not by the router's own code.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::load::record::Record;

/// Sums of floats in another order differ by less.
const TOLERANCE: f64 = 1e-9;
/// Of Prometheus' figures.
const EXACT: f64 = 1e-6;

/// What an expert charges, and what its own messages add to a prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Price {
    input_per_million: f64,
    output_per_million: f64,
    own_tokens: u64,
}

/// All experts' prices.
#[derive(Debug)]
pub(super) struct Prices {
    experts: BTreeMap<String, Price>,
    baseline: Price,
}

/// A sum.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Account {
    pub(super) requests: u64,
    pub(super) cost_usd: f64,
    pub(super) savings_usd: f64,
}

impl Prices {
    /// Those of an ExpertRouter.
    pub(super) fn of(router: &Value, baseline: &str) -> Result<Self> {
        let mut experts = BTreeMap::new();
        for expert in router["spec"]["experts"].as_array().context("a router has experts")? {
            let name = expert["name"].as_str().context("an expert has a name")?;
            experts.insert(name.to_owned(), Price::of(expert).with_context(|| format!("the price of {name}"))?);
        }
        let baseline = *experts.get(baseline).with_context(|| format!("there is no expert {baseline}"))?;
        Ok(Self { experts, baseline })
    }
}

impl Price {
    fn of(expert: &Value) -> Result<Self> {
        let decimal = |field: &str| expert["pricing"][field].as_str().context("a decimal string")?.parse().context("a decimal");
        let messages = expert["prependMessages"].as_array().into_iter().flatten();
        // Four bytes of text are a token, and each message takes four for itself.
        let own_tokens = messages.map(|message| 4 + (message["content"].as_str().map_or(0, str::len) as u64).div_ceil(4)).sum();
        Ok(Self { input_per_million: decimal("inputPerMillion")?, output_per_million: decimal("outputPerMillion")?, own_tokens })
    }

    fn cost(&self, prompt: u64, completion: u64) -> f64 {
        (prompt as f64 * self.input_per_million + completion as f64 * self.output_per_million) / 1e6
    }
}

impl Account {
    /// Adds up records. Where a request's header told its cost, it has to be what its tokens cost.
    pub(super) fn of<'a>(records: impl IntoIterator<Item = &'a Record>, prices: &Prices) -> Result<Self> {
        let mut account = Self::default();
        for record in records {
            let price = prices.experts.get(&record.expert).with_context(|| format!("{} was answered by {:?}", record.id, record.expert))?;
            let (prompt, completion) = record.tokens.with_context(|| format!("the answer to {} told no tokens", record.id))?;
            let cost = price.cost(prompt, completion);
            if let Some(told) = record.cost_usd {
                ensure!((told - cost).abs() < TOLERANCE, "{} was told to cost {told} USD and cost {cost}", record.id);
            }
            let baseline = prices.baseline.cost(prompt.saturating_sub(price.own_tokens) + prices.baseline.own_tokens, completion);
            account.requests += 1;
            account.cost_usd += cost;
            account.savings_usd += baseline - cost;
        }
        ensure!(account.savings_usd > 0.0, "nothing was saved: {account:?}");
        Ok(account)
    }

    /// An error where somebody else's figures are not these.
    pub(super) fn compare(&self, other: &Self) -> Result<()> {
        let same = |one: f64, other: f64| (one - other).abs() <= EXACT * one.abs();
        ensure!(
            self.requests == other.requests && same(self.cost_usd, other.cost_usd) && same(self.savings_usd, other.savings_usd),
            "by the clients {self:?}, by Prometheus {other:?}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(expert: &str, tokens: Option<(u64, u64)>, cost_usd: Option<f64>) -> Record {
        serde_json::from_value(json!({
            "id": "1", "phase": "p", "sent_at": 0, "stream": false, "kept": true, "outcome": "Answered", "status": 200, "detail": "",
            "expert": expert, "reason": "cost", "cost_usd": cost_usd, "tokens": tokens, "first_byte_ms": 1.0, "total_ms": 2.0,
        }))
        .unwrap()
    }

    fn prices() -> Prices {
        let price = |input: &str, output: &str| json!({"inputPerMillion": input, "outputPerMillion": output});
        let router = json!({"spec": {"experts": [
            {"name": "near", "pricing": price("0.1", "0.4"), "prependMessages": [{"role": "system", "content": "12345"}]},
            {"name": "far", "pricing": price("0.3", "1.2")},
        ]}});
        Prices::of(&router, "far").unwrap()
    }

    #[test]
    fn an_answer_is_compared_with_the_baseline_without_the_expert_s_own_messages() {
        let records = [record("near", Some((106, 10)), Some(14.6e-6)), record("far", Some((50, 5)), None)];
        let account = Account::of(&records, &prices()).unwrap();
        assert!((account.cost_usd - (14.6e-6 + 21e-6)).abs() < 1e-15);
        assert!((account.savings_usd - (42e-6 - 14.6e-6)).abs() < 1e-15);
    }

    #[test]
    fn what_does_not_add_up_is_an_error() {
        let wrong = [record("near", Some((106, 10)), Some(14.7e-6))];
        assert!(Account::of(&wrong, &prices()).unwrap_err().to_string().contains("was told to cost"));
        assert!(Account::of(&[record("near", None, None)], &prices()).is_err());
        let one = Account { requests: 1, cost_usd: 1.0, savings_usd: 2.0 };
        assert!(one.compare(&Account { savings_usd: 2.0 + 1e-9, ..one.clone() }).is_ok());
        assert!(one.compare(&Account { savings_usd: 2.001, ..one.clone() }).is_err());
        assert!(one.compare(&Account { requests: 2, ..one.clone() }).is_err());
    }
}
