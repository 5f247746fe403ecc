//! The page around the plots.

use std::fmt::Write;

use super::plots::Figure;
use crate::evaluation::{CurvePoint, Evaluation, Measures};

const STYLE: &str = "
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1d2430; --soft: #5a6472; --grid: #d9dee5; --router: #0b66c3; --single: #d9480f;
  --expert: #8a94a3; --label: #7a3fc0; --oracle: #2b8a3e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e6e9ee; --soft: #9aa5b4; --grid: #333b47; --router: #5aa9f7;
  --single: #ff9259; --expert: #7d8898; --label: #b58cf0; --oracle: #6fd08c; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 58rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } p, figcaption { color: var(--soft); } figure { margin: 2rem 0; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; } .wide { overflow-x: auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--grid); text-align: right; white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
tr.router td { color: var(--router); font-weight: 600; }
";

pub(super) fn page(evaluation: &Evaluation, figures: &[Figure]) -> String {
    let Evaluation { split, rows, experts, score_field, router_kind, rows_left_out, .. } = evaluation;
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Router evaluation</title><style>{STYLE}</style></head><body>\n<h1>Router against its experts</h1>\n"
    );
    let _ = writeln!(
        out,
        "<p>{rows} {} queries ({rows_left_out} left out, where an expert has no score), {} experts, router: {}, score: {}.</p>",
        escaped(split),
        experts.len(),
        escaped(router_kind),
        escaped(score_field)
    );
    findings(&mut out, evaluation);
    table(&mut out, evaluation);
    for figure in figures {
        let _ = writeln!(
            out,
            "<figure><h2>{}</h2>{}<figcaption>{}</figcaption></figure>",
            escaped(figure.title),
            figure.svg,
            escaped(&figure.words)
        );
    }
    out.push_str("</body></html>\n");
    out
}

fn findings(out: &mut String, evaluation: &Evaluation) {
    let gain = &evaluation.gain_over_best_single;
    let point = |point: &Option<CurvePoint>| {
        point.as_ref().map_or("none".to_owned(), |point| {
            let cost = point.cost_per_1k_usd.map_or(String::new(), |cost| format!(" at {cost:.4} USD per 1,000 queries"));
            format!("{:.4}{cost}", point.score)
        })
    };
    let _ = writeln!(out, "<ul>");
    let _ = writeln!(
        out,
        "<li>Gain over the best single expert ({}): {:+.4} ± {:.4}, query by query.</li>",
        escaped(&evaluation.best_single),
        gain.score,
        gain.standard_error
    );
    if let Some(saved) = gain.cost_saved {
        let _ = writeln!(out, "<li>Its cost against the best single expert's: {:+.1} %.</li>", -100.0 * saved);
    }
    if let Some(share) = evaluation.oracle_gap_share {
        let _ = writeln!(out, "<li>Share of what an oracle would gain: {:.1} %.</li>", 100.0 * share);
    }
    let points = &evaluation.named_points;
    let _ = writeln!(out, "<li>Best score at no more than the best single expert's cost: {}.</li>", point(&points.best_score_within_cost));
    let _ = writeln!(out, "<li>Least cost at no less than the best single expert's score: {}.</li>", point(&points.least_cost_at_score));
    let _ = writeln!(out, "</ul><p>The last two are read off the curves with hindsight; “balanced” and “cost” below are without.</p>");
}

fn table(out: &mut String, evaluation: &Evaluation) {
    let _ = writeln!(
        out,
        "<div class=\"wide\"><table><tr><th></th><th>score</th><th>BERTSim</th><th>NLL</th><th>USD per 1,000</th><th>tokens per second</th>\
         <th>at the edge</th></tr>"
    );
    let overall = &evaluation.overall;
    for (name, measures) in &overall.baselines.experts {
        row(out, name, measures, false);
    }
    row(out, "random", &overall.baselines.random, false);
    row(out, &format!("cheapest ({})", evaluation.cheapest), &overall.baselines.cheapest, false);
    row(out, &format!("best single ({})", evaluation.best_single), &overall.baselines.best_single, false);
    row(out, "best per data set, label given", &overall.baselines.label_given, false);
    row(out, "router, quality", &overall.router.quality, true);
    row(out, "router, balanced", &overall.router.balanced, true);
    row(out, "router, cost", &overall.router.cost, true);
    row(out, "oracle", &overall.baselines.oracle, false);
    out.push_str("</table></div>\n");
}

fn row(out: &mut String, name: &str, measures: &Measures, is_router: bool) {
    let number = |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |value| format!("{value:.digits$}"));
    let class = if is_router { " class=\"router\"" } else { "" };
    let edge = measures.edge_share.map_or("–".to_owned(), |share| format!("{:.0} %", 100.0 * share));
    let _ = writeln!(
        out,
        "<tr{class}><td>{}</td><td>{} ± {}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{edge}</td></tr>",
        escaped(name),
        number(measures.score, 4),
        number(measures.standard_error, 4),
        number(measures.bertsim, 4),
        number(measures.nll, 3),
        number(measures.cost_per_1k_usd, 4),
        number(measures.tokens_per_second, 1),
    );
}

/// Names come from files.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
