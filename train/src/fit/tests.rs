use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Parser;
use model::{Bundle, TextRules};

use super::{encoder_folder, fit};
use crate::{
    cli::{Cli, Command},
    data::Data,
    encoder::{Encoder, EncoderOptions},
    learn::tests::lines,
    outcomes::{self, Row, Split},
    router,
    score::{ScoreField, soft_label},
};

fn parsed(arguments: &[&str]) -> Command {
    Cli::try_parse_from(["expert-router-train"].iter().chain(arguments)).unwrap().command
}

fn run_fit(outcomes: &Path, out: &Path, more: &[&str]) -> anyhow::Result<super::Fitted> {
    let (outcomes, out) = (outcomes.to_str().unwrap(), out.to_str().unwrap());
    let kind: &[&str] = if more.contains(&"--router") { &[] } else { &["--router", "lexical", "--loss", "score"] };
    let arguments = [&["fit", "--outcomes", outcomes, "--out", out], kind, more].concat();
    let Command::Fit(arguments) = parsed(&arguments) else { panic!("not fit") };
    fit(&arguments, &|_| {})
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_bundle_is_fitted_written_and_evaluated_and_comes_out_the_same_twice() {
    let folder = tempfile::tempdir().unwrap();
    let outcomes = written(folder.path(), "outcomes.jsonl", &lines(300, 1.0).join("\n"));
    let out = folder.path().join("bundle");
    let fitted = run_fit(&outcomes, &out, &[]).unwrap();
    let again = run_fit(&outcomes, &folder.path().join("again.tar.gz"), &[]).unwrap();
    let read = Bundle::read(&out).unwrap();
    assert_eq!((read.digest.as_str(), fitted.bundle.digest.as_str()), (again.bundle.digest.as_str(), again.bundle.digest.as_str()));
    assert_eq!(Bundle::read(&folder.path().join("again.tar.gz")).unwrap().digest, read.digest);
    let training = &read.manifest.training;
    for key in ["data_sha256", "seed", "loss", "parts", "cross_validation", "guard", "recommended", "export_agreement"] {
        assert!(training.get(key).is_some(), "{key}");
    }
    let json = folder.path().join("evaluation.json");
    let arguments = [
        "evaluate",
        "--bundle",
        out.to_str().unwrap(),
        "--outcomes",
        outcomes.to_str().unwrap(),
        "--split",
        "val",
        "--json",
        json.to_str().unwrap(),
    ];
    let Command::Evaluate(arguments) = parsed(&arguments) else { panic!("not evaluate") };
    arguments.run().unwrap();
    let found: crate::evaluation::Evaluation = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    // What the bundle says through ONNX Runtime is what the trainer said of the same rows.
    let figures = |evaluation: &crate::evaluation::Evaluation| {
        let overall = &evaluation.overall;
        [&overall.router.quality, &overall.router.balanced, &overall.router.cost, &overall.baselines.best_single, &overall.baselines.oracle]
            .map(|measures| measures.score.unwrap())
    };
    for (found, told) in figures(&found).into_iter().zip(figures(&fitted.evaluation)) {
        assert!((found - told).abs() < 1e-9, "{found} is not {told}");
    }
    assert!(found.gain_over_best_single.score > 0.2);
}

#[test]
fn a_router_learns_from_another_bundle_what_no_expert_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let all = lines(600, 1.0);
    let teacher = folder.path().join("teacher");
    run_fit(&written(folder.path(), "all.jsonl", &all.join("\n")), &teacher, &[]).unwrap();
    // Validation rows are whole; of the others one in forty, the rest are prompts alone.
    let keeps = |row: usize| row % 5 == 4 || row.is_multiple_of(40);
    let unasked = |line: &String| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        serde_json::json!({"id": row["id"], "split": row["split"], "prompt": row["prompt"]}).to_string()
    };
    let few: Vec<String> = all.iter().enumerate().map(|(row, line)| if keeps(row) { line.clone() } else { unasked(line) }).collect();
    let few = written(folder.path(), "few.jsonl", &few.join("\n"));
    let out = folder.path().join("bundle");
    let score = |fitted: &super::Fitted| fitted.evaluation.overall.router.quality.score.unwrap();
    let alone = run_fit(&few, &out, &[]).unwrap();
    assert!(alone.bundle.manifest.training["distilled"].is_null());
    let taught = run_fit(&few, &out, &["--distil", teacher.to_str().unwrap(), "--distil-share", "0.8"]).unwrap();
    assert!(score(&taught) > score(&alone) + 0.05, "{} is little more than {}", score(&taught), score(&alone));
    let told = &taught.bundle.manifest.training["distilled"];
    assert_eq!(told["bundle"], Bundle::read(&teacher).unwrap().digest.as_str());
    let other = written(folder.path(), "other.jsonl", &all.join("\n").replace("\"sums\"", "\"adds\""));
    let error = format!("{:#}", run_fit(&other, &out, &["--distil", teacher.to_str().unwrap()]).unwrap_err());
    assert!(error.contains("has no expert adds; it has cheap, sums, words"), "{error}");
}

