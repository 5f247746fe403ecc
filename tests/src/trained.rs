//! A small trained router, for tests that need one which scores.

use std::{ffi::OsString, fs, path::Path, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Parser as _;
use serde_json::json;

/// A lexical router in `folder/bundle`: questions of arithmetic to the expert `small`, of law to `large`.
///
/// # Errors
/// The folder cannot be written, or training failed.
pub fn lexical_bundle(folder: &Path) -> Result<()> {
    let mut rows = String::new();
    for number in 0..120 {
        let split = ["train", "train", "train", "val", "test"][number % 5];
        let small = number % 2 == 0;
        let prompt = if small { format!("What is {number} plus {}?", number * 3) } else { law(number) };
        let score = |good: bool| if good { 0.9 } else { 0.4 };
        let outcomes = json!([
            {"expert": "small", "score": score(small), "bertsim": score(small), "completion_tokens": 11, "seconds": 0.1},
            {"expert": "large", "score": score(!small) - 0.05, "bertsim": score(!small) - 0.05, "completion_tokens": 53, "seconds": 0.5},
        ]);
        rows += &format!(
            "{}\n",
            json!({"id": number.to_string(), "dataset": "made-up", "split": split, "prompt": prompt, "outcomes": outcomes})
        );
    }
    let file = folder.join("outcomes.jsonl");
    fs::write(&file, rows)?;
    let arguments = ["expert-router-train", "fit", "--router", "lexical", "--outcomes"].map(OsString::from);
    let arguments = arguments.into_iter().chain([file.into(), "--out".into(), folder.join("bundle").into()]);
    let code = train::cli::Cli::try_parse_from(arguments)?.run();
    ensure!(code == ExitCode::SUCCESS, "training failed");
    Ok(())
}

/// A question of law.
#[must_use]
pub fn law(number: usize) -> String {
    format!("Explain the doctrine of consideration in contract law, case {number}.")
}
