//! An evaluation for a terminal.

use std::fmt::Write;

use crate::evaluation::{CurvePoint, Evaluation, Measures};

/// The table, with a line's end after every line.
#[must_use]
pub fn table(evaluation: &Evaluation) -> String {
    let mut out = String::new();
    let overall = &evaluation.overall;
    let left_out = match evaluation.rows_left_out {
        0 => String::new(),
        count => format!(" ({count} left out: an expert has no score there)"),
    };
    let Evaluation { split, rows, experts, score_field, router_kind, .. } = evaluation;
    let _ = writeln!(out, "{rows} {split} rows{left_out}, {} experts, score: {score_field}, router: {router_kind}\n", experts.len());
    let _ = writeln!(out, "{:<34} {:>15} {:>8} {:>7} {:>12} {:>8} {:>6}", "", "score", "BERTSim", "NLL", "USD/1k", "tokens/s", "edge");
    for (name, measures) in &overall.baselines.experts {
        line(&mut out, name, measures);
    }
    let baselines = &overall.baselines;
    line(&mut out, "random", &baselines.random);
    line(&mut out, &format!("cheapest ({})", evaluation.cheapest), &baselines.cheapest);
    line(&mut out, &format!("best single ({})", evaluation.best_single), &baselines.best_single);
    line(&mut out, "best per data set, label given", &baselines.label_given);
    line(&mut out, "router, quality", &overall.router.quality);
    line(&mut out, "router, balanced", &overall.router.balanced);
    line(&mut out, "router, cost", &overall.router.cost);
    line(&mut out, "oracle", &baselines.oracle);
    let gain = &evaluation.gain_over_best_single;
    let _ = writeln!(out, "\ngain over best single: {:+.4} ± {:.4}, query by query", gain.score, gain.standard_error);
    if let Some(share) = evaluation.oracle_gap_share {
        let _ = writeln!(out, "share of the oracle's gain: {:.1} %", 100.0 * share);
    }
    let points = &evaluation.named_points;
    named(&mut out, "best score at no more than the best single's cost", points.best_score_within_cost.as_ref());
    named(&mut out, "least cost at no less than the best single's score", points.least_cost_at_score.as_ref());
    if !evaluation.datasets.is_empty() {
        let _ = writeln!(
            out,
            "\n{:<28} {:>6} {:>11} {:>11} {:>8} {:>8}",
            "by data set", "rows", "best single", "label given", "router", "oracle"
        );
        for (name, comparison) in &evaluation.datasets {
            let score = |measures: &Measures| measures.score.map_or("-".into(), |score| format!("{score:.4}"));
            let baselines = &comparison.baselines;
            let (single, label, oracle) = (score(&baselines.best_single), score(&baselines.label_given), score(&baselines.oracle));
            let router = score(&comparison.router.quality);
            let _ = writeln!(out, "{:<28} {:>6} {single:>11} {label:>11} {router:>8} {oracle:>8}", cut(name, 28), comparison.rows);
        }
    }
    out
}

fn line(out: &mut String, name: &str, measures: &Measures) {
    let number = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    let score = format!("{} ± {}", number(measures.score, 4), number(measures.standard_error, 4));
    let edge = measures.edge_share.map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share));
    let _ = writeln!(
        out,
        "{:<34} {score:>15} {:>8} {:>7} {:>12} {:>8} {edge:>6}",
        cut(name, 34),
        number(measures.bertsim, 4),
        number(measures.nll, 3),
        number(measures.cost_per_1k_usd, 4),
        number(measures.tokens_per_second, 1),
    );
}

fn named(out: &mut String, name: &str, point: Option<&CurvePoint>) {
    let text = point.map_or("none".to_owned(), |point| {
        let cost = point.cost_per_1k_usd.map_or(String::new(), |cost| format!(" @ {cost:.4} USD per 1,000"));
        format!("{:.4}{cost}", point.score)
    });
    let _ = writeln!(out, "{name} (with hindsight): {text}");
}

fn cut(name: &str, most: usize) -> String {
    if name.chars().count() <= most { name.to_owned() } else { name.chars().take(most - 1).chain(['…']).collect() }
}
