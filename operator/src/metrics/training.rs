//! How trainings stand, as gauges made anew from the objects' status each time they are counted: what is gone is shown no longer.
//!
//! The namespace of a RouterModel is the label `model_namespace`: `namespace` is what Prometheus gives the operator's own.

use api::status::RouterModelStatus;
use prometheus::{GaugeVec, Registry};

use super::{
    Metric, options, registered,
    table::{TRAINING_ANSWERS, TRAINING_CONDITION, TRAINING_COST, TRAINING_FAILURES, TRAINING_GAIN, TRAINING_SCORE, TRAINING_SPENT},
};

/// All of them.
#[derive(Debug)]
pub(super) struct Training {
    answers: GaugeVec,
    spent: GaugeVec,
    condition: GaugeVec,
    failures: GaugeVec,
    score: GaugeVec,
    cost: GaugeVec,
    gain: GaugeVec,
}

impl Training {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |metric: Metric| registered(registry, GaugeVec::new(options(metric), metric.labels));
        Self {
            answers: gauge(TRAINING_ANSWERS),
            spent: gauge(TRAINING_SPENT),
            condition: gauge(TRAINING_CONDITION),
            failures: gauge(TRAINING_FAILURES),
            score: gauge(TRAINING_SCORE),
            cost: gauge(TRAINING_COST),
            gain: gauge(TRAINING_GAIN),
        }
    }

    /// Shows these and no others.
    pub(super) fn show<'a>(&self, models: impl Iterator<Item = (&'a str, &'a str, &'a RouterModelStatus)>) {
        for gauge in [&self.answers, &self.spent, &self.condition, &self.failures, &self.score, &self.cost, &self.gain] {
            gauge.reset();
        }
        for (namespace, name, status) in models {
            self.one([namespace, name], status);
        }
    }

    fn one(&self, [namespace, name]: [&str; 2], status: &RouterModelStatus) {
        let set = |gauge: &GaugeVec, label: Option<&str>, value: f64| {
            let labels: Vec<&str> = [namespace, name].into_iter().chain(label).collect();
            gauge.with_label_values(&labels).set(value);
        };
        if let Some(progress) = status.progress {
            set(&self.answers, Some("done"), progress.done as f64);
            set(&self.answers, Some("wanted"), progress.total as f64);
        }
        if let Some(spent) = number(status.cost_usd.as_deref()) {
            set(&self.spent, None, spent);
        }
        for condition in &status.conditions {
            set(&self.condition, Some(&condition.type_), f64::from(u8::from(condition.status == "True")));
        }
        for step in &status.steps {
            set(&self.failures, Some(&format!("{:?}", step.name)), f64::from(step.failures));
        }
        for row in &status.evaluation {
            if let Some(score) = number(Some(&row.score)) {
                set(&self.score, Some(&row.name), score);
            }
            if let Some(cost) = number(row.cost_per_thousand_usd.as_deref()) {
                set(&self.cost, Some(&row.name), cost);
            }
        }
        if let Some(gain) = number(status.candidate.as_ref().and_then(|candidate| candidate.gain.as_deref())) {
            set(&self.gain, None, gain);
        }
    }
}

/// A decimal string of a status, which anybody with the right to may have written.
fn number(text: Option<&str>) -> Option<f64> {
    text?.parse::<f64>().ok().filter(|number| number.is_finite())
}
