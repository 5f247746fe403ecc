//! The table of all metrics. The second half of `docs/metrics.md` is made from it.

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations below each bound.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// As scraped.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// In the order the code gives their values.
    pub labels: &'static [&'static str],
    /// For people.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

pub(super) const RECONCILES: Metric = counter(
    "expert_router_operator_reconciles_total",
    &["kind", "result"],
    "Reconciles by kind and result: ok, or error, which is tried again. Errors that go on: see the operator's log.",
);
pub(super) const RECONCILE_SECONDS: Metric = Metric {
    name: "expert_router_operator_reconcile_duration_seconds",
    kind: Kind::Histogram,
    labels: &["kind"],
    help: "Time of a reconcile.",
};
pub(super) const WRITES: Metric = counter(
    "expert_router_operator_writes_total",
    &["kind", "verb"],
    "Writes to the API server by kind of object and verb. At rest there are none: if it rises all the time, somebody else writes against it.",
);
pub(super) const INJECTIONS: Metric = counter(
    "expert_router_operator_injections_total",
    &["result"],
    "Pods the webhook was asked about, by result: injected, refused or skipped.",
);
pub(super) const WATCH_FAILURES: Metric =
    counter("expert_router_operator_watch_failures_total", &["kind"], "Watches that broke off and were begun again, by kind.");
pub(super) const OBJECTS: Metric = gauge(
    "expert_router_operator_objects",
    &["kind", "ready"],
    "Objects of ours by kind, and whether they are Ready: True, False, Unknown. Which ones, and why: kubectl get xr,rm.",
);
pub(super) const LEADING: Metric = gauge("expert_router_operator_leading", &[], "1 while this replica holds the Lease, else 0.");
pub(super) const CERTIFICATE_END: Metric = gauge(
    "expert_router_operator_certificate_not_after_seconds",
    &[],
    "When the webhook's certificate ends, seconds since 1970; it is renewed long before.",
);
pub(super) const TRAINING_ANSWERS: Metric = gauge(
    "expert_router_operator_training_answers",
    &["model_namespace", "router_model", "of"],
    "Answers a preparation has (done) and wants (wanted).",
);
pub(super) const TRAINING_SPENT: Metric = gauge(
    "expert_router_operator_training_spent_usd",
    &["model_namespace", "router_model"],
    "What asking the experts has cost so far, in USD.",
);
pub(super) const TRAINING_CONDITION: Metric = gauge(
    "expert_router_operator_training_condition",
    &["model_namespace", "router_model", "condition"],
    "1 while a condition of a RouterModel is True, else 0.",
);
pub(super) const TRAINING_FAILURES: Metric = gauge(
    "expert_router_operator_training_failures",
    &["model_namespace", "router_model", "step"],
    "Jobs of a step that failed since it last succeeded. Why: kubectl describe rm.",
);
pub(super) const TRAINING_SCORE: Metric = gauge(
    "expert_router_operator_training_score",
    &["model_namespace", "router_model", "subject"],
    "Mean held-out score of the last evaluation: routers, experts and baselines.",
);
pub(super) const TRAINING_COST: Metric = gauge(
    "expert_router_operator_training_cost_per_1k_usd",
    &["model_namespace", "router_model", "subject"],
    "USD per thousand queries in the last evaluation.",
);
pub(super) const TRAINING_GAIN: Metric = gauge(
    "expert_router_operator_training_candidate_gain",
    &["model_namespace", "router_model"],
    "Gain of the bundle on trial over the best single expert, in the units of promotion.requiredGain.",
);
pub(super) const RESIDENT_MEMORY: Metric = gauge("process_resident_memory_bytes", &[], "Resident memory.");
pub(super) const OPEN_FILES: Metric = gauge("process_open_fds", &[], "Open file descriptors.");

/// Every metric there is.
pub const METRICS: &[Metric] = &[
    RECONCILES,
    RECONCILE_SECONDS,
    WRITES,
    INJECTIONS,
    WATCH_FAILURES,
    OBJECTS,
    LEADING,
    CERTIFICATE_END,
    TRAINING_ANSWERS,
    TRAINING_SPENT,
    TRAINING_CONDITION,
    TRAINING_FAILURES,
    TRAINING_SCORE,
    TRAINING_COST,
    TRAINING_GAIN,
    RESIDENT_MEMORY,
    OPEN_FILES,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_follow_prometheus_habits() {
        let mut names = std::collections::BTreeSet::new();
        for metric in METRICS {
            assert!(names.insert(metric.name), "{} twice", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