#[test]
fn bad_input_is_told_by_file_and_line_and_an_earlier_bundle_stays() {
    let folder = tempfile::tempdir().unwrap();
    let good = lines(60, 1.0);
    let out = folder.path().join("bundle");
    run_fit(&written(folder.path(), "good.jsonl", &good.join("\n")), &out, &[]).unwrap();
    let before = fs::read(out.join("bundle.json")).unwrap();
    let check = |name: &str, text: &str, more: &[&str], expected: &[&str]| {
        let error = format!("{:#}", run_fit(&written(folder.path(), name, text), &out, more).unwrap_err());
        assert!(error.contains(name) && expected.iter().all(|part| error.contains(part)), "{name}: {error}");
        assert_eq!(fs::read(out.join("bundle.json")).unwrap(), before, "{name}: nothing is overwritten");
    };
    let with = |at: usize, line: &str| {
        let mut lines = good.clone();
        lines[at] = line.to_owned();
        lines.join("\n")
    };
    check("empty.jsonl", "", &[], &["has no rows"]);
    check("nan.jsonl", &with(6, &good[6].replace("\"score\":", "\"score\":NaN,\"x\":")), &[], &["nan.jsonl:7"]);
    check("twice.jsonl", &with(9, &good[3]), &[], &["twice.jsonl:10", "line 4 already"]);
    check("unknown.jsonl", &good.join("\n"), &["--experts", "sums,nobody"], &["unknown expert nobody", "cheap, sums, words"]);
    check("noval.jsonl", &good.join("\n").replace("\"val\"", "\"train\""), &[], &["no validation rows"]);
    check("notrain.jsonl", &good.join("\n").replace("\"train\"", "\"val\""), &[], &["no training rows"]);
    let same = good.join("\n").replace("\"score\":0", "\"score\":1");
    check("onesided.jsonl", &same, &[], &["one-sided"]);
    check("field.jsonl", &good.join("\n"), &["--score", "bertsim"], &["at least two experts with scores"]);
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_anything_is_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let outcomes = written(folder.path(), "outcomes.jsonl", &lines(60, 1.0).join("\n"));
    for (out, problem) in
        [("outcomes.jsonl", "Not a directory"), (".", "left as it is"), ("outcomes.jsonl/bundle", "outcomes.jsonl/bundle")]
    {
        let out = folder.path().join(out);
        let Command::Fit(arguments) = parsed(&["fit", "--outcomes", outcomes.to_str().unwrap(), "--out", out.to_str().unwrap()]) else {
            panic!("not fit")
        };
        let error = fit(&arguments, &|what| panic!("began with {what}")).unwrap_err();
        assert!(format!("{error:#}").contains(problem), "{error:#}");
    }
}

#[test]
fn experts_that_cost_nothing_are_routed_between() {
    let folder = tempfile::tempdir().unwrap();
    let free = |line: String| {
        let mut row: Row = serde_json::from_str(&line).unwrap();
        row.outcomes.iter_mut().for_each(|outcome| outcome.cost_usd = Some(0.0));
        serde_json::to_string(&row).unwrap()
    };
    let rows: Vec<String> = lines(120, 1.0).into_iter().map(free).collect();
    let outcomes = written(folder.path(), "outcomes.jsonl", &rows.join("\n"));
    let fitted = run_fit(&outcomes, &folder.path().join("bundle"), &[]).unwrap();
    assert_eq!(fitted.evaluation.overall.router.balanced.cost_per_1k_usd, Some(0.0));
}

#[test]
fn a_truncated_archive_is_an_error_and_a_row_of_ten_megabytes_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = lines(60, 1.0);
    let out = folder.path().join("bundle");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(lines.join("\n").as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let path = folder.path().join("cut.jsonl.gz");
    fs::write(&path, &packed[..packed.len() / 2]).unwrap();
    let error = format!("{:#}", run_fit(&path, &out, &[]).unwrap_err());
    assert!(error.contains("cut.jsonl.gz:") && error.contains("cannot read on"), "{error}");
    assert!(!out.exists());
    lines[5] = lines[5].replace("\"prompt\":\"", &format!("\"prompt\":\"{}", "long words ".repeat(1_000_000)));
    run_fit(&written(folder.path(), "long.jsonl", &lines.join("\n")), &out, &[]).unwrap();
    assert!(out.join("bundle.json").is_file());
}

