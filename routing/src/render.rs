//! A table in words, for people: what a router would route by. Shown by `--check` before anything is served.

use std::fmt::Write as _;

use crate::{
    Prices, Table,
    snapshot::{Budget, Expert, FailureMode, Objective, OnExceeded, Period, Policy, Snapshot, Weights},
};

/// The whole table. Names of files are shown, their contents never.
#[must_use]
pub fn render(table: &Table) -> String {
    let snapshot = table.snapshot();
    let mut rows = vec![["expert", "url", "model", "placement", "context", "prices (USD)", "capabilities", "limits"].map(str::to_owned)];
    rows.extend(table.experts().iter().map(expert_row));
    let mut text = format!("router {} (revision {}), {} experts\n\n", snapshot.router, snapshot.revision, table.experts().len());
    text.push_str(&aligned(&rows));
    text.push('\n');
    for line in sentences(snapshot) {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn expert_row(expert: &Expert) -> [String; 8] {
    let some = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    [
        expert.name.clone(),
        expert.base_url.clone(),
        expert.model_name.clone(),
        some(expert.placement.map(|placement| format!("{placement:?}"))),
        some(expert.context_tokens.map(|tokens| tokens.to_string())),
        expert.prices.as_ref().map_or_else(|| "unpriced".into(), prices),
        some(
            (!expert.capabilities.is_empty()).then(|| expert.capabilities.iter().map(|c| format!("{c:?}")).collect::<Vec<_>>().join(", ")),
        ),
        limits(expert),
    ]
}

fn prices(prices: &Prices) -> String {
    let mut parts = Vec::new();
    let per_million = prices.input_per_million > 0.0 || prices.output_per_million > 0.0;
    if per_million {
        parts.push(format!("{} in, {} out per million", prices.input_per_million, prices.output_per_million));
    }
    if let Some(cached) = prices.cached_input_per_million.filter(|_| per_million) {
        parts.push(format!("{cached} cached"));
    }
    for (value, unit) in [(prices.per_request, "per request"), (prices.per_hour, "per hour")] {
        if value > 0.0 {
            parts.push(format!("{value} {unit}"));
        }
    }
    if parts.is_empty() { "free".into() } else { parts.join(", ") }
}

fn limits(expert: &Expert) -> String {
    let mut parts = Vec::new();
    if let Some(most) = expert.max_in_flight {
        parts.push(format!("{most} at once"));
    }
    parts.push(format!("{} s in all", expert.timeouts.total_milliseconds as f64 / 1e3));
    match expert.health.consecutive_failures {
        0 => parts.push("never ejected".into()),
        failures => parts.push(format!("out after {failures} failures")),
    }
    parts.join(", ")
}

fn sentences(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = vec![objective(&snapshot.policy)];
    lines.push(match &snapshot.model {
        Some(model) => format!("Scores come from {}, within {} ms.", model.uri, snapshot.policy.score_deadline_milliseconds),
        None => "There is no model yet.".into(),
    });
    let fallback = snapshot.policy.fallback_expert.as_deref().unwrap_or("the cheapest that can");
    lines.push(match snapshot.policy.failure_mode {
        FailureMode::FailOpen => format!("Without a score, {fallback} answers."),
        FailureMode::FailClosed => "Without a score, the request is refused.".into(),
    });
    lines.push(match &snapshot.policy.baseline_expert {
        Some(expert) => format!("Savings are measured against {expert}."),
        None => "Savings are measured against the dearest expert of each request.".into(),
    });
    if let Some(session) = &snapshot.session {
        lines.push(format!(
            "A conversation (header {}, else its first messages) stays with its expert for {} s unless a change gains more than {}.",
            session.header, session.ttl_seconds, session.switch_gain
        ));
    }
    lines.extend(snapshot.budgets.iter().map(budget));
    lines.push(match &snapshot.client_keys_file {
        Some(file) => format!("Clients need a key of {}.", file.display()),
        None => "Anyone may call.".into(),
    });
    lines.extend(
        snapshot
            .shadow
            .as_ref()
            .map(|shadow| format!("The model {} is on trial with {} % of the requests.", shadow.model.uri, shadow.percent)),
    );
    lines.extend(snapshot.request_log.as_ref().map(|log| {
        let what = if log.include_responses { "prompt and answer" } else { "the prompt" };
        format!("Of {} % of the answered requests {what} is kept for training.", log.percent)
    }));
    lines
}

fn objective(policy: &Policy) -> String {
    match policy.objective {
        Objective::Quality => "Quality: the best predicted score; the cheaper expert where two are equal.".into(),
        Objective::Cost => {
            let tolerance = policy.quality_tolerance.map_or("what the model recommends".into(), |tolerance| tolerance.to_string());
            format!("Cost: the cheapest expert predicted to lose at most {tolerance} of score to the best.")
        }
        Objective::Balanced => {
            let Weights { quality, cost, latency } = policy.weights;
            let cost = cost.map_or("as much as the model recommends".into(), |cost| cost.to_string());
            format!("Balanced: the most of {quality} x score - {cost} x cents - {latency} x seconds.")
        }
    }
}

fn budget(budget: &Budget) -> String {
    let period = match budget.period {
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
    };
    let whose = if budget.per_client_key { " for each client key" } else { "" };
    let then = match budget.on_exceeded {
        OnExceeded::PreferCheaper => "the cheapest expert is preferred",
        OnExceeded::Refuse => "requests are refused",
    };
    format!("Budget {}: once {} USD a {period} are spent{whose}, {then} (UTC).", budget.name, budget.amount_usd)
}

/// Columns as wide as their widest cell, two spaces between.
fn aligned(rows: &[[String; 8]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::{compile, snapshot_json};

    #[test]
    fn a_table_is_shown_whole() {
        insta::assert_snapshot!(render(&compile(snapshot_json())));
    }

    #[test]
    fn other_policies_budgets_and_free_experts_have_their_words() {
        let mut json = snapshot_json();
        json["policy"] = json!({"objective": "Balanced", "failureMode": "FailClosed"});
        json["model"] = json!({"uri": "/bundles/chat"});
        json["clientKeysFile"] = json!("/etc/keys");
        json["experts"][0]["prices"] = json!({});
        json["experts"][1]["prices"] = json!({"perRequest": 0.25});
        json["experts"][2].as_object_mut().unwrap().remove("prices");
        json["experts"][2]["health"] = json!({"consecutiveFailures": 0});
        json["budgets"] = json!([
            {"name": "all", "amountUsd": 500.0, "period": "Month", "onExceeded": "PreferCheaper"},
            {"name": "each", "amountUsd": 2.5, "period": "Day", "onExceeded": "Refuse", "perClientKey": true},
        ]);
        insta::assert_snapshot!(render(&compile(json)));
    }
}
