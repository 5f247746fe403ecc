//! How trainings stand, as gauges made anew from the objects' status each time they are counted: what is gone is shown no longer.
//!
//! The namespace of a RouterModel is the label `model_namespace`: `namespace` is what Prometheus gives the operator's own.

use api::status::RouterModelStatus;
use prometheus::{GaugeVec, Opts, Registry};

/// Whose gauges these are.
const MODEL: [&str; 2] = ["model_namespace", "router_model"];

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
        let gauge = |name: &str, help: &str, more: &[&str]| {
            let labels = [&MODEL[..], more].concat();
            let gauge = GaugeVec::new(Opts::new(format!("expert_router_operator_{name}"), help), &labels).expect("names are constants");
            registry.register(Box::new(gauge.clone())).expect("names are constants and differ");
            gauge
        };
        Self {
            answers: gauge("training_answers", "Answers a preparation has (done) and wants (wanted).", &["of"]),
            spent: gauge("training_spent_usd", "What asking the experts has cost so far, in USD.", &[]),
            condition: gauge("training_condition", "1 while a condition of a RouterModel is True, else 0.", &["condition"]),
            failures: gauge("training_failures", "Jobs of a step that failed since it last succeeded.", &["step"]),
            score: gauge("training_score", "Mean held-out score of the last evaluation: routers, experts and baselines.", &["subject"]),
            cost: gauge("training_cost_per_1k_usd", "USD per thousand queries in the last evaluation.", &["subject"]),
            gain: gauge("training_candidate_gain", "Score of the bundle on trial over the best single expert.", &[]),
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
