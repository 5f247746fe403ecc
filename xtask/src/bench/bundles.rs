//! The routers under measurement: trained here, on outcomes made up here. How good they are says nothing; how fast they are does, for
//! what a decision costs depends on the kind of router and the length of the prompt.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::prompt::{Prompts, Random};
use super::servers::{EXPERTS, Site};

/// Queries of the made-up outcomes: enough for words to recur, few enough to encode in seconds.
const QUERIES: u64 = 400;

/// Trains a router of that kind and says where its bundle is.
pub(super) fn train(kind: &str, site: &Site<'_>) -> Result<PathBuf> {
    let (outcomes, bundle) = (site.folder.join("outcomes.jsonl"), site.folder.join(format!("bundle-{kind}")));
    write_outcomes(&outcomes, site.prompts)?;
    if bundle.exists() {
        fs::remove_dir_all(&bundle).with_context(|| format!("removing {}", bundle.display()))?;
    }
    let output = Command::new(site.binaries.join("expert-router-train"))
        .args(["fit", "--router", kind, "--outcomes"])
        .arg(&outcomes)
        .arg("--out")
        .arg(&bundle)
        .output()
        .context("starting expert-router-train")?;
    if !output.status.success() {
        bail!("training a {kind} router: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(bundle)
}

fn write_outcomes(path: &Path, prompts: &Prompts) -> Result<()> {
    let mut file = std::io::BufWriter::new(fs::File::create(path).with_context(|| format!("making {}", path.display()))?);
    let mut random = Random::new(1);
    for number in 0..QUERIES {
        // Even lengths from the few to the many words that the cases ask.
        let prompt = prompts.text(number + (1 << 40), 10 + random.below(90));
        let split = ["train", "train", "train", "val", "test"][random.below(5)];
        // Long words suit the first experts, so that there is something to learn.
        let long = prompt.split(' ').filter(|word| word.len() > 6).count() as f64 / prompt.split(' ').count() as f64;
        let outcomes: Vec<_> = EXPERTS
            .iter()
            .enumerate()
            .map(|(index, expert)| {
                let score = (long * (4.0 - index as f64) / 4.0 + 0.3 * random.unit() + 0.1 * index as f64).clamp(0.0, 1.0);
                json!({"expert": expert, "score": score, "bertsim": score, "completion_tokens": 20 + index, "seconds": 0.5})
            })
            .collect();
        let row = json!({"id": number.to_string(), "dataset": "made-up", "split": split, "prompt": prompt, "outcomes": outcomes});
        writeln!(file, "{row}")?;
    }
    Ok(file.flush()?)
}
