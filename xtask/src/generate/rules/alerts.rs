//! The alerts: what a person should be told before money or quality runs away.
//!
//! Severities: `critical` wakes somebody (requests fail, or money is spent that was not to be), `warning` is for the working day, `info`
//! is for those who look. Numbers in descriptions come from the expression's own value.

use serde_json::{Value, json};

/// One alert.
pub(crate) struct Alert {
    pub(crate) name: &'static str,
    /// The page in docs/runbooks, without its ending.
    pub(crate) runbook: &'static str,
    pub(crate) expression: &'static str,
    wait: &'static str,
    severity: &'static str,
    summary: &'static str,
    description: &'static str,
}

impl Alert {
    pub(super) fn json(&self) -> Value {
        json!({
            "alert": self.name,
            "expr": self.expression,
            "for": self.wait,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": format!("docs/runbooks/{}.md", self.runbook),
            },
        })
    }
}

/// All of them.
pub(crate) fn alerts() -> Vec<Alert> {
    [money(), answers(), configuration(), operator()].into_iter().flatten().collect()
}

fn money() -> Vec<Alert> {
    vec![
        Alert {
            name: "ExpertRouterBudgetPace",
            runbook: "budget-pace",
            expression: "namespace_router_budget:expert_router_budget_used:projected > 1 and \
                 max by (namespace, router, budget) (expert_router_budget_used_ratio) < 1",
            wait: "15m",
            severity: "warning",
            summary: "The budget {{ $labels.budget }} of {{ $labels.router }} will be spent before its period ends",
            description: "At the pace of the last hour {{ $value | humanizePercentage }} of the budget {{ $labels.budget }} of router \
                 {{ $labels.router }} in {{ $labels.namespace }} will be used by the end of its period.",
        },
        Alert {
            name: "ExpertRouterBudgetSpent",
            runbook: "budget-spent",
            expression: "max by (namespace, router, budget) (expert_router_budget_used_ratio) >= 1",
            wait: "1m",
            severity: "critical",
            summary: "The budget {{ $labels.budget }} of {{ $labels.router }} is spent",
            description: "{{ $value | humanizePercentage }} of the budget {{ $labels.budget }} of router {{ $labels.router }} in \
                 {{ $labels.namespace }} is used: until its period ends the cheapest experts answer, or requests are refused with 429, \
                 whichever its onExceeded says.",
        },
        Alert {
            name: "ExpertRouterSavingsNegative",
            runbook: "savings-negative",
            expression: "sum by (namespace, router) (increase(expert_router_baseline_cost_usd_total[6h])) - \
                 sum by (namespace, router) (increase(expert_router_cost_usd_total[6h])) < 0 and \
                 sum by (namespace, router) (increase(expert_router_baseline_cost_usd_total[6h])) > 0",
            wait: "30m",
            severity: "warning",
            summary: "{{ $labels.router }} costs more than its baseline",
            description: "Over the last six hours router {{ $labels.router }} in {{ $labels.namespace }} saved \
                 {{ $value | printf \"%.2f\" }} USD: its baseline expert alone would have been cheaper.",
        },
        Alert {
            name: "ExpertRouterUnpriced",
            runbook: "unpriced",
            expression: "sum by (namespace, router, expert) (increase(expert_router_unpriced_requests_total[1h])) > 0",
            wait: "15m",
            severity: "info",
            summary: "Answers of {{ $labels.expert }} have no price",
            description: "{{ $value | printf \"%.0f\" }} answers of expert {{ $labels.expert }} of router {{ $labels.router }} in \
                 {{ $labels.namespace }} counted as free in the last hour: the expert has no pricing.",
        },
        Alert {
            name: "ExpertRouterUsageEstimated",
            runbook: "usage-estimated",
            expression: "sum by (namespace, router, expert) (increase(expert_router_usage_missing_total[1h])) / \
                 (sum by (namespace, router, expert) (increase(expert_router_upstream_attempts_total{result=\"ok\"}[1h])) > 0) > 0.05",
            wait: "15m",
            severity: "warning",
            summary: "The cost of {{ $labels.expert }} is an estimate",
            description: "{{ $value | humanizePercentage }} of the answers of expert {{ $labels.expert }} of router {{ $labels.router }} in \
                 {{ $labels.namespace }} came without usage in the last hour: their tokens, and so their cost, are estimates.",
        },
    ]
}

