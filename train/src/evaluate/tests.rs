use std::collections::BTreeMap;

use model::TextRules;
use ndarray::{Array2, array};
use routing::Prices;

use super::{Subject, compare, table};
use crate::{
    data::Data,
    decide::{Chooser, Predictions},
    evaluation::Evaluation,
    outcomes::{Row, Split},
    score::ScoreField,
    settings::{Recommended, Settings},
};

/// Two experts: `far` is dear and good at `hard`, `near` cheap and good at `easy`.
fn data() -> Data {
    let row = |id: &str, dataset: &str, split: &str, near: f64, far: f64| {
        let outcome = |name: &str, score: f64, cost: f64, tokens: u32, seconds: f64| {
            format!(
                r#"{{"expert":"{name}","score":{score},"bertsim":{},"nll":{},"cost_usd":{cost},"prompt_tokens":100,"completion_tokens":{tokens},"seconds":{seconds}}}"#,
                score / 2.0,
                2.0 - score
            )
        };
        let outcomes = [outcome("near", near, 0.001, 10, 1.0), outcome("far", far, 0.01, 40, 2.0)].join(",");
        format!(r#"{{"id":"{id}","dataset":"{dataset}","split":"{split}","prompt":"p","outcomes":[{outcomes}]}}"#)
    };
    let lines = [
        row("t1", "easy", "train", 1.0, 0.0),
        row("t2", "easy", "train", 1.0, 1.0),
        row("t3", "hard", "train", 0.0, 1.0),
        row("t4", "hard", "train", 0.0, 1.0),
        row("v1", "easy", "val", 1.0, 1.0),
        row("v2", "easy", "val", 1.0, 0.0),
        row("v3", "hard", "val", 0.0, 1.0),
        row("v4", "hard", "val", 0.5, 0.0),
        r#"{"id":"v5","dataset":"hard","split":"val","prompt":"p","outcomes":[{"expert":"near","score":1}]}"#.to_owned(),
    ];
    let rows: Vec<Row> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    Data::of(&rows, &ScoreField::default(), Some(&["near".into(), "far".into()]), &TextRules::default()).unwrap()
}

fn evaluation() -> Evaluation {
    let data = data();
    let (train, held_out) = (data.select(&data.of_split(Split::Train)), data.select(&data.of_split(Split::Val)));
    // Of v1 to v5, near and far: near by .2; near by .3; far by .4; far by .1; near.
    let predictions = Predictions {
        quality: array![[0.9, 0.7], [0.9, 0.6], [0.3, 0.7], [0.5, 0.6], [1.0, 0.0]],
        output_tokens: Array2::from_shape_fn((5, 2), |(_, expert)| [10.0, 40.0][expert]),
        seconds: vec![1.0, 2.0],
        prompt_tokens: vec![100.0; 5],
    };
    let flat = |usd: f64| Some(Prices { per_request: usd, ..Prices::default() });
    let chooser = Chooser::new(&data.experts, &[flat(0.001), flat(0.01)], &BTreeMap::new());
    let set = |setting| Recommended { setting, out_of_fold: None };
    let subject = Subject {
        train: &train,
        held_out: &held_out,
        split: "val",
        predictions: &predictions,
        chooser: &chooser,
        // .2 a cent: far, .9 cents dearer, must be better by .18; and by more than .45.
        settings: Settings { balanced: set(0.2), cost: set(0.45) },
        score_field: "score".into(),
        router_kind: "lexical".into(),
        best_single: None,
        placements: BTreeMap::from([("near".into(), "edge".into()), ("far".into(), "cloud".into())]),
    };
    compare(&subject).unwrap()
}

fn close(found: Option<f64>, expected: f64) {
    let found = found.expect("a value");
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
}

#[test]
fn figures_are_those_computed_by_hand() {
    let found = evaluation();
    assert_eq!((found.rows, found.rows_left_out), (4, 1), "v5 lacks far");
    assert_eq!((found.best_single.as_str(), found.cheapest.as_str()), ("far", "near"), "3 of 4 in training; by cost");
    let baselines = &found.overall.baselines;
    close(baselines.best_single.score, 0.5);
    close(baselines.cheapest.score, 2.5 / 4.0);
    close(baselines.random.score, (1.0 + 0.5 + 0.5 + 0.25) / 4.0);
    close(baselines.random.cost_per_1k_usd, 5.5);
    close(baselines.random.edge_cost_per_1k_usd, 0.5);
    close(baselines.label_given.score, 3.0 / 4.0);
    close(baselines.oracle.score, 3.5 / 4.0);
    close(baselines.oracle.cost_per_1k_usd, (3.0 * 1.0 + 10.0) / 4.0);
    close(baselines.experts["near"].bertsim, 2.5 / 8.0);
    close(baselines.experts["near"].nll, 2.0 - 2.5 / 4.0);
    close(baselines.experts["far"].tokens_per_second, 20.0);
    // near, near, far, far: 1, 1, 1, 0.
    let quality = &found.overall.router.quality;
    close(quality.score, 0.75);
    close(quality.standard_error, 0.25);
    close(quality.cost_per_1k_usd, 5.5);
    close(quality.tokens_per_second, 100.0 / 6.0);
    close(quality.edge_share, 0.5);
    close(quality.edge_cost_per_1k_usd, 0.5);
    close(quality.shares.get("far").copied(), 0.5);
    // near, near, far, near: 1, 1, 1, .5.
    close(found.overall.router.balanced.score, 3.5 / 4.0);
    close(found.overall.router.balanced.cost_per_1k_usd, 13.0 / 4.0);
    // near everywhere.
    close(found.overall.router.cost.score, 2.5 / 4.0);
    close(found.overall.router.cost.edge_share, 1.0);
}

#[test]
fn gains_gaps_and_named_points_follow_from_them() {
    let found = evaluation();
    // 0, 1, 0, 0 over far.
    assert!((found.gain_over_best_single.score - 0.25).abs() < 1e-6 && (found.gain_over_best_single.standard_error - 0.25).abs() < 1e-6);
    close(found.gain_over_best_single.cost_saved, 0.45);
    close(found.oracle_gap_share, 0.25 / 0.375);
    let points = &found.named_points;
    let best = points.best_score_within_cost.as_ref().unwrap();
    close(Some(best.score), 3.5 / 4.0);
    close(best.cost_per_1k_usd, 13.0 / 4.0);
    let cheapest = points.least_cost_at_score.as_ref().unwrap();
    close(cheapest.cost_per_1k_usd, 1.0);
    close(Some(cheapest.score), 2.5 / 4.0);
}

#[test]
fn data_sets_are_told_apart_and_json_comes_back_as_it_went() {
    let found = evaluation();
    assert_eq!(found.datasets.keys().collect::<Vec<_>>(), ["easy", "hard"]);
    close(found.datasets["easy"].router.quality.score, 1.0);
    close(found.datasets["hard"].baselines.label_given.score, 0.5);
    let json = serde_json::to_value(&found).unwrap();
    for path in
        ["/overall/baselines/experts/near/score", "/datasets/hard/router/cost/standard_error", "/named_points/least_cost_at_score/score"]
    {
        assert!(json.pointer(path).is_some_and(serde_json::Value::is_number), "{path}");
    }
    assert_eq!(serde_json::from_value::<Evaluation>(json).unwrap(), found);
    let text = table(&found);
    assert!(text.contains("best single (far)") && text.contains("4 val rows (1 left out"), "{text}");
}

#[test]
fn the_report_stands_alone_and_escapes_names() {
    let mut found = evaluation();
    found.best_single = "<script>alert(1)</script>".into();
    let html = crate::report::html(&found).unwrap();
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
    for title in ["Score by data set", "NLL by data set", "Quality, cost and throughput", "Score against cost", "Edge against cloud"] {
        assert!(html.contains(title), "{title}");
    }
    for outside in ["src=", "href=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("var(--router)"));
    assert!(!html.contains("#0102"), "every placeholder became a variable");
    let mut bare = found.clone();
    bare.placements.clear();
    bare.tolerance_curve.iter_mut().chain(&mut bare.cost_weight_curve).for_each(|point| point.edge_share = None);
    assert!(!crate::report::html(&bare).unwrap().contains("Edge against cloud"));
}

#[test]
fn a_pipe_is_written_into_and_a_file_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe).unwrap()
    });
    super::write_whole(&pipe, b"figures").unwrap();
    assert_eq!(reader.join().unwrap(), b"figures");
    assert!(!pipe.metadata().unwrap().is_file());
    let file = folder.path().join("file");
    for text in ["before", "after"] {
        super::write_whole(&file, text.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}
