//! Which metrics there are, and the matchers a dashboard's variables put on each.
//!
//! In: PromQL with bare names. Out: the same with `{namespace=~"$namespace", ...}` on each metric that has such labels. A name with our
//! prefix that stands in no table is an error: a panel of a metric that nobody counts would stay empty for ever.

use std::fmt::Write as _;

use anyhow::bail;

use super::super::rules;

/// A variable of a dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variable {
    /// Where things are: the label that Prometheus gives what it scrapes. Empty outside a cluster.
    Namespace,
    /// The router's name.
    Router,
    /// The expert's name.
    Expert,
    /// The RouterModel's name.
    Model,
}

impl Variable {
    /// In addresses and expressions.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Router => "router",
            Self::Expert => "expert",
            Self::Model => "model",
        }
    }

    /// The label of a metric that has these. A training's own namespace is not that of the operator, which counts it; and OpenTelemetry
    /// calls an expert a provider.
    pub(super) fn label(self, labels: &[&str]) -> &'static str {
        match self {
            Self::Namespace if labels.contains(&"model_namespace") => "model_namespace",
            Self::Expert if labels.contains(&"gen_ai_provider_name") => "gen_ai_provider_name",
            Self::Model => "router_model",
            other => other.name(),
        }
    }
}

/// What is before a metric's own name.
const PREFIXES: [&str; 4] = ["expert_router_", "gen_ai_", "process_", "namespace_"];

/// The labels of a metric, by the name it has in an expression; nothing where there is no such metric.
pub(crate) fn labels(name: &str) -> Option<Vec<&'static str>> {
    if let Some(record) = rules::records().into_iter().find(|record| record.name == name) {
        return Some(record.labels.to_vec());
    }
    let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    for name in [Some(name), bare].into_iter().flatten() {
        if let Some(metric) = sidecar::metrics::METRICS.iter().find(|metric| metric.name == name) {
            return Some([metric.labels, &["namespace", "router"]].concat());
        }
        if let Some(metric) = operator::metrics::METRICS.iter().find(|metric| metric.name == name) {
            return Some([metric.labels, &["namespace"]].concat());
        }
    }
    None
}

/// An expression with the matchers of these variables.
pub(crate) fn scoped(expression: &str, variables: &[Variable]) -> anyhow::Result<String> {
    let mut scoped = String::with_capacity(expression.len() * 2);
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '"') {
        let (before, from) = rest.split_at(start);
        scoped.push_str(before);
        let end = match from.strip_prefix('"') {
            Some(text) => text.find('"').map_or(from.len(), |end| end + 2),
            None => from.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(from.len()),
        };
        let (word, after) = from.split_at(end);
        scoped.push_str(word);
        rest = after;
        match labels(word) {
            Some(labels) => rest = matchers(&mut scoped, &labels, variables, after),
            None if is_label(word) || !PREFIXES.iter().any(|prefix| word.starts_with(prefix)) => {}
            None => bail!("`{word}` is no metric of ours, in: {expression}"),
        }
    }
    scoped.push_str(rest);
    Ok(scoped)
}

/// Labels that begin as metrics do.
fn is_label(word: &str) -> bool {
    word == "namespace" || sidecar::metrics::METRICS.iter().any(|metric| metric.labels.contains(&word))
}

/// Writes the matchers before those that are there, and gives what remains of the expression. What it says itself of a label holds.
fn matchers<'a>(scoped: &mut String, labels: &[&str], variables: &[Variable], after: &'a str) -> &'a str {
    let mut own = String::new();
    let said = after.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(said, _)| said);
    for variable in variables {
        let (label, name) = (variable.label(labels), variable.name());
        if labels.contains(&label) && !said.contains(&format!("{label}=")) {
            // Writing to a String cannot fail.
            let _ = write!(own, "{}{label}=~\"${name}\"", if own.is_empty() { "" } else { ", " });
        }
    }
    match after.strip_prefix('{') {
        Some(rest) if own.is_empty() => {
            scoped.push('{');
            rest
        }
        Some(rest) => {
            let _ = write!(scoped, "{{{own}, ");
            rest
        }
        None if own.is_empty() => after,
        None => {
            let _ = write!(scoped, "{{{own}}}");
            after
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expect: &str) {
        assert_eq!(scoped(expression, &[Variable::Namespace, Variable::Router, Variable::Expert]).unwrap(), expect);
    }

    #[test]
    fn metrics_get_the_matchers_of_the_labels_they_have() {
        check(
            "gen_ai_client_token_usage_sum{gen_ai_provider_name=~\".*\"}",
            "gen_ai_client_token_usage_sum{namespace=~\"$namespace\", router=~\"$router\", gen_ai_provider_name=~\".*\"}",
        );
        check("expert_router_sessions > 1", "expert_router_sessions{namespace=~\"$namespace\", router=~\"$router\"} > 1");
        check(
            "sum by (expert) (rate(expert_router_decisions_total{reason!=\"cost\"}[5m]))",
            "sum by (expert) (rate(expert_router_decisions_total{namespace=~\"$namespace\", router=~\"$router\", expert=~\"$expert\", \
             reason!=\"cost\"}[5m]))",
        );
        check(
            "sum by (le, gen_ai_provider_name) (gen_ai_client_token_usage_bucket)",
            "sum by (le, gen_ai_provider_name) (gen_ai_client_token_usage_bucket{namespace=~\"$namespace\", router=~\"$router\", \
             gen_ai_provider_name=~\"$expert\"})",
        );
    }

    #[test]
    fn metrics_that_nobody_counts_are_refused() {
        let error = scoped("sum(expert_router_request_total)", &[]).unwrap_err().to_string();
        assert!(error.contains("`expert_router_request_total`"), "{error}");
    }
}