fn answers() -> Vec<Alert> {
    vec![
        Alert {
            name: "ExpertRouterErrors",
            runbook: "errors",
            expression: "namespace_router:expert_router_errors:ratio5m > 0.05",
            wait: "5m",
            severity: "critical",
            summary: "{{ $labels.router }} fails requests",
            description: "{{ $value | humanizePercentage }} of the requests to router {{ $labels.router }} in {{ $labels.namespace }} ended \
                 with a 5xx status in the last five minutes.",
        },
        Alert {
            name: "ExpertRouterFallbacks",
            runbook: "fallbacks",
            expression: "namespace_router_expert:expert_router_fallbacks:ratio10m > 0.1",
            wait: "10m",
            severity: "warning",
            summary: "{{ $labels.expert }} hands its requests on",
            description: "{{ $value | humanizePercentage }} of the requests sent to expert {{ $labels.expert }} of router \
                 {{ $labels.router }} in {{ $labels.namespace }} moved on to another expert in the last ten minutes.",
        },
        Alert {
            name: "ExpertRouterExpertEjected",
            runbook: "expert-ejected",
            expression: "max by (namespace, router, expert) (max_over_time(expert_router_ejected[2m])) == 1",
            wait: "5m",
            severity: "warning",
            summary: "{{ $labels.expert }} is out of rotation",
            description: "Expert {{ $labels.expert }} of router {{ $labels.router }} in {{ $labels.namespace }} has been out of rotation for \
                 five minutes, save for probes that failed.",
        },
        Alert {
            name: "ExpertRouterNoExpertLeft",
            runbook: "no-expert-left",
            expression: "min by (namespace, router) (expert_router_ejected) == 1",
            wait: "1m",
            severity: "critical",
            summary: "{{ $labels.router }} has no expert left",
            description: "Every expert of router {{ $labels.router }} in {{ $labels.namespace }} has been out of rotation for a minute, in \
                 every process: requests are refused with 503.",
        },
        Alert {
            name: "ExpertRouterFirstTokenSlow",
            runbook: "first-token-slow",
            expression: "namespace_router_expert:gen_ai_server_time_to_first_token_seconds:p95_10m > 5",
            wait: "10m",
            severity: "warning",
            summary: "{{ $labels.expert }} is slow to begin",
            description: "One in twenty streams of expert {{ $labels.expert }} of router {{ $labels.router }} in {{ $labels.namespace }} took \
                 longer than {{ $value | humanizeDuration }} to its first token in the last ten minutes.",
        },
        Alert {
            name: "ExpertRouterDecisionDeadline",
            runbook: "decision-deadline",
            expression: "namespace_router:expert_router_score_misses:ratio10m > 0.01",
            wait: "10m",
            severity: "warning",
            summary: "{{ $labels.router }} decides without scores",
            description: "{{ $value | humanizePercentage }} of the decisions of router {{ $labels.router }} in {{ $labels.namespace }} had no \
                 score in time in the last ten minutes: the fallback expert answered, or the request was refused.",
        },
    ]
}