/// The mean of the nearest training queries' soft labels, by comparing with every one of them.
#[test]
fn a_knn_bundle_says_what_a_search_through_all_training_queries_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "outcomes.jsonl", &lines(150, 1.0).join("\n"));
    let out = folder.path().join("bundle");
    run_fit(&path, &out, &["--router", "knn", "--loss", "soft-label", "--temperature", "4"]).unwrap();
    let bundle = Bundle::read(&out).unwrap();
    assert_eq!(bundle.manifest.router, "knn");
    let told = |pointer: &str| bundle.manifest.training.pointer(pointer).and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN) as f32;
    let (count, favour) = (told("/parts/0/options/neighbours") as usize, told("/guard/favour"));
    let lowered = told("/thrift/lowered");
    let data = Data::of(&outcomes::read(&path).unwrap(), &ScoreField::default(), None, &TextRules::default()).unwrap();
    let (train, val) = (data.select(&data.of_split(Split::Train)), data.select(&data.of_split(Split::Val)));
    let best =
        bundle.manifest.training["best_single"].as_str().and_then(|name| train.experts.iter().position(|expert| expert == name)).unwrap();
    let encoder = Encoder::open(&parts::encoder().unwrap(), EncoderOptions::default()).unwrap();
    let (keys, queries) = (encoder.embed(&train.texts, &|_, _| {}).unwrap(), encoder.embed(&val.texts, &|_, _| {}).unwrap());
    let engine = router::load(bundle).unwrap();
    let mut near = 0;
    for (query, found) in queries.rows().into_iter().zip(engine.score_all(&val.texts).unwrap()) {
        let mut order: Vec<usize> = (0..train.rows()).collect();
        order.sort_by(|one, other| keys.row(*other).dot(&query).total_cmp(&keys.row(*one).dot(&query)));
        let mut share = ndarray::Array1::<f32>::zeros(3);
        order[..count.min(order.len())].iter().for_each(|row| share += &soft_label(train.score.row(*row), 4.0));
        let share = share / count.min(order.len()) as f32;
        let costs = [0.0001_f32, 0.002, 0.001];
        let moved = |expert: usize| if expert == best { favour } else { 0.0 } - lowered * costs[expert] * 3.0 / costs.iter().sum::<f32>();
        let quality = |expert: usize| share[expert].max(1e-3).ln() / 4.0 + moved(expert);
        let error =
            (0..3).map(|expert| (found.quality[expert] - found.quality[0] - quality(expert) + quality(0)).abs()).fold(0.0, f32::max);
        // Keys are kept in 16 bits: the last of the neighbours may be another of those that lie as far.
        assert!(error < 0.03, "{error}");
        near += usize::from(error < 2e-3);
    }
    assert!(near * 10 >= val.rows() * 8, "{near} of {}", val.rows());
}

#[test]
fn networks_and_mixtures_are_exported_as_they_were_trained() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "outcomes.jsonl", &lines(150, 1.0).join("\n"));
    for (kind, loss) in [("mlp", "soft-label"), ("auto", "auto")] {
        let out = folder.path().join(kind);
        // An export that differs from the trainer is an error.
        let fitted = run_fit(&path, &out, &["--router", kind, "--loss", loss]).unwrap();
        assert!(fitted.bundle.manifest.training["export_agreement"]["most"].as_f64().unwrap() < 0.01, "{kind}");
        let gain = &fitted.bundle.manifest.training["guard"];
        assert!(gain["gain"].as_f64().unwrap() > 0.1, "{kind}: {gain}");
    }
}

#[test]
fn an_encoder_is_the_one_asked_for_or_that_of_the_image_or_the_one_that_was_fetched() {
    let missing = || Err(parts::file("no-such-part", "x").unwrap_err());
    let [asked, image, fetched] = ["asked", "image", "fetched"].map(PathBuf::from);
    assert_eq!(encoder_folder(Some(asked.clone()), Some(image.clone()), missing()), Ok(asked));
    assert_eq!(encoder_folder(None, Some(image.clone()), missing()), Ok(image));
    assert_eq!(encoder_folder(None, None, Ok(fetched.clone())), Ok(fetched));
    assert!(encoder_folder(None, None, missing()).is_err());
}
