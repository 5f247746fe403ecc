//! Counters of what is done beside answering: the model in shadow, and the log of requests.

use prometheus::{CounterVec, Histogram, IntCounter, IntCounterVec, IntGauge};

use super::{Maker, NO_LABELS, add_cost};
use crate::aside::{
    log::Dropped,
    shadow::{Seen, Skipped},
};

/// Of the model in shadow.
pub struct ShadowCounters {
    pub(crate) ready: IntGauge,
    decisions: IntCounterVec,
    gain: Histogram,
    cost: CounterVec,
    skipped: IntCounterVec,
}

impl ShadowCounters {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        let counters = Self {
            ready: make.gauge("expert_router_shadow_ready"),
            decisions: make.counters("expert_router_shadow_decisions_total"),
            gain: make.histograms("expert_router_shadow_predicted_gain").with_label_values(NO_LABELS),
            cost: make.float_counters("expert_router_shadow_predicted_cost_usd_total"),
            skipped: make.counters("expert_router_shadow_skipped_total"),
        };
        for why in Skipped::ALL {
            counters.skipped.with_label_values(&[why.as_str()]);
        }
        for of in ["shadow", "chosen"] {
            counters.cost.with_label_values(&[of]);
        }
        counters
    }

    /// Counters begin at zero once there is a model in shadow: one that appears with its first event has no rate then.
    pub(crate) fn begin<'a>(&self, experts: impl Iterator<Item = &'a str>) {
        for expert in experts {
            for agreed in ["true", "false"] {
                self.decisions.with_label_values(&[expert, agreed]);
            }
        }
    }

    pub(crate) fn seen(&self, expert: &str, seen: &Seen) {
        self.decisions.with_label_values(&[expert, if seen.agreed { "true" } else { "false" }]).inc();
        if let Some(gain) = seen.gain {
            self.gain.observe(gain);
        }
        if let Some((shadow, chosen)) = seen.cost_usd {
            add_cost(&self.cost.with_label_values(&["shadow"]), shadow);
            add_cost(&self.cost.with_label_values(&["chosen"]), chosen);
        }
    }

    pub(crate) fn skipped(&self, why: Skipped) {
        self.skipped.with_label_values(&[why.as_str()]).inc();
    }
}

/// Of the log of requests.
#[derive(Clone)]
pub struct LogCounters {
    pub(crate) rows: IntCounter,
    pub(crate) deleted: IntCounter,
    dropped: IntCounterVec,
}

impl LogCounters {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        let dropped = make.counters("expert_router_request_log_dropped_total");
        for why in Dropped::ALL {
            dropped.with_label_values(&[why.as_str()]);
        }
        let counter = |name| make.counter(name);
        Self {
            rows: counter("expert_router_request_log_rows_total"),
            deleted: counter("expert_router_request_log_deleted_files_total"),
            dropped,
        }
    }

    pub(crate) fn dropped(&self, why: Dropped) {
        self.dropped.with_label_values(&[why.as_str()]).inc();
    }
}
