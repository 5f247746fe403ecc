//! Evaluations of several routers to one table, and what is worth saying of it.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use super::screen::row;

/// One router that was fitted.
pub(super) struct Fitted {
    pub(super) kind: String,
    /// How long that took, for people.
    pub(super) took: String,
    /// What `evaluate --json` wrote.
    pub(super) evaluation: Value,
}

pub(super) fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Every expert and baseline, and every router.
pub(super) fn rows(fitted: &[Fitted]) -> Vec<Vec<String>> {
    let mut rows =
        vec![row(["on held-out queries", " right", " +-", " BERTSim", " NLL", " USD per 1,000", " tokens/s", " edge", " fitted in"])];
    let Some(first) = fitted.last() else { return rows };
    let overall = &first.evaluation["overall"];
    let baselines = &overall["baselines"];
    let named = |name: &str, of: &str| match first.evaluation[of].as_str() {
        Some(expert) if !expert.is_empty() => format!("{name} ({expert})"),
        _ => name.to_owned(),
    };
    let experts: BTreeMap<&String, &Value> = baselines["experts"].as_object().into_iter().flatten().collect();
    for expert in first.evaluation["experts"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if let Some(measures) = experts.get(&expert.to_owned()) {
            rows.push(cells(&format!("expert {expert}"), measures, ""));
        }
    }
    rows.push(cells("random expert", &baselines["random"], ""));
    rows.push(cells(&named("always the cheapest", "cheapest"), &baselines["cheapest"], ""));
    rows.push(cells(&named("best single expert", "best_single"), &baselines["best_single"], ""));
    rows.push(cells("best expert per kind, if told", &baselines["label_given"], ""));
    for router in fitted {
        let routed = &router.evaluation["overall"]["router"];
        rows.push(cells(&format!("router {}", router.kind), &routed["quality"], &router.took));
        if std::ptr::eq(router, first) {
            rows.push(cells(&format!("router {}, balanced", router.kind), &routed["balanced"], ""));
            rows.push(cells(&format!("router {}, cost", router.kind), &routed["cost"], ""));
        }
    }
    rows.push(cells("oracle: nobody can do better", &baselines["oracle"], ""));
    rows
}

fn cells(name: &str, measures: &Value, took: &str) -> Vec<String> {
    let number = |field: &str, show: &dyn Fn(f64) -> String| measures[field].as_f64().map_or_else(|| "-".to_owned(), show);
    let percent = |value: f64| format!("{:.1} %", 100.0 * value);
    vec![
        name.to_owned(),
        number("score", &percent),
        number("standard_error", &|value| format!("{:.1}", 100.0 * value)),
        number("bertsim", &|value| format!("{value:.3}")),
        number("nll", &|value| format!("{value:.3}")),
        number("cost_per_1k_usd", &|value| format!("{value:.4}")),
        number("tokens_per_second", &|value| format!("{value:.0}")),
        number("edge_share", &|value| format!("{:.0} %", 100.0 * value)),
        took.to_owned(),
    ]
}

/// The gain over the best single expert, in a sentence.
pub(super) fn verdict(fitted: &Fitted) -> String {
    let (evaluation, overall) = (&fitted.evaluation, &fitted.evaluation["overall"]);
    let best = &overall["baselines"]["best_single"];
    let name = evaluation["best_single"].as_str().unwrap_or("the best single expert");
    let of = |objective: &str| {
        let routed = &overall["router"][objective];
        let gain = 100.0 * (routed["score"].as_f64().unwrap_or_default() - best["score"].as_f64().unwrap_or_default());
        let cost = |measures: &Value| measures["cost_per_1k_usd"].as_f64().unwrap_or(f64::NAN);
        format!("{gain:+.1} points at {:.0} % of its cost", 100.0 * cost(routed) / cost(best))
    };
    let kind = &fitted.kind;
    format!("Against {name} alone, router {kind}: {}; balanced: {}; for cost: {}.", of("quality"), of("balanced"), of("cost"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fitted() -> Fitted {
        let measures = |score: f64, cost: f64| json!({"score": score, "cost_per_1k_usd": cost, "standard_error": 0.05, "bertsim": null});
        let evaluation = json!({
            "experts": ["a", "b"], "best_single": "b", "cheapest": "a",
            "overall": {
                "baselines": {"random": measures(0.4, 1.5), "cheapest": measures(0.3, 1.0), "best_single": measures(0.5, 2.0),
                    "label_given": measures(0.7, 1.2), "oracle": measures(0.9, 1.1),
                    "experts": {"a": measures(0.3, 1.0), "b": measures(0.5, 2.0)}},
                "router": {"quality": measures(0.75, 1.4), "balanced": measures(0.7, 1.2), "cost": measures(0.5, 0.5)},
            },
        });
        Fitted { kind: "auto".into(), took: "3.0 s".into(), evaluation }
    }

    #[test]
    fn every_expert_baseline_and_objective_has_a_row() {
        let fitted = [fitted()];
        let rows = rows(&fitted);
        let names: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names[1..4], ["expert a", "expert b", "random expert"]);
        assert_eq!(names[4..7], ["always the cheapest (a)", "best single expert (b)", "best expert per kind, if told"]);
        assert_eq!(names[7..], ["router auto", "router auto, balanced", "router auto, cost", "oracle: nobody can do better"]);
        assert_eq!(rows[7], ["router auto", "75.0 %", "5.0", "-", "-", "1.4000", "-", "-", "3.0 s"]);
    }

    #[test]
    fn the_verdict_compares_with_the_best_single_expert() {
        let verdict = verdict(&fitted());
        let expected = "Against b alone, router auto: +25.0 points at 70 % of its cost; balanced: +20.0 points at 60 % of its cost; \
            for cost: +0.0 points at 25 % of its cost.";
        assert_eq!(verdict, expected);
    }
}
