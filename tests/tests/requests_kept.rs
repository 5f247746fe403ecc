//! From live traffic to a router: a real `expert-router` keeps requests, and `expert-router-train` prepares and fits from them.

use std::{ffi::OsString, fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser as _;
use replay::{Answer, Options, Recording, Replay};
use serde_json::{Value, json};
use tests::{Router, client, law};

const EXPERT_ROUTER: &str = env!("CARGO_BIN_EXE_expert-router-under-test");
const QUESTIONS: usize = 60;

fn question(number: usize) -> String {
    if number.is_multiple_of(2) { format!("What is {number} plus {}?", number * 3) } else { law(number) }
}

/// Both can add; only the large one knows the law.
async fn expert(name: &str) -> Result<Replay> {
    let mut recording = Recording::default();
    for number in 0..QUESTIONS {
        let text = match (name, number.is_multiple_of(2)) {
            (_, true) => format!("The sum is {}.", number * 4),
            ("large", false) => "Consideration is what each party to a contract gives in return for the promise of the other.".to_owned(),
            _ => "No idea!".to_owned(),
        };
        recording.insert(&question(number), name, Answer::text(text).tokens(20, 0, 10));
    }
    Ok(Replay::start(Options { recording, expert: Some(name.to_owned()), speed: 0.0, ..Options::default() }).await?)
}

fn train(arguments: &[&str]) -> Result<()> {
    let words = std::iter::once("expert-router-train").chain(arguments.iter().copied()).map(OsString::from);
    let code = train::cli::Cli::try_parse_from(words)?.run();
    ensure!(code == ExitCode::SUCCESS, "{arguments:?} failed");
    Ok(())
}

fn manifest(experts: [&str; 2]) -> String {
    let [small, large] = experts;
    format!(
        "
apiVersion: expertrouter.dev/v1alpha1
kind: ExpertRouter
metadata: {{name: chat}}
spec:
  experts:
    - {{name: small, url: \"{small}/v1\", modelName: s, pricing: {{inputPerMillion: \"1\", outputPerMillion: \"2\"}}}}
    - {{name: large, url: \"{large}/v1\", modelName: l, pricing: {{inputPerMillion: \"10\", outputPerMillion: \"20\"}}}}
  policy: {{fallbackExpert: large}}
  observability: {{requestLog: {{percent: 100, includeResponses: true}}}}
"
    )
}

fn read(path: &Path) -> Result<Vec<Value>> {
    fs::read_to_string(path)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_is_trained_on_the_requests_that_one_kept() -> Result<()> {
    let (small, large) = (expert("small").await?, expert("large").await?);
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_str().map(str::to_owned).context("a path of UTF-8");
    let text = manifest([&small.url(), &large.url()]);
    fs::write(path("chat.yaml")?, &text)?;
    let kept = path("kept")?;
    let mut router = Router::start_in(EXPERT_ROUTER, &text, &[("EXPERT_ROUTER_REQUEST_LOG_DIR", &kept)])?;
    for number in 0..QUESTIONS {
        let body = json!({"model": "auto", "stream": number % 3 == 0, "messages": [{"role": "user", "content": question(number)}]});
        let response = client()?.post(format!("{}/chat/completions", router.base_url())).json(&body).send().await?;
        ensure!(response.status() == 200, "{}", response.status());
        response.bytes().await?;
    }
    router.stop().await?;
    let (asked_small, asked_large) = (small.totals().received, large.totals().received);
    ensure!((asked_small, asked_large) == (0, QUESTIONS), "the fallback expert answered all: {asked_small} {asked_large}");

    let (chat, outcomes, bundle) = (path("chat.yaml")?, path("outcomes.jsonl")?, path("bundle")?);
    let of_training = outcomes.clone();
    tokio::task::spawn_blocking(move || {
        let prepare = ["prepare", "--queries", &kept, "--manifest", &chat, "--out", &of_training, "--reference-expert", "large"];
        train(&prepare)?;
        train(&["fit", "--outcomes", &of_training, "--manifest", &chat, "--router", "lexical", "--out", &bundle])
    })
    .await??;
    ensure!(large.totals().received == asked_large, "what was answered already is not asked and not paid for again");
    ensure!(small.totals().received == QUESTIONS, "the other expert was asked everything: {}", small.totals().received);
    let rows = read(Path::new(&outcomes))?;
    ensure!(rows.len() == QUESTIONS, "{} rows", rows.len());
    for row in &rows {
        let of = |name: &str| row["outcomes"].as_array().into_iter().flatten().find(|outcome| outcome["expert"] == name);
        let similar = |name: &str| of(name).and_then(|outcome| outcome["bertsim"].as_f64()).with_context(|| format!("{name} in {row}"));
        let adds = row["messages"][0]["content"].as_str().is_some_and(|text| text.starts_with("What is"));
        ensure!(similar("large")? > 0.999 && (similar("small")? > 0.999) == adds, "{row}");
    }
    ensure!(folder.path().join("bundle/bundle.json").is_file(), "a bundle was written");
    Ok(())
}
