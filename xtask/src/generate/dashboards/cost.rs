//! Cost and savings: what was spent, what the baseline would have cost, and what budgets are left.

use super::grafana::{Dashboard, Row, Unit, bars, column, lines, number, query, stacked, table};
use super::scope::Variable;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "expert-router-cost",
        title: "Cost and savings",
        description: "What answers cost, what they would have cost from the baseline expert, and how far budgets reach.",
        variables: &[Variable::Namespace, Variable::Router, Variable::Expert],
        population: &[
            (Variable::Namespace, "expert_router_snapshot_info"),
            (Variable::Router, "expert_router_snapshot_info"),
            (Variable::Expert, "expert_router_decisions_total"),
        ],
        rows: vec![glance(), over_time(), tables(), budgets(), trust()],
    }
}

fn over_range(metric: &str) -> String {
    format!("sum(increase({metric}[$__range]))")
}

fn glance() -> Row {
    let (cost, baseline) = (over_range("expert_router_cost_usd_total"), over_range("expert_router_baseline_cost_usd_total"));
    Row {
        title: "In the time shown",
        panels: vec![
            number(
                Unit::Dollars,
                "Spent",
                "Cost of all answers of priced experts, by the prices that were in force when each was given.",
                query(cost.as_str(), "spent"),
            ),
            number(
                Unit::Dollars,
                "Baseline",
                "What the same answers would have cost from the baseline expert (policy.baselineExpert; without one, from the dearest).",
                query(baseline.as_str(), "baseline"),
            ),
            number(
                Unit::Dollars,
                "Saved",
                "Baseline less spent. Negative: the baseline would have been cheaper.",
                query(format!("{baseline} - {cost}"), "saved"),
            ),
            number(
                Unit::Share,
                "Saved of the baseline",
                "Savings as a share of what the baseline would have cost.",
                query(format!("1 - {cost} / {baseline}"), "saved"),
            ),
            number(
                Unit::Dollars,
                "Per 1,000 answers",
                "Mean cost of a thousand answers.",
                query(
                    format!("1000 * {cost} / sum(increase(gen_ai_client_operation_duration_seconds_count{{error_type=\"\"}}[$__range]))"),
                    "per 1,000",
                ),
            ),
            number(
                Unit::TokensPerDollar,
                "Output tokens per dollar",
                "Output tokens of priced and unpriced experts for each dollar spent.",
                query(format!("sum(increase(expert_router_tokens_total{{type=\"output\"}}[$__range])) / {cost}"), "tokens per dollar"),
            ),
        ],
    }
}

fn over_time() -> Row {
    Row {
        title: "Over time",
        panels: vec![
            stacked(
                Unit::Dollars,
                "Spent per hour by expert",
                "Cost of the last hour at each moment, by the expert that answered.",
                [query("sum by (router, expert) (namespace_router_expert:expert_router_cost_usd:increase1h)", "{{router}} / {{expert}}")],
            ),
            lines(
                Unit::Dollars,
                "Spent and baseline per hour",
                "The last hour's cost beside what the baseline would have cost. Where the lines cross, routing costs more than it saves.",
                [
                    query("sum by (router) (namespace_router_expert:expert_router_cost_usd:increase1h)", "{{router}} spent"),
                    query("sum by (router) (namespace_router_expert:expert_router_baseline_cost_usd:increase1h)", "{{router}} baseline"),
                ],
            ),
            lines(
                Unit::Dollars,
                "Saved since the start",
                "Baseline less cost of all answers since the processes started; it falls while the baseline would be cheaper, and when a \
                 process ends.",
                [query("sum by (router) (expert_router_savings_usd)", "{{router}}")],
            ),
            stacked(
                Unit::Dollars,
                "Spent per hour by client",
                "Cost of the last hour by the name of the client key. One line without a name where keys are not asked for.",
                [query("sum by (client) (increase(expert_router_client_cost_usd_total[1h]))", "{{client}}")],
            ),
        ],
    }
}

