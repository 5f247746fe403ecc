//! A folder with queries and a manifest, experts in this process, and the binary.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use replay::{Answer, Options, Recording, Replay, Script};
use serde_json::{Value, json};

/// What an outcomes file is called in its folder.
const OUT: &str = "outcomes.jsonl";

/// Two experts and a folder.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    /// `atlas` is dear, `birch` is cheap.
    pub(crate) atlas: Replay,
    pub(crate) birch: Replay,
}

/// Prices of `atlas` and `birch` for each request, in USD.
pub(crate) const PRICES: [f64; 2] = [0.02, 0.005];

impl Site {
    /// So many queries; each expert meets its script.
    pub(crate) async fn new(queries: usize, atlas: &str, birch: &str) -> Self {
        Self::with_recording(queries, recording(queries), atlas, birch).await
    }

    async fn with_recording(queries: usize, recording: Recording, atlas: &str, birch: &str) -> Self {
        let expert = |name: &str, script: &str| Options {
            recording: recording.clone(),
            expert: Some(name.to_owned()),
            fallback: Answer::text("unknown"),
            speed: 0.0,
            script: Script::parse(script).unwrap(),
            ..Options::default()
        };
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            atlas: Replay::start(expert("atlas", atlas)).await.unwrap(),
            birch: Replay::start(expert("birch", birch)).await.unwrap(),
        };
        site.write("queries.jsonl", &(0..queries).map(|at| format!("{}\n", query(at))).collect::<String>());
        site.write("router.yaml", &site.manifest(""));
        site
    }

    /// A manifest of both experts; `more` goes into each.
    pub(crate) fn manifest(&self, more: &str) -> String {
        let mut text =
            String::from("apiVersion: expertrouter.dev/v1alpha1\nkind: ExpertRouter\nmetadata: {name: test}\nspec:\n  experts:\n");
        for ((name, url), price) in [("atlas", self.atlas.url()), ("birch", self.birch.url())].into_iter().zip(PRICES) {
            text += &format!(
                "    - {{name: {name}, url: \"{url}/v1\", modelName: {name}-1, capabilities: [Logprobs], pricing: {{perRequest: \"{price}\"}}{more}}}\n"
            );
        }
        text
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_expert-router-train"));
        command.current_dir(self.folder.path()).args(["prepare", "--queries", "queries.jsonl", "--manifest", "router.yaml", "--out", OUT]);
        command.arg("--no-bertsim").args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end, while the experts answer.
    pub(crate) async fn run(&self, more: &[&str]) -> Ended {
        let mut command = self.command(more);
        Ended::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    }

    pub(crate) fn spawn(&self, more: &[&str]) -> Child {
        self.command(more).spawn().unwrap()
    }

    /// The outcomes file, line by line.
    pub(crate) fn outcomes(&self) -> Vec<Value> {
        lines(&fs::read_to_string(self.path(OUT)).unwrap())
    }

    pub(crate) fn has_outcomes(&self) -> bool {
        self.path(OUT).exists()
    }

    /// The journal's events; a last line that is cut off is not one.
    pub(crate) fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path(&format!("{OUT}.journal"))).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        lines(&text[..whole])
    }

    /// How often each question reached an expert.
    pub(crate) fn asked(&self) -> BTreeMap<(String, String), usize> {
        let mut asked = BTreeMap::new();
        for (name, expert) in [("atlas", &self.atlas), ("birch", &self.birch)] {
            for request in expert.requests() {
                let messages = request.json()["messages"].clone();
                let prompt = messages.as_array().and_then(|messages| messages.last()).map(|last| last["content"].to_string());
                *asked.entry((name.to_owned(), prompt.unwrap())).or_default() += 1;
            }
        }
        asked
    }

    pub(crate) fn requests(&self) -> usize {
        self.asked().values().sum()
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// The last line of standard output.
    pub(crate) summary: Value,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let text = String::from_utf8(output.stdout).unwrap();
        Self {
            code: output.status.code(),
            summary: text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default(),
            output: text,
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) fn query(at: usize) -> Value {
    json!({"id": format!("q{at}"), "dataset": "sums", "prompt": format!("What is {at} + 1?"), "match": "number", "answer": (at + 1).to_string()})
}

/// `atlas` is right, `birch` every third time.
fn recording(queries: usize) -> Recording {
    let mut recording = Recording::default();
    for at in 0..queries {
        for (expert, answer, tokens) in [("atlas", at + 1, 9), ("birch", at + 1 + at % 3, 4)] {
            let answer =
                Answer { prompt_tokens: 12 + at as u64 % 5, completion_tokens: tokens, ..Answer::text(format!("It is {answer}.")) };
            recording.insert(&format!("What is {at} + 1?"), expert, answer);
        }
    }
    recording
}

/// Outcomes without what no two runs share.
pub(crate) fn without_seconds(mut rows: Vec<Value>) -> Vec<Value> {
    for outcome in rows.iter_mut().filter_map(|row| row["outcomes"].as_array_mut()).flatten() {
        assert!(outcome["seconds"].as_f64().unwrap() >= 0.0);
        outcome.as_object_mut().unwrap().remove("seconds");
    }
    rows
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
