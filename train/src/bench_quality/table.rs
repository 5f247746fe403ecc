//! The comparison for a terminal, a pool at a time, a line as soon as a router is trained.

use super::Trained;
use crate::{
    data::Data,
    evaluation::{CurvePoint, Evaluation, Measures},
};

fn cell(measures: &Measures) -> String {
    match (measures.score, measures.cost_per_1k_usd) {
        (Some(score), Some(cost)) => format!("{score:.4} @ {cost:.4}"),
        (Some(score), None) => format!("{score:.4}"),
        _ => "-".into(),
    }
}

pub(super) fn head(name: &str, train: &Data, evaluation: &Evaluation) {
    let baselines = &evaluation.overall.baselines;
    println!("\n{name}: {} training rows, {} validation rows, {} experts", train.rows(), evaluation.rows, evaluation.experts.len());
    println!("  score @ USD per 1,000 queries, on validation rows");
    println!("  {:<14} {}", "random", cell(&baselines.random));
    println!("  {:<14} {}  ({})", "best single", cell(&baselines.best_single), evaluation.best_single);
    println!("  {:<14} {}", "label given", cell(&baselines.label_given));
}

pub(super) fn line(kind: &str, trained: &Trained) {
    let point = |point: &Option<CurvePoint>| {
        point.as_ref().map_or("none".to_owned(), |point| format!("{:.4} @ {:.4}", point.score, point.cost_per_1k_usd.unwrap_or(f64::NAN)))
    };
    let out_of_fold = trained.candidates.iter().find(|candidate| candidate.name == trained.chosen);
    println!(
        "  {kind:<14} {}  cost: {}  balanced: {}  within cost: {}  at score: {}",
        cell(&trained.results.quality),
        cell(&trained.results.cost),
        cell(&trained.results.balanced),
        point(&trained.named_points.best_score_within_cost),
        point(&trained.named_points.least_cost_at_score),
    );
    println!(
        "  {:<14} {} {:.4} out of fold; {:.1} s, {} s of CPU, {} MiB",
        "",
        trained.chosen,
        out_of_fold.map_or(f64::NAN, |candidate| candidate.outcome.score),
        trained.fit_seconds,
        trained.fit_cpu_seconds.map_or("?".into(), |seconds| format!("{seconds:.1}")),
        trained.peak_rss_mib.map_or("?".into(), |mib| format!("{mib:.0}")),
    );
}

pub(super) fn foot(evaluation: &Evaluation) {
    println!("  {:<14} {}", "oracle", cell(&evaluation.overall.baselines.oracle));
}