fn tables() -> Row {
    let by = |labels: &str, metric: &str| format!("sum by ({labels}) (increase({metric}[$__range]))");
    let columns = |labels: &'static str| {
        let (cost, baseline) = (by(labels, "expert_router_cost_usd_total"), by(labels, "expert_router_baseline_cost_usd_total"));
        [
            column(cost.as_str(), "Spent", Unit::Dollars),
            column(baseline.as_str(), "Baseline", Unit::Dollars),
            column(format!("{baseline} - {cost}"), "Saved", Unit::Dollars),
            column(format!("1 - {cost} / {baseline}"), "Share saved", Unit::Share),
            column(by(labels, "expert_router_tokens_total{type=\"input\"}"), "Input", Unit::Tokens),
            column(by(labels, "expert_router_tokens_total{type=\"cached_input\"}"), "of it cached", Unit::Tokens),
            column(by(labels, "expert_router_tokens_total{type=\"output\"}"), "Output", Unit::Tokens),
        ]
    };
    Row {
        title: "Tables of the time shown",
        panels: vec![
            table("Namespaces", "Cost, savings and tokens of each namespace.", columns("namespace")),
            table("Routers", "Cost, savings and tokens of each router.", columns("namespace, router")),
            table("Experts", "Cost, savings and tokens of each expert.", columns("namespace, router, expert")),
        ],
    }
}

fn budgets() -> Row {
    Row {
        title: "Budgets",
        panels: vec![
            bars(
                Unit::Share,
                "Used of the budget",
                "Share of the amount spent in the current period; of a budget per client key, by the client that spent most. From 1 on the \
                 budget's onExceeded holds.",
                [query("max by (router, budget) (expert_router_budget_used_ratio)", "{{router}} / {{budget}}")],
            )
            .limits(&[(0.8, "orange"), (1.0, "red")]),
            bars(
                Unit::Share,
                "Used by the end of the period, at this pace",
                "What will be used when the period ends if the last hour's pace holds. Above 1 an alert fires.",
                [query("max by (router, budget) (namespace_router_budget:expert_router_budget_used:projected)", "{{router}} / {{budget}}")],
            )
            .limits(&[(0.8, "orange"), (1.0, "red")]),
            lines(
                Unit::Dollars,
                "Left",
                "Amount less what was spent in the current period, by all clients together.",
                [query(
                    "max by (router, budget) (expert_router_budget_amount_usd) - max by (router, budget) (expert_router_budget_spent_usd)",
                    "{{router}} / {{budget}}",
                )],
            ),
            lines(
                Unit::Seconds,
                "Until the period ends",
                "Time until the budget starts anew, in UTC.",
                [query("min by (router, budget) (expert_router_budget_period_remaining_seconds)", "{{router}} / {{budget}}")],
            ),
        ],
    }
}

fn trust() -> Row {
    Row {
        title: "What the figures rest on",
        panels: vec![
            lines(
                Unit::PerSecond,
                "Answers without a price",
                "Answers of experts without prices: they count as free, and not at all in savings.",
                [query(
                    "sum by (router, expert) (rate(expert_router_unpriced_requests_total[$__rate_interval]))",
                    "{{router}} / {{expert}}",
                )],
            ),
            lines(
                Unit::PerSecond,
                "Answers with estimated tokens",
                "Answers whose server told no usage: tokens, and with them cost, are estimates from the text.",
                [query("sum by (router, expert) (rate(expert_router_usage_missing_total[$__rate_interval]))", "{{router}} / {{expert}}")],
            ),
            lines(
                Unit::Dollars,
                "Price per hour of own experts",
                "pricing.perHour of experts that are paid by the hour rather than by tokens.",
                [query("max by (router, expert) (expert_router_expert_cost_per_hour_usd)", "{{router}} / {{expert}}")],
            ),
            lines(
                Unit::TokensPerDollar,
                "Output tokens per dollar by expert",
                "How much each expert writes for a dollar. For experts paid by the hour it rises with their use.",
                [query(
                    "sum by (router, expert) (rate(expert_router_tokens_total{type=\"output\"}[$__rate_interval])) / \
                     (sum by (router, expert) (rate(expert_router_cost_usd_total[$__rate_interval])) > 0)",
                    "{{router}} / {{expert}}",
                )],
            ),
        ],
    }
}
