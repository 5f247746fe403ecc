//! What an answer cost, and what it would have cost from the baseline.

use routing::{Table, snapshot::Capability, table::ExpertIndex};
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
    /// The policy's baseline expert for the same question, answer and time; without one, the dearest of the router's experts. Its own
    /// instructions are counted in place of those of the expert that answered. For vectors, only experts that make some.
    pub baseline_usd: Option<f64>,
}

/// What an expert did for a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Who answered.
    pub expert: ExpertIndex,
    /// Real, or estimated.
    pub usage: Usage,
    /// The expert's server said nothing of usage.
    pub estimated: bool,
    /// The expert's time that this answer took.
    pub busy_seconds: f64,
    /// The request was one that `prependMessages` are put before.
    pub instructed: bool,
    /// The answer is vectors.
    pub embeds: bool,
}

impl Money {
    /// The bill.
    #[must_use]
    pub fn of(table: &Table, work: &Work) -> Self {
        let cost = |expert: ExpertIndex| {
            let prices = table.experts().get(expert)?.prices?;
            Some(prices.cost_usd(usage_of(table, expert, work), work.busy_seconds))
        };
        let own = cost(work.expert);
        let able = |expert: &ExpertIndex| !work.embeds || *expert == work.expert || embeds(table, *expert);
        let baseline_usd = match table.baseline().filter(able) {
            Some(baseline) => cost(baseline),
            None => (0..table.experts().len()).filter(able).filter_map(cost).max_by(f64::total_cmp),
        };
        Self { usage: work.usage, estimated: work.estimated, priced: own.is_some(), cost_usd: own.unwrap_or(0.0), baseline_usd }
    }

    /// Less than nothing where the baseline would have been cheaper; unknown where one of the two has no prices.
    #[must_use]
    pub fn savings_usd(&self) -> Option<f64> {
        self.baseline_usd.filter(|_| self.priced).map(|baseline| baseline - self.cost_usd)
    }
}

/// Says that it makes vectors. Who was asked for some by name may make them and not say so.
fn embeds(table: &Table, expert: ExpertIndex) -> bool {
    table.experts().get(expert).is_some_and(|expert| expert.capabilities.contains(&Capability::Embeddings))
}

/// What another expert would have used: the same, but for its own instructions. Exact where both have the same ones or none; else the
/// difference is estimated, and the share of the prompt that came from a cache is taken to be the same.
fn usage_of(table: &Table, expert: ExpertIndex, work: &Work) -> Usage {
    let (own, other) = (table.prepended_tokens(work.expert), table.prepended_tokens(expert));
    let usage = work.usage;
    if !work.instructed || own == other {
        return usage;
    }
    let prompt_tokens = usage.prompt_tokens.saturating_sub(own).saturating_add(other);
    let share = usage.cached_tokens as f64 / usage.prompt_tokens.max(1) as f64;
    Usage { prompt_tokens, cached_tokens: (share * prompt_tokens as f64).round() as u64, ..usage }
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
        let work =
            Work { expert: table.expert(expert).unwrap(), usage, estimated: false, busy_seconds: 1.0, instructed: true, embeds: false };
        let money = Money::of(&table, &work);
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

    #[test]
    fn a_baseline_is_charged_for_its_own_instructions_in_place_of_those_of_who_answered() {
        let expert = |name: &str, instructions: usize| {
            let message = serde_json::json!({"role": "system", "content": "word".repeat(instructions)});
            serde_json::json!({"name": name, "baseUrl": "http://127.0.0.1:1/v1", "modelName": "m", "prependMessages": [message],
                "prices": {"inputPerMillion": 1.0, "outputPerMillion": 0.0, "cachedInputPerMillion": 0.5}})
        };
        let json = serde_json::json!({"formatVersion": 1, "revision": "r", "router": "chat",
            "experts": [expert("brief", 96), expert("broad", 996)], "policy": {"baselineExpert": "broad"}});
        let table = Table::compile(serde_json::from_value(json).unwrap()).unwrap();
        let usage = Usage { prompt_tokens: 200, completion_tokens: 0, cached_tokens: 100 };
        let mut work = Work { expert: 0, usage, estimated: false, busy_seconds: 0.0, instructed: true, embeds: false };
        // 100 tokens of its own instead of 1,000, half of them from a cache.
        assert!((Money::of(&table, &work).baseline_usd.unwrap() - 1100.0 * 0.75e-6).abs() < 1e-12);
        work.instructed = false;
        assert_eq!(Money::of(&table, &work).savings_usd(), Some(0.0));
    }

    #[test]
    fn vectors_save_nothing_against_an_expert_that_makes_none() {
        let expert = |name: &str, price: f64, capabilities: &[&str]| {
            serde_json::json!({"name": name, "baseUrl": "http://127.0.0.1:1/v1", "modelName": "m", "capabilities": capabilities,
                "prices": {"inputPerMillion": price, "outputPerMillion": 0.0}})
        };
        let check = |makes: &[&str], baseline: Option<&str>, embeds: bool, savings: f64| {
            let experts = [expert("talker", 10.0, &["Tools"]), expert("vectors", 1.0, makes), expert("dear-vectors", 3.0, makes)];
            let json = serde_json::json!({"formatVersion": 1, "revision": "r", "router": "chat",
                "experts": experts, "policy": {"baselineExpert": baseline}});
            let table = Table::compile(serde_json::from_value(json).unwrap()).unwrap();
            let usage = Usage { prompt_tokens: 1_000_000, completion_tokens: 0, cached_tokens: 0 };
            let work = Work { expert: 1, usage, estimated: false, busy_seconds: 0.0, instructed: false, embeds };
            let saved = Money::of(&table, &work).savings_usd().unwrap();
            assert!((saved - savings).abs() < 1e-9, "{makes:?} {baseline:?}: {saved}");
        };
        check(&["Embeddings"], None, true, 2.0);
        check(&["Embeddings"], Some("talker"), true, 2.0);
        check(&["Embeddings"], Some("vectors"), true, 0.0);
        // Nobody says that it makes vectors: the expert that was named made some all the same.
        check(&[], None, true, 0.0);
        check(&[], Some("talker"), true, 0.0);
        check(&[], Some("vectors"), true, 0.0);
        check(&["Embeddings"], Some("talker"), false, 9.0);
    }
}
