//! Operator: reconciles, writes, webhook, certificate.

use super::grafana::{Dashboard, Row, Unit, lines, number, query, stacked};
use super::scope::Variable;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "expert-router-operator",
        title: "Operator",
        description: "What the operator does, how fast, and whether it is well.",
        variables: &[Variable::Namespace],
        population: &[(Variable::Namespace, "expert_router_operator_leading")],
        rows: vec![now(), work(), webhook()],
    }
}

fn now() -> Row {
    let ready = |ready: &str| format!("sum(max by (kind) (expert_router_operator_objects{{ready=\"{ready}\"}}))");
    Row {
        title: "Now",
        panels: vec![
            number(
                Unit::Count,
                "Leaders",
                "Replicas that hold the Lease: one. None: nothing is reconciled, and what serves goes on as it is.",
                query("sum(expert_router_operator_leading)", "leading"),
            )
            .limits(&[(2.0, "red")]),
            number(Unit::Count, "Objects ready", "ExpertRouters and RouterModels whose Ready is True.", query(ready("True"), "ready")),
            number(
                Unit::Count,
                "Objects not ready",
                "ExpertRouters and RouterModels whose Ready is False. kubectl get xr,rm says why.",
                query(ready("False"), "not ready"),
            )
            .limits(&[(1.0, "orange")]),
            number(
                Unit::Share,
                "Failing reconciles",
                "Share of reconciles of the last ten minutes that ended in an error and are tried again.",
                query(
                    "sum(rate(expert_router_operator_reconciles_total{result=\"error\"}[10m])) / \
                     sum(rate(expert_router_operator_reconciles_total[10m]))",
                    "failing",
                ),
            )
            .limits(&[(0.05, "orange"), (0.5, "red")]),
            number(
                Unit::Time,
                "Certificate ends",
                "The webhook's. The operator renews it by itself long before; an alert fires seven days before the end.",
                query("1000 * min(expert_router_operator_certificate_not_after_seconds > 0)", "ends"),
            ),
            number(
                Unit::Bytes,
                "Memory",
                "Resident memory of the largest replica.",
                query("max(process_resident_memory_bytes and on (instance) expert_router_operator_leading)", "memory"),
            ),
        ],
    }
}

fn work() -> Row {
    Row {
        title: "Work",
        panels: vec![
            stacked(
                Unit::PerSecond,
                "Reconciles",
                "Reconciles per second by kind and result.",
                [query("sum by (kind, result) (rate(expert_router_operator_reconciles_total[$__rate_interval]))", "{{kind}} {{result}}")],
            ),
            lines(
                Unit::Seconds,
                "Reconcile, 99 %",
                "Time of a reconcile by kind; 99 % stay below.",
                [query(
                    "histogram_quantile(0.99, sum by (kind, le) (rate(expert_router_operator_reconcile_duration_seconds_bucket[$__rate_interval])))",
                    "{{kind}}",
                )],
            ),
            stacked(
                Unit::PerSecond,
                "Writes",
                "Writes to the API server by kind of object and verb. At rest there are none.",
                [query("sum by (kind, verb) (rate(expert_router_operator_writes_total[$__rate_interval]))", "{{kind}} {{verb}}")],
            ),
            lines(
                Unit::Count,
                "Objects by readiness",
                "ExpertRouters and RouterModels by their Ready condition.",
                [query("max by (kind, ready) (expert_router_operator_objects)", "{{kind}} {{ready}}")],
            ),
        ],
    }
}

fn webhook() -> Row {
    Row {
        title: "Webhook and watches",
        panels: vec![
            lines(
                Unit::PerSecond,
                "Injections",
                "Pods the webhook was asked about, by result: injected, refused or skipped.",
                [query("sum by (result) (rate(expert_router_operator_injections_total[$__rate_interval]))", "{{result}}")],
            ),
            lines(
                Unit::PerSecond,
                "Broken watches",
                "Watches of the API server that broke off and were begun again, by kind.",
                [query("sum by (kind) (rate(expert_router_operator_watch_failures_total[$__rate_interval]))", "{{kind}}")],
            ),
        ],
    }
}
