//! The metrics of one expert, looked up once by name and then counted without a look-up.

use std::sync::{Arc, OnceLock};

use prometheus::{Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use routing::Reason;

use super::{AttemptResult, CutCause, Maker, Operation};
use crate::failure::Outcome;

/// The metrics that have an expert for a label.
pub(super) struct Families {
    decisions: IntCounterVec,
    attempts: IntCounterVec,
    fallbacks: IntCounterVec,
    stale: IntCounterVec,
    cut: IntCounterVec,
    in_flight: IntGaugeVec,
    ejections: IntCounterVec,
    pauses: IntCounterVec,
    tokens: IntCounterVec,
    usage_missing: IntCounterVec,
    unpriced: IntCounterVec,
    cost: CounterVec,
    baseline_cost: CounterVec,
    tokens_per_second: HistogramVec,
    operations: Arc<OperationFamilies>,
}

struct OperationFamilies {
    token_usage: HistogramVec,
    duration: HistogramVec,
    first_token: HistogramVec,
    per_token: HistogramVec,
}

impl Families {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            decisions: make.counters("expert_router_decisions_total"),
            attempts: make.counters("expert_router_upstream_attempts_total"),
            fallbacks: make.counters("expert_router_fallbacks_total"),
            stale: make.counters("expert_router_stale_connection_retries_total"),
            cut: make.counters("expert_router_streams_cut_total"),
            in_flight: make.gauges("expert_router_in_flight"),
            ejections: make.counters("expert_router_ejections_total"),
            pauses: make.counters("expert_router_pauses_total"),
            tokens: make.counters("expert_router_tokens_total"),
            usage_missing: make.counters("expert_router_usage_missing_total"),
            unpriced: make.counters("expert_router_unpriced_requests_total"),
            cost: make.float_counters("expert_router_cost_usd_total"),
            baseline_cost: make.float_counters("expert_router_baseline_cost_usd_total"),
            tokens_per_second: make.histograms("expert_router_output_tokens_per_second"),
            operations: Arc::new(OperationFamilies {
                token_usage: make.histograms("gen_ai_client_token_usage"),
                duration: make.histograms("gen_ai_client_operation_duration_seconds"),
                first_token: make.histograms("gen_ai_server_time_to_first_token_seconds"),
                per_token: make.histograms("gen_ai_server_time_per_output_token_seconds"),
            }),
        }
    }

    pub(super) fn of(&self, name: &str, model_name: &str) -> ExpertMetrics {
        ExpertMetrics {
            decisions: Reason::ALL.map(|reason| self.decisions.with_label_values(&[name, reason.as_str()])),
            attempts: AttemptResult::ALL.map(|result| self.attempts.with_label_values(&[name, result.as_str()])),
            fallbacks: AttemptResult::ALL.map(|_| OnceLock::new()),
            fallback_family: self.fallbacks.clone(),
            stale: self.stale.with_label_values(&[name]),
            cut: CutCause::ALL.map(|cause| self.cut.with_label_values(&[name, cause.as_str()])),
            in_flight: self.in_flight.with_label_values(&[name]),
            ejections: self.ejections.with_label_values(&[name]),
            pauses: self.pauses.with_label_values(&[name]),
            input_tokens: self.tokens.with_label_values(&[name, "input"]),
            cached_tokens: self.tokens.with_label_values(&[name, "cached_input"]),
            output_tokens: self.tokens.with_label_values(&[name, "output"]),
            usage_missing: self.usage_missing.with_label_values(&[name]),
            unpriced: self.unpriced.with_label_values(&[name]),
            cost: self.cost.with_label_values(&[name]),
            baseline_cost: self.baseline_cost.with_label_values(&[name]),
            tokens_per_second: self.tokens_per_second.with_label_values(&[name]),
            operations: Operation::ALL.map(|_| OnceLock::new()),
            operation_families: self.operations.clone(),
            name: name.to_owned(),
            model_name: model_name.to_owned(),
        }
    }
}

/// Handles of one expert.
pub struct ExpertMetrics {
    name: String,
    model_name: String,
    decisions: [IntCounter; Reason::ALL.len()],
    attempts: [IntCounter; AttemptResult::ALL.len()],
    fallbacks: [OnceLock<IntCounter>; AttemptResult::ALL.len()],
    fallback_family: IntCounterVec,
    cut: [IntCounter; CutCause::ALL.len()],
    operations: [OnceLock<OperationMetrics>; Operation::ALL.len()],
    operation_families: Arc<OperationFamilies>,
    pub(crate) stale: IntCounter,
    pub(crate) in_flight: IntGauge,
    pub(crate) ejections: IntCounter,
    pub(crate) pauses: IntCounter,
    pub(crate) input_tokens: IntCounter,
    pub(crate) cached_tokens: IntCounter,
    pub(crate) output_tokens: IntCounter,
    pub(crate) usage_missing: IntCounter,
    pub(crate) unpriced: IntCounter,
    pub(crate) cost: Counter,
    pub(crate) baseline_cost: Counter,
    pub(crate) tokens_per_second: Histogram,
}

impl std::fmt::Debug for ExpertMetrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("ExpertMetrics").field(&self.name).finish()
    }
}

/// Handles of one operation of an expert.
pub(crate) struct OperationMetrics {
    pub(crate) input: Histogram,
    pub(crate) output: Histogram,
    pub(crate) first_token: Histogram,
    pub(crate) per_token: Histogram,
    durations: [OnceLock<Histogram>; Outcome::ALL.len()],
}

impl ExpertMetrics {
    /// This expert was chosen.
    pub(crate) fn decided(&self, reason: Reason) {
        self.decisions[reason as usize].inc();
    }

    pub(crate) fn attempted(&self, result: AttemptResult) {
        self.attempts[result as usize].inc();
    }

    /// The request moves on to another expert.
    pub(crate) fn fell_back(&self, cause: AttemptResult) {
        self.fallbacks[cause as usize].get_or_init(|| self.fallback_family.with_label_values(&[self.name.as_str(), cause.as_str()])).inc();
    }

    pub(crate) fn broke_off(&self, cause: CutCause) {
        self.cut[cause as usize].inc();
    }

    pub(crate) fn operation(&self, operation: Operation) -> &OperationMetrics {
        self.operations[operation as usize].get_or_init(|| {
            let families = &self.operation_families;
            let labels = [operation.as_str(), self.name.as_str(), self.model_name.as_str()];
            let [name, provider, model] = labels;
            OperationMetrics {
                input: families.token_usage.with_label_values(&[name, provider, model, "input"]),
                output: families.token_usage.with_label_values(&[name, provider, model, "output"]),
                first_token: families.first_token.with_label_values(&labels),
                per_token: families.per_token.with_label_values(&labels),
                durations: Outcome::ALL.map(|_| OnceLock::new()),
            }
        })
    }

    pub(crate) fn operation_ended(&self, operation: Operation, outcome: Outcome, seconds: f64) {
        let error = if outcome == Outcome::Ok { "" } else { outcome.as_str() };
        let labels = [operation.as_str(), self.name.as_str(), self.model_name.as_str(), error];
        self.operation(operation).durations[outcome as usize]
            .get_or_init(|| self.operation_families.duration.with_label_values(&labels))
            .observe(seconds);
    }

    /// Makes every child, so that a test sees every family.
    #[cfg(test)]
    pub(super) fn touch_all(&self) {
        self.fell_back(AttemptResult::Connect);
        self.operation_ended(Operation::Chat, Outcome::Ok, 1.0);
    }
}
