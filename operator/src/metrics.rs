//! What the operator counts. Labels come from closed sets, and from the names in objects' status.

mod table;
mod training;

use api::status::RouterModelStatus;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

use table::{
    CERTIFICATE_END, INJECTIONS, LEADING, OBJECTS, OPEN_FILES, RECONCILE_SECONDS, RECONCILES, RESIDENT_MEMORY, WATCH_FAILURES, WRITES,
};
pub use table::{Kind, METRICS, Metric};

/// Seconds of a reconcile: a visit that finds nothing to do takes well below a millisecond, one that writes tens of them.
const SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    seconds: HistogramVec,
    writes: IntCounterVec,
    injections: IntCounterVec,
    watch_failures: IntCounterVec,
    objects: IntGaugeVec,
    training: training::Training,
    /// 1 while this replica leads.
    pub leading: IntGauge,
    /// Seconds since 1970 at which the webhook's certificate ends.
    pub certificate_end: IntGauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        Self {
            reconciles: counter(&registry, RECONCILES),
            seconds: seconds(&registry, RECONCILE_SECONDS),
            writes: counter(&registry, WRITES),
            injections: counter(&registry, INJECTIONS),
            watch_failures: counter(&registry, WATCH_FAILURES),
            objects: registered(&registry, IntGaugeVec::new(options(OBJECTS), OBJECTS.labels)),
            leading: registered(&registry, IntGauge::with_opts(options(LEADING))),
            certificate_end: registered(&registry, IntGauge::with_opts(options(CERTIFICATE_END))),
            training: training::Training::new(&registry),
            registry,
        }
    }
}

fn options(metric: Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

fn counter(registry: &Registry, metric: Metric) -> IntCounterVec {
    registered(registry, IntCounterVec::new(options(metric), metric.labels))
}

fn seconds(registry: &Registry, metric: Metric) -> HistogramVec {
    registered(registry, HistogramVec::new(HistogramOpts::from(options(metric)).buckets(SECONDS.into()), metric.labels))
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("the table's names are well-formed");
    registry.register(Box::new(collector.clone())).expect("the table's names differ");
    collector
}

impl Metrics {
    /// A reconcile ended.
    pub fn reconciled(&self, kind: &str, ok: bool, seconds: f64) {
        self.reconciles.with_label_values(&[kind, if ok { "ok" } else { "error" }]).inc();
        self.seconds.with_label_values(&[kind]).observe(seconds);
    }

    /// Something was written.
    pub fn applied(&self, kind: &str, verb: &str) {
        self.writes.with_label_values(&[kind, verb]).inc();
    }

    /// The webhook was asked.
    pub fn injected(&self, result: &'static str) {
        self.injections.with_label_values(&[result]).inc();
    }

    /// A watch broke off.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_failures.with_label_values(&[kind]).inc();
    }

    /// How many objects of a kind are Ready, not, or unknown.
    pub fn count(&self, kind: &str, ready: &str, count: usize) {
        self.objects.with_label_values(&[kind, ready]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How trainings stand: namespace, name and status of every RouterModel.
    pub fn trainings<'a>(&self, models: impl Iterator<Item = (&'a str, &'a str, &'a RouterModelStatus)>) {
        self.training.show(models);
    }

    /// As Prometheus reads it.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // What was registered is well-formed, and memory takes every byte.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned() + &process()
    }
}

/// Resident memory and open files, as the kernel says.
fn process() -> String {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let memory = pages.map(|pages| (RESIDENT_MEMORY, pages * 4096));
    // One of them is the folder's own, open while it is read.
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as u64);
    let files = files.map(|files| (OPEN_FILES, files));
    let gauge = |(Metric { name, help, .. }, value): (Metric, u64)| format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    [memory, files].into_iter().flatten().map(gauge).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_is_shown_once_it_counted() {
        let metrics = Metrics::default();
        metrics.reconciled("ExpertRouter", true, 0.002);
        metrics.applied("Service", "apply");
        metrics.injected("injected");
        metrics.watch_failed("Secret");
        metrics.count("ExpertRouter", "True", 3);
        let status: RouterModelStatus = serde_json::from_value(serde_json::json!({
            "progress": {"done": 30, "total": 120},
            "costUsd": "1.25",
            "conditions": [{"type": "Ready", "status": "True", "reason": "Published", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "steps": [{"name": "Fit", "state": "Running", "inputs": "", "template": "", "startedAt": "2026-01-01T00:00:00Z", "failures": 2}],
            "evaluation": [
                {"name": "oracle", "score": "0.9", "costPerThousandUsd": "nonsense"},
                {"name": "small", "score": "0.5", "costPerThousandUsd": "0.2"},
            ],
            "candidate": {"digest": "0a", "gain": "0.03"},
        }))
        .unwrap();
        metrics.trainings([("gone", "old", &status)].into_iter());
        metrics.trainings([("shop", "chat", &status)].into_iter());
        let text = metrics.render();
        assert!(!text.contains("gone") && !text.contains("nonsense"), "{text}");
        assert_eq!(text.matches("training_cost_per_1k_usd{").count(), 1, "{text}");
        let shown: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
        assert_eq!(shown, METRICS.iter().map(|metric| metric.name).collect(), "what is shown is what the table has");
        for part in [
            "expert_router_operator_training_answers{model_namespace=\"shop\",of=\"wanted\",router_model=\"chat\"} 120",
            "expert_router_operator_training_spent_usd{model_namespace=\"shop\",router_model=\"chat\"} 1.25",
            "expert_router_operator_training_score{model_namespace=\"shop\",router_model=\"chat\",subject=\"oracle\"} 0.9",
            "expert_router_operator_reconciles_total{kind=\"ExpertRouter\",result=\"ok\"} 1",
            "expert_router_operator_writes_total{kind=\"Service\",verb=\"apply\"} 1",
            "expert_router_operator_objects{kind=\"ExpertRouter\",ready=\"True\"} 3",
            "expert_router_operator_leading 0",
            "process_resident_memory_bytes ",
            "process_open_fds ",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