fn configuration() -> Vec<Alert> {
    vec![
        Alert {
            name: "ExpertRouterNoModel",
            runbook: "no-model",
            expression: "sum by (namespace, router) (increase(expert_router_decisions_total{reason=~\"no_model|model_broken\"}[15m])) > 0 and \
                 min by (namespace, router) (expert_router_model_ready) == 0",
            wait: "15m",
            severity: "warning",
            summary: "{{ $labels.router }} answers without a router model",
            description: "{{ $value | printf \"%.0f\" }} requests to router {{ $labels.router }} in {{ $labels.namespace }} went to the \
                 fallback expert in the last 15 minutes, because there is no router model or it cannot be loaded.",
        },
        Alert {
            name: "ExpertRouterConfigStale",
            runbook: "config-stale",
            expression: "sum by (namespace, router) (expert_router_config_stale) > 0",
            wait: "5m",
            severity: "warning",
            summary: "{{ $labels.router }} serves an older configuration",
            description: "{{ $value }} processes of router {{ $labels.router }} in {{ $labels.namespace }} cannot use the newest \
                 configuration and serve by the one before it.",
        },
        Alert {
            name: "ExpertRouterRevisionsDiffer",
            runbook: "revisions-differ",
            expression: "count by (namespace, router) (count by (namespace, router, revision) (expert_router_snapshot_info == 1)) > 1",
            wait: "10m",
            severity: "warning",
            summary: "Processes of {{ $labels.router }} follow different configurations",
            description: "{{ $value }} revisions of the configuration of router {{ $labels.router }} in {{ $labels.namespace }} have been in \
                 force side by side for ten minutes.",
        },
        Alert {
            name: "ExpertRouterServingCertificateExpiring",
            runbook: "serving-certificate-expiring",
            expression: "min by (namespace, router) (expert_router_tls_certificate_not_after_seconds > 0) - time() < 7 * 86400",
            wait: "1h",
            severity: "warning",
            summary: "The certificate of {{ $labels.router }} is about to expire",
            description: "The certificate that router {{ $labels.router }} in {{ $labels.namespace }} serves TLS with ends in \
                 {{ $value | humanizeDuration }}: then clients refuse to call it.",
        },
        Alert {
            name: "ExpertRouterSpansLost",
            runbook: "spans-lost",
            expression: "sum by (namespace, router) (rate(expert_router_trace_spans_total{result!=\"sent\"}[15m])) / \
                 (sum by (namespace, router) (rate(expert_router_trace_spans_total[15m])) > 0) > 0.05",
            wait: "15m",
            severity: "info",
            summary: "Traces of {{ $labels.router }} are not whole",
            description: "{{ $value | humanizePercentage }} of the spans of router {{ $labels.router }} in {{ $labels.namespace }} did not \
                 reach the collector in the last 15 minutes. Requests are not touched by it.",
        },
    ]
}

fn operator() -> Vec<Alert> {
    vec![
        Alert {
            name: "ExpertRouterTrainingFailed",
            runbook: "training-failed",
            expression: "max by (model_namespace, router_model, step) (expert_router_operator_training_failures) > 0",
            wait: "1m",
            severity: "warning",
            summary: "Training {{ $labels.router_model }} failed",
            description: "Step {{ $labels.step }} of RouterModel {{ $labels.router_model }} in {{ $labels.model_namespace }} failed \
                 {{ $value }} times since it last succeeded. The bundle published before stays in force.",
        },
        Alert {
            name: "ExpertRouterCertificateExpiring",
            runbook: "certificate-expiring",
            expression: "min by (namespace, job) (expert_router_operator_certificate_not_after_seconds > 0) - time() < 7 * 86400",
            wait: "1h",
            severity: "warning",
            summary: "The webhook's certificate is about to expire",
            description: "The certificate of the injection webhook in {{ $labels.namespace }} ends in {{ $value | humanizeDuration }} and was \
                 not renewed.",
        },
        Alert {
            name: "ExpertRouterOperatorErrors",
            runbook: "operator-errors",
            expression: "sum by (namespace, kind) (rate(expert_router_operator_reconciles_total{result=\"error\"}[10m])) / \
                 (sum by (namespace, kind) (rate(expert_router_operator_reconciles_total[10m])) > 0) > 0.5",
            wait: "15m",
            severity: "warning",
            summary: "The operator fails to reconcile {{ $labels.kind }}",
            description: "{{ $value | humanizePercentage }} of the reconciles of {{ $labels.kind }} ended in an error in the last ten minutes.",
        },
        Alert {
            name: "ExpertRouterOperatorNotLeading",
            runbook: "operator-not-leading",
            // One that does not run shows nothing, not even that it does not lead.
            expression: "sum by (namespace, job) (expert_router_operator_leading) == 0 or \
                 0 * (sum by (namespace, job) (last_over_time(expert_router_operator_leading[1h])) unless \
                 sum by (namespace, job) (expert_router_operator_leading))",
            wait: "5m",
            severity: "critical",
            summary: "No replica of the operator leads",
            description: "No replica of the operator in {{ $labels.namespace }} has held the Lease for five minutes: no change is carried \
                 out. What serves goes on as it is.",
        },
    ]
}
