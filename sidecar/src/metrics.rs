//! Every metric: its name, kind, labels and meaning in one table, and the handles to count with.
//!
//! In: counts and observations. Out: Prometheus text. Labels come from closed sets only: experts, reasons, endpoints, outcomes, names of
//! client keys and budgets; never text of a request or an error. Children that the way of a request needs are looked up once, when a
//! table is compiled ([`ExpertMetrics`]), so that counting is a few atomic additions. Deliberately absent: what the numbers mean for
//! routing; no decision reads a metric.

mod aside;
mod expert;
mod labels;
mod make;
mod table;

use std::sync::{Mutex, MutexGuard, OnceLock};

use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
    proto::LabelPair,
};
use routing::Refusal;

pub use aside::{LogCounters, ShadowCounters};
pub use expert::ExpertMetrics;
pub use labels::{AttemptResult, CutCause, EndpointLabel, Operation};
pub use table::{Kind, METRICS, Metric};

use crate::{failure::Outcome, state::lock};
use make::Maker;

/// Hundreds of status codes; the last is for requests that never got one.
const STATUS_CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "none"];

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_children: Vec<OnceLock<IntCounter>>,
    request_seconds: Vec<Histogram>,
    pub(crate) refusals: IntCounterVec,
    pub(crate) tokenize_seconds: Histogram,
    pub(crate) queue_seconds: Histogram,
    pub(crate) encode_seconds: Histogram,
    pub(crate) choose_seconds: Histogram,
    pub(crate) decision_seconds: Histogram,
    pub(crate) score_failures: IntCounterVec,
    pub(crate) score_cache_hits: IntCounter,
    pub(crate) retries_denied: IntCounter,
    pub(crate) savings: Gauge,
    pub(crate) client_cost: CounterVec,
    pub(crate) connections: IntGauge,
    pub(crate) connections_total: IntCounter,
    pub(crate) tls_failures: IntCounter,
    pub(crate) sessions: IntGauge,
    pub(crate) reloads: IntCounter,
    pub(crate) reload_failures: IntCounterVec,
    pub(crate) snapshot_info: IntGaugeVec,
    pub(crate) snapshot_age: Gauge,
    pub(crate) model_ready: IntGauge,
    pub(crate) ejected: IntGaugeVec,
    pub(crate) paused: IntGaugeVec,
    pub(crate) budget_spent: GaugeVec,
    pub(crate) budget_amount: GaugeVec,
    pub(crate) budget_used: GaugeVec,
    pub(crate) budget_remaining: GaugeVec,
    pub(crate) cost_per_hour: GaugeVec,
    pub(crate) config_stale: IntGauge,
    pub(crate) best_score: Histogram,
    pub(crate) chosen_score: Histogram,
    pub(crate) predicted_loss: Histogram,
    pub(crate) trace_spans: IntCounterVec,
    pub(crate) certificate_end: IntGauge,
    /// Of the model in shadow.
    pub shadow: ShadowCounters,
    /// Of the log of requests.
    pub request_log: LogCounters,
    resident_bytes: IntGauge,
    open_files: IntGauge,
    experts: expert::Families,
    scrape: Mutex<()>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A histogram of its own kind has none.
