//! `expert-router-train run`: one manifest, one folder; the second time nothing is asked and nothing is trained.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{fs, process::Command};

use replay::{Answer, Options, Recording, Replay};
use serde_json::{Value, json};

const QUERIES: usize = 90;

/// Sums, of which `atlas` is right, and capitals, of which `birch` is.
fn query(at: usize) -> Value {
    let (dataset, prompt, answer) = match at % 2 {
        0 => ("sums", format!("What is {at} + 1?"), (at + 1).to_string()),
        _ => ("capitals", format!("Name the capital of country number {at}, please."), format!("City{at}")),
    };
    let split = ["train", "train", "train", "val", "test"][at / 2 % 5];
    json!({"id": format!("q{at}"), "dataset": dataset, "split": split, "prompt": prompt, "match": "contains", "answer": answer})
}

async fn expert(kind: usize) -> Replay {
    let mut recording = Recording::default();
    for at in 0..QUERIES {
        let query = query(at);
        let answer = if at % 2 == kind { query["answer"].as_str().unwrap().to_owned() } else { "I do not know.".to_owned() };
        recording.insert(query["prompt"].as_str().unwrap(), "x", Answer::text(answer));
    }
    Replay::start(Options { recording, expert: Some("x".to_owned()), speed: 0.0, ..Options::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_manifest_makes_a_bundle_and_its_report_and_a_second_run_asks_nobody() {
    let (atlas, birch) = (expert(0).await, expert(1).await);
    let folder = tempfile::tempdir().unwrap();
    let queries: String = (0..QUERIES).map(|at| format!("{}\n", query(at))).collect();
    fs::write(folder.path().join("queries.jsonl"), queries).unwrap();
    let manifest = format!(
        "apiVersion: expertrouter.dev/v1alpha1\nkind: RouterModel\nmetadata: {{name: chat}}\nspec:\n  queries: {{uri: queries.jsonl}}\n  experts:\n    endpoints:\n\
        \x20     - {{name: atlas, url: \"{}/v1\", modelName: a, pricing: {{perRequest: \"0.002\"}}}}\n\
        \x20     - {{name: birch, url: \"{}/v1\", modelName: b, pricing: {{perRequest: \"0.001\"}}}}\n\
        \x20 scoring: {{metric: Match}}\n  router: {{type: Lexical, seed: 3}}\n  job: {{maxCostUsd: \"1\"}}\n  output: {{directory: trained}}\n",
        atlas.url(),
        birch.url()
    );
    fs::write(folder.path().join("model.yaml"), manifest).unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_expert-router-train"));
        command.args(["run", "--manifest"]).arg(folder.path().join("model.yaml"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    let first = tokio::task::block_in_place(run);
    assert!(!first.contains("made of the very same already"), "{first}");
    assert_eq!((atlas.requests().len(), birch.requests().len()), (QUERIES, QUERIES));
    let trained = folder.path().join("trained");
    let evaluation: Value = serde_json::from_slice(&fs::read(trained.join("evaluation.json")).unwrap()).unwrap();
    let overall = &evaluation["overall"];
    let score = |value: &Value| value["score"].as_f64().unwrap();
    assert_eq!(evaluation["split"], "test");
    assert!(score(&overall["router"]["quality"]) > score(&overall["baselines"]["best_single"]) + 0.3, "{overall}");
    let bundle = fs::read(trained.join("bundle/bundle.json")).unwrap();
    assert!(trained.join("report/report.html").exists());

    let second = tokio::task::block_in_place(run);
    assert!(second.contains("made of the very same already"), "{second}");
    assert_eq!((atlas.requests().len(), birch.requests().len()), (QUERIES, QUERIES), "nothing is asked twice");
    assert_eq!(fs::read(trained.join("bundle/bundle.json")).unwrap(), bundle);
}
