//! What the operator counts. Labels come from closed sets, and from the names in objects' status.

mod training;

use api::status::RouterModelStatus;
use prometheus::{Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

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
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(format!("expert_router_operator_{name}"), help), labels).expect("names are constants")
        };
        let gauge = |name: &str, help: &str| IntGauge::new(format!("expert_router_operator_{name}"), help).expect("names are constants");
        let seconds =
            HistogramOpts::new("expert_router_operator_reconcile_duration_seconds", "Time of a reconcile.").buckets(SECONDS.into());
        let objects =
            Opts::new("expert_router_operator_objects", "Objects of ours by kind, and whether they are Ready: True, False, Unknown.");
        let registry = Registry::new();
        let metrics = Self {
            training: training::Training::new(&registry),
            registry,
            reconciles: counter("reconciles_total", "Reconciles by kind and result: ok or error.", &["kind", "result"]),
            seconds: HistogramVec::new(seconds, &["kind"]).expect("names are constants"),
            writes: counter("writes_total", "Writes to the API server by kind of object and verb.", &["kind", "verb"]),
            injections: counter(
                "injections_total",
                "Pods the webhook was asked about, by result: injected, refused or skipped.",
                &["result"],
            ),
            watch_failures: counter("watch_failures_total", "Watches that broke off and were begun again, by kind.", &["kind"]),
            objects: IntGaugeVec::new(objects, &["kind", "ready"]).expect("names are constants"),
            leading: gauge("leading", "1 while this replica holds the Lease, else 0."),
            certificate_end: gauge("certificate_not_after_seconds", "When the webhook's certificate ends, seconds since 1970."),
        };
        let all: [Box<dyn prometheus::core::Collector>; 8] = [
            Box::new(metrics.reconciles.clone()),
            Box::new(metrics.seconds.clone()),
            Box::new(metrics.writes.clone()),
            Box::new(metrics.injections.clone()),
            Box::new(metrics.watch_failures.clone()),
            Box::new(metrics.objects.clone()),
            Box::new(metrics.leading.clone()),
            Box::new(metrics.certificate_end.clone()),
        ];
        for collector in all {
            metrics.registry.register(collector).expect("names are constants and differ");
        }
        metrics
    }
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
    let memory = pages.map(|pages| ("process_resident_memory_bytes", "Resident memory.", pages * 4096));
    // One of them is the folder's own, open while it is read.
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as u64);
    let files = files.map(|files| ("process_open_fds", "Open file descriptors.", files));
    let gauge = |(name, help, value)| format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    [memory, files].into_iter().flatten().map(gauge).collect()
}

#[cfg(test)]
mod tests {
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
            "evaluation": [{"name": "oracle", "score": "0.9", "costPerThousandUsd": "nonsense"}],
        }))
        .unwrap();
        metrics.trainings([("gone", "old", &status)].into_iter());
        metrics.trainings([("shop", "chat", &status)].into_iter());
        let text = metrics.render();
        assert!(!text.contains("gone") && !text.contains("training_cost_per_1k_usd{"), "{text}");
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
