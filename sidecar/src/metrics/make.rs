//! From the table's rows to metrics.

use prometheus::{
    CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

use super::{Kind, METRICS, Metric};

/// Makes metrics by their names in the table and registers them.
pub(super) struct Maker<'a>(pub(super) &'a Registry);

impl Maker<'_> {
    fn metric(&self, name: &str) -> &'static Metric {
        METRICS.iter().find(|metric| metric.name == name).expect("every metric made here stands in the table")
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: prometheus::Result<C>) -> C {
        let collector = collector.expect("names and labels of the table are valid");
        self.0.register(Box::new(collector.clone())).expect("names of the table differ from each other");
        collector
    }

    fn opts(&self, name: &str) -> (Opts, &'static [&'static str]) {
        let metric = self.metric(name);
        (Opts::new(metric.name, metric.help), metric.labels)
    }

    pub(super) fn counter(&self, name: &str) -> IntCounter {
        self.register(IntCounter::with_opts(self.opts(name).0))
    }

    pub(super) fn counters(&self, name: &str) -> IntCounterVec {
        let (opts, labels) = self.opts(name);
        self.register(IntCounterVec::new(opts, labels))
    }

    pub(super) fn float_counters(&self, name: &str) -> CounterVec {
        let (opts, labels) = self.opts(name);
        self.register(CounterVec::new(opts, labels))
    }

    pub(super) fn gauge(&self, name: &str) -> IntGauge {
        self.register(IntGauge::with_opts(self.opts(name).0))
    }

    pub(super) fn float_gauge(&self, name: &str) -> Gauge {
        self.register(Gauge::with_opts(self.opts(name).0))
    }

    pub(super) fn gauges(&self, name: &str) -> IntGaugeVec {
        let (opts, labels) = self.opts(name);
        self.register(IntGaugeVec::new(opts, labels))
    }

    pub(super) fn float_gauges(&self, name: &str) -> GaugeVec {
        let (opts, labels) = self.opts(name);
        self.register(GaugeVec::new(opts, labels))
    }

    pub(super) fn histograms(&self, name: &str) -> HistogramVec {
        let metric = self.metric(name);
        let Kind::Histogram(buckets) = metric.kind else { unreachable!("{name} is a histogram in the table") };
        self.register(HistogramVec::new(HistogramOpts::new(metric.name, metric.help).buckets(buckets.to_vec()), metric.labels))
    }
}