const NO_LABELS: &[&str] = &[];

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        let request_seconds = make.histograms("expert_router_request_duration_seconds");
        let phases = make.histograms("expert_router_decision_duration_seconds");
        let scores = make.histograms("expert_router_predicted_score");
        // Zeros from the start: a counter that appears with its first event has no rate then.
        let (refusals, score_failures) =
            (make.counters("expert_router_refusals_total"), make.counters("expert_router_score_failures_total"));
        for refusal in Refusal::ALL {
            refusals.with_label_values(&[refusal.as_str()]);
            if let Refusal::NoScore(failure) = refusal {
                score_failures.with_label_values(&[failure.as_str()]);
            }
        }
        make.float_gauge("process_start_time_seconds").set(seconds_since_1970());
        Self {
            shadow: ShadowCounters::new(&make),
            request_log: LogCounters::new(&make),
            requests: make.counters("expert_router_requests_total"),
            request_children: (0..EndpointLabel::ALL.len() * Outcome::ALL.len() * STATUS_CLASSES.len()).map(|_| OnceLock::new()).collect(),
            request_seconds: EndpointLabel::ALL.iter().map(|label| request_seconds.with_label_values(&[label.as_str()])).collect(),
            refusals,
            tokenize_seconds: phases.with_label_values(&["tokenize"]),
            queue_seconds: phases.with_label_values(&["queue"]),
            encode_seconds: phases.with_label_values(&["encode"]),
            choose_seconds: phases.with_label_values(&["choose"]),
            decision_seconds: phases.with_label_values(&["total"]),
            score_failures,
            score_cache_hits: make.counter("expert_router_score_cache_hits_total"),
            retries_denied: make.counter("expert_router_retries_denied_total"),
            savings: make.float_gauge("expert_router_savings_usd"),
            client_cost: make.float_counters("expert_router_client_cost_usd_total"),
            connections: make.gauge("expert_router_connections"),
            connections_total: make.counter("expert_router_connections_total"),
            tls_failures: make.counter("expert_router_tls_handshake_failures_total"),
            sessions: make.gauge("expert_router_sessions"),
            reloads: make.counter("expert_router_config_reloads_total"),
            reload_failures: make.counters("expert_router_config_reload_failures_total"),
            snapshot_info: make.gauges("expert_router_snapshot_info"),
            snapshot_age: make.float_gauge("expert_router_snapshot_age_seconds"),
            model_ready: make.gauge("expert_router_model_ready"),
            ejected: make.gauges("expert_router_ejected"),
            paused: make.gauges("expert_router_paused"),
            budget_spent: make.float_gauges("expert_router_budget_spent_usd"),
            budget_amount: make.float_gauges("expert_router_budget_amount_usd"),
            budget_used: make.float_gauges("expert_router_budget_used_ratio"),
            budget_remaining: make.float_gauges("expert_router_budget_period_remaining_seconds"),
            cost_per_hour: make.float_gauges("expert_router_expert_cost_per_hour_usd"),
            config_stale: make.gauge("expert_router_config_stale"),
            best_score: scores.with_label_values(&["best"]),
            chosen_score: scores.with_label_values(&["chosen"]),
            predicted_loss: make.histograms("expert_router_predicted_loss").with_label_values(NO_LABELS),
            certificate_end: make.gauge("expert_router_tls_certificate_not_after_seconds"),
            trace_spans: make.counters("expert_router_trace_spans_total"),
            resident_bytes: make.gauge("process_resident_memory_bytes"),
            open_files: make.gauge("process_open_fds"),
            experts: expert::Families::new(&make),
            scrape: Mutex::new(()),
            registry,
        }
    }

    /// Handles of one expert; the same counters for the same name, however often they are asked for.
    #[must_use]
    pub fn expert(&self, name: &str, model_name: &str) -> ExpertMetrics {
        self.experts.of(name, model_name)
    }

    /// Counts a request that has ended.
    pub fn request_ended(&self, endpoint: EndpointLabel, outcome: Outcome, status: u16, seconds: f64) {
        let class = match status {
            200..300 => 0,
            300..400 => 1,
            400..500 => 2,
            500..600 => 3,
            _ => 4,
        };
        let number = (endpoint as usize * Outcome::ALL.len() + outcome as usize) * STATUS_CLASSES.len() + class;
        self.request_children[number]
            .get_or_init(|| self.requests.with_label_values(&[endpoint.as_str(), outcome.as_str(), STATUS_CLASSES[class]]))
            .inc();
        self.request_seconds[endpoint as usize].observe(seconds);
    }

    /// Begins a scrape: the gauges that are set at each are empty, so that an expert or a budget that is no more does not stay as it was
    /// last. Two scrapes at once would empty each other's: hold the guard until it is rendered.
    pub(crate) fn begin_scrape(&self) -> MutexGuard<'_, ()> {
        let alone = lock(&self.scrape);
        self.ejected.reset();
        self.paused.reset();
        for gauges in [&self.budget_spent, &self.budget_amount, &self.budget_used, &self.budget_remaining] {
            gauges.reset();
        }
        alone
    }

    /// What a scrape gets: each sample with the router's name, so that those of several routers can be told apart wherever they meet.
    #[must_use]
    pub fn render(&self, router: &str) -> String {
        if let Some(bytes) = resident_bytes() {
            self.resident_bytes.set(bytes);
        }
        if let Some(files) = open_files() {
            self.open_files.set(files);
        }
        let mut text = String::with_capacity(32 << 10);
        // Fails only where a family has no metric, and `gather` leaves those out.
        let mut families = self.registry.gather();
        for metric in families.iter_mut().flat_map(|family| family.mut_metric()) {
            let mut labels = metric.take_label();
            let mut label = LabelPair::default();
            label.set_name("router".to_owned());
            label.set_value(router.to_owned());
            labels.push(label);
            metric.set_label(labels);
        }
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::warn!(%error, "cannot write metrics");
        }
        text
    }

    /// The registry, for more metrics of the same process.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds_since_1970() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The second field of `statm` counts resident pages.
fn resident_bytes() -> Option<i64> {
    const PAGE: i64 = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_ascii_whitespace().nth(1)?.parse::<i64>().ok().map(|pages| pages * PAGE)
}

/// One of them is the folder's own, open while it is read.
fn open_files() -> Option<i64> {
    i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)).ok()
}

/// Money counters may not fall, and a cost may come out of settings made by people.
pub(crate) fn add_cost(counter: &Counter, usd: f64) {
    if usd.is_finite() && usd > 0.0 {
        counter.inc_by(usd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_table_is_registered_and_no_other() {
        let metrics = Metrics::new();
        let expert = metrics.expert("coder", "qwen");
        expert.touch_all();
        metrics.request_ended(EndpointLabel::Route, Outcome::Ok, 200, 0.1);
        metrics.refusals.with_label_values(&["x"]).inc();
        metrics.score_failures.with_label_values(&["x"]).inc();
        metrics.shadow.begin(["coder"].into_iter());
        metrics.client_cost.with_label_values(&["x"]).inc();
        metrics.reload_failures.with_label_values(&["x"]).inc();
        metrics.trace_spans.with_label_values(&["x"]).inc();
        metrics.snapshot_info.with_label_values(&["x"]).set(1);
        metrics.ejected.with_label_values(&["x"]).set(1);
        metrics.paused.with_label_values(&["x"]).set(1);
        metrics.budget_spent.with_label_values(&["x"]).set(1.0);
        metrics.budget_amount.with_label_values(&["x"]).set(1.0);
        metrics.budget_used.with_label_values(&["x"]).set(1.0);
        metrics.budget_remaining.with_label_values(&["x"]).set(1.0);
        metrics.cost_per_hour.with_label_values(&["x"]).set(1.0);
        let text = metrics.render("chat");
        let mut shown: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let mut table: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        shown.sort_unstable();
        table.sort_unstable();
        assert_eq!(shown, table);
    }

    #[test]
    fn a_request_is_counted_under_its_own_labels() {
        let metrics = Metrics::new();
        metrics.request_ended(EndpointLabel::Embeddings, Outcome::TooLarge, 413, 0.01);
        let sample = r#"expert_router_requests_total{endpoint="embeddings",outcome="too_large",status="4xx",router="chat"} 1"#;
        assert!(metrics.render("chat").contains(sample));
    }
}
