//! Recording rules and alerts, as one plain rule file: Prometheus reads it as it is, and the chart wraps it as a PrometheusRule.
//!
//! Records are what panels and alerts share, so that both speak of the same number. Their names follow Prometheus' habit
//! `level:metric:operations`, the level being the labels that are left. Each alert names a page of docs/runbooks.

mod alerts;

use std::path::PathBuf;

use serde_json::{Value, json};

pub(super) use alerts::{Alert, alerts};

const FILE: &str = "charts/expert-router/files/rules/expert-router.yaml";
const HEAD: &str = "# Made by `cargo run -p xtask --features generate -- generate` from xtask/src/generate/rules.\n";

/// An expression that is kept under a name.
pub(super) struct Record {
    pub(super) name: &'static str,
    pub(super) labels: &'static [&'static str],
    expression: String,
}

/// By router; by router and expert; by router and budget.
const ROUTER: &[&str] = &["namespace", "router"];
const EXPERT: &[&str] = &["namespace", "router", "expert"];
const BUDGET: &[&str] = &["namespace", "router", "budget"];

fn record(name: &'static str, labels: &'static [&'static str], expression: impl Into<String>) -> Record {
    Record { name, labels, expression: expression.into() }
}

/// 95 % of what an OpenTelemetry histogram of experts observed in ten minutes. They call an expert a provider.
fn by_provider(metric: &str) -> String {
    let named = format!("label_replace(rate({metric}_bucket[10m]), \"expert\", \"$1\", \"gen_ai_provider_name\", \"(.+)\")");
    format!("histogram_quantile(0.95, sum by (namespace, router, expert, le) ({named}))")
}

/// All of them.
pub(super) fn records() -> Vec<Record> {
    let bad = "rate_limited|server_error|connect|timeout|reset|cut";
    vec![
        record(
            "namespace_router:expert_router_requests:rate5m",
            ROUTER,
            "sum by (namespace, router) (rate(expert_router_requests_total[5m]))",
        ),
        record(
            "namespace_router:expert_router_errors:ratio5m",
            ROUTER,
            "(sum by (namespace, router) (rate(expert_router_requests_total{status=\"5xx\"}[5m])) or \
             0 * sum by (namespace, router) (rate(expert_router_requests_total[5m]))) / \
             (sum by (namespace, router) (rate(expert_router_requests_total[5m])) > 0)",
        ),
        record(
            "namespace_router:expert_router_decision_duration_seconds:p99_5m",
            ROUTER,
            "histogram_quantile(0.99, sum by (namespace, router, le) \
             (rate(expert_router_decision_duration_seconds_bucket{phase=\"total\"}[5m])))",
        ),
        record(
            "namespace_router:expert_router_score_misses:ratio10m",
            ROUTER,
            "sum by (namespace, router) (rate(expert_router_score_failures_total{reason=~\"deadline_exceeded|overloaded\"}[10m])) / \
             (sum by (namespace, router) (rate(expert_router_decision_duration_seconds_count{phase=\"total\"}[10m])) > 0)",
        ),
        record(
            "namespace_router_expert:expert_router_fallbacks:ratio10m",
            EXPERT,
            "sum by (namespace, router, expert) (rate(expert_router_fallbacks_total[10m])) / \
             (sum by (namespace, router, expert) (rate(expert_router_upstream_attempts_total[10m])) > 0)",
        ),
        record(
            "namespace_router_expert:expert_router_attempt_failures:ratio10m",
            EXPERT,
            format!(
                "sum by (namespace, router, expert) (rate(expert_router_upstream_attempts_total{{result=~\"{bad}\"}}[10m])) / \
                 (sum by (namespace, router, expert) (rate(expert_router_upstream_attempts_total[10m])) > 0)"
            ),
        ),
        record(
            "namespace_router_expert:gen_ai_server_time_to_first_token_seconds:p95_10m",
            EXPERT,
            by_provider("gen_ai_server_time_to_first_token_seconds"),
        ),
        record(
            "namespace_router_expert:gen_ai_client_operation_duration_seconds:p95_10m",
            EXPERT,
            by_provider("gen_ai_client_operation_duration_seconds"),
        ),
        record(
            "namespace_router_expert:expert_router_cost_usd:increase1h",
            EXPERT,
            "sum by (namespace, router, expert) (increase(expert_router_cost_usd_total[1h]))",
        ),
        record(
            "namespace_router_expert:expert_router_baseline_cost_usd:increase1h",
            EXPERT,
            "sum by (namespace, router, expert) (increase(expert_router_baseline_cost_usd_total[1h]))",
        ),
        record(
            "namespace_router_budget:expert_router_budget_used:projected",
            BUDGET,
            "max by (namespace, router, budget) (expert_router_budget_used_ratio) + \
             clamp_min(max by (namespace, router, budget) (deriv(expert_router_budget_used_ratio[1h])), 0) * \
             max by (namespace, router, budget) (expert_router_budget_period_remaining_seconds)",
        ),
    ]
}

/// The rule file.
pub(super) fn files() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let records: Vec<Value> = records().iter().map(|record| json!({"record": record.name, "expr": record.expression})).collect();
    let alerts: Vec<Value> = alerts().iter().map(Alert::json).collect();
    let groups = json!({"groups": [
        {"name": "expert-router.records", "rules": records},
        {"name": "expert-router.alerts", "rules": alerts},
    ]});
    Ok(vec![(FILE.into(), format!("{HEAD}{}", serde_saphyr::to_string(&groups)?))])
}

#[cfg(test)]
mod tests {
    use super::super::dashboards::scope::scoped;
    use super::*;

    #[test]
    fn rules_speak_of_metrics_that_are_counted() {
        for record in records() {
            scoped(&record.expression, &[]).unwrap();
            let level = record.labels.join("_");
            assert!(record.name.starts_with(&format!("{level}:")), "{}", record.name);
        }
        for alert in alerts() {
            scoped(alert.expression, &[]).unwrap();
        }
    }

    #[test]
    fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
        let folder = crate::workspace().join("docs/runbooks");
        let mut pages: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "README.md")
            .collect();
        let mut wanted: Vec<String> = alerts().iter().map(|alert| format!("{}.md", alert.runbook)).collect();
        wanted.sort_unstable();
        pages.sort_unstable();
        assert_eq!(pages, wanted);
        for alert in alerts() {
            let page = std::fs::read_to_string(folder.join(format!("{}.md", alert.runbook))).unwrap();
            assert!(page.starts_with(&format!("# {}\n", alert.name)), "{}", alert.runbook);
            for part in ["## What it means", "## How to look", "## What to do"] {
                assert!(page.contains(part), "{}: {part}", alert.runbook);
            }
        }
    }

    #[test]
    fn every_alert_is_tested() {
        let tests = std::fs::read_to_string(crate::workspace().join("tests/prometheus/alerts.test.yaml")).unwrap();
        for alert in alerts() {
            let times = tests.matches(&format!("alertname: {}\n", alert.name)).count();
            assert!(times >= 2, "{} needs a case where it fires and one where it does not", alert.name);
        }
    }
}
