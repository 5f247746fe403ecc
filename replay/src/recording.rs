//! A recording: what each expert answered to each prompt. Comes in: an outcomes file (`.jsonl`, also `.gz` and `.zst`), of which
//! only the fields that matter here are read.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::answer::Answer;
use crate::asked::last_user_text;

/// Answers by prompt and expert.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    answers: HashMap<String, Vec<(String, Answer)>>,
    experts: BTreeSet<String>,
}

/// Why an outcomes file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file is not there or not readable.
    #[error("reading outcomes from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A line is not an outcomes row.
    #[error("{path}, line {line}: not an outcomes row")]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Row {
    prompt: Option<String>,
    messages: Option<Vec<serde_json::Value>>,
    prompt_tokens: Option<f64>,
    #[serde(default)]
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    expert: String,
    nll: Option<f64>,
    prompt_tokens: Option<f64>,
    completion_tokens: Option<f64>,
    cached_tokens: Option<f64>,
    seconds: Option<f64>,
    response: Option<String>,
}

impl Recording {
    /// Reads an outcomes file, unpacked as its name says.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::Read { path: path.to_owned(), source };
        let reader = BufReader::new(open(path).map_err(failed)?);
        let mut recording = Recording::default();
        for (index, line) in reader.lines().enumerate() {
            let line = line.map_err(failed)?;
            if line.trim().is_empty() {
                continue;
            }
            let row =
                serde_json::from_str(&line).map_err(|source| RecordingError::Row { path: path.to_owned(), line: index + 1, source })?;
            recording.add(row);
        }
        Ok(recording)
    }

    /// Adds an answer, or replaces the one that expert had for that prompt.
    pub fn insert(&mut self, prompt: &str, expert: &str, answer: Answer) {
        self.experts.insert(expert.to_owned());
        let answers = self.answers.entry(prompt.trim().to_owned()).or_default();
        answers.retain(|(name, _)| name != expert);
        answers.push((expert.to_owned(), answer));
    }

    /// What that expert answered to that prompt. A recording of one expert needs no name.
    pub fn find(&self, prompt: &str, expert: &str) -> Option<&Answer> {
        let answers = self.answers.get(prompt.trim())?;
        let named = answers.iter().find(|(name, _)| name == expert);
        named.or(if self.experts.len() == 1 { answers.first() } else { None }).map(|(_, answer)| answer)
    }

    /// The experts that occur, by name.
    pub fn experts(&self) -> impl Iterator<Item = &str> {
        self.experts.iter().map(String::as_str)
    }

    /// How many prompts it has.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn add(&mut self, row: Row) {
        let Some(prompt) = row.prompt.or_else(|| row.messages.as_deref().and_then(last_user_text)) else { return };
        for outcome in row.outcomes {
            let answer = outcome.answer(row.prompt_tokens);
            self.insert(&prompt, &outcome.expert, answer);
        }
    }
}

impl Outcome {
    fn answer(&self, prompt_tokens: Option<f64>) -> Answer {
        let count = |value: Option<f64>| value.map(|number| number.max(0.0).round() as u64);
        let guessed = self.response.as_deref().map_or(20, crate::answer::guess_tokens);
        let completion_tokens = count(self.completion_tokens).unwrap_or(guessed);
        let seconds = self.seconds.filter(|seconds| seconds.is_finite() && (0.0..=86_400.0).contains(seconds));
        Answer {
            text: self.response.clone().unwrap_or_else(|| Answer::filler(completion_tokens)),
            prompt_tokens: count(self.prompt_tokens.or(prompt_tokens)).unwrap_or(10),
            cached_tokens: count(self.cached_tokens).unwrap_or(0),
            completion_tokens,
            duration: seconds.map_or_else(|| Answer::usual_duration(completion_tokens), Duration::from_secs_f64),
            logprob: -self.nll.unwrap_or(0.5),
        }
    }
}

fn open(path: &Path) -> std::io::Result<Box<dyn Read>> {
    let file = File::open(path)?;
    Ok(match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file)?),
        _ => Box::new(file),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const ROWS: &str = concat!(
        r#"{"id":"1","prompt":"2+2?","prompt_tokens":7,"outcomes":[{"expert":"a","response":"4","completion_tokens":3,"seconds":0.5},"#,
        r#"{"expert":"b","completion_tokens":2,"prompt_tokens":9,"cached_tokens":4,"nll":1.5}],"extra":1}"#,
        "\n\n",
        r#"{"id":"2","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"Hi"}]}],"outcomes":[{"expert":"a"}]}"#,
        "\n"
    );

    fn check(recording: &Recording) {
        assert_eq!((recording.len(), recording.experts().collect::<Vec<_>>()), (2, vec!["a", "b"]));
        let first = recording.find(" 2+2?\n", "a").unwrap();
        assert_eq!((first.text.as_str(), first.prompt_tokens, first.duration), ("4", 7, Duration::from_millis(500)));
        let second = recording.find("2+2?", "b").unwrap();
        assert_eq!((second.prompt_tokens, second.cached_tokens, second.completion_tokens, second.logprob), (9, 4, 2, -1.5));
        assert_eq!((second.text.as_str(), second.duration), ("so it", Duration::from_millis(40)));
        assert!(recording.find("Hi", "a").is_some() && recording.find("Hi", "b").is_none());
    }

    #[test]
    fn rows_are_read_plain_and_packed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        std::fs::write(path("o.jsonl"), ROWS).unwrap();
        let mut packed = flate2::write::GzEncoder::new(File::create(path("o.jsonl.gz")).unwrap(), flate2::Compression::fast());
        packed.write_all(ROWS.as_bytes()).unwrap();
        packed.finish().unwrap();
        std::fs::write(path("o.jsonl.zst"), zstd::encode_all(ROWS.as_bytes(), 1).unwrap()).unwrap();
        for name in ["o.jsonl", "o.jsonl.gz", "o.jsonl.zst"] {
            check(&Recording::read(&path(name)).unwrap());
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.jsonl");
        std::fs::write(&path, "{\"outcomes\":[]}\n{\"outcomes\":3}\n").unwrap();
        let error = Recording::read(&path).unwrap_err();
        assert!(matches!(error, RecordingError::Row { line: 2, .. }), "{error}");
    }

    #[test]
    fn a_recording_of_one_expert_answers_to_any_name() {
        let mut recording = Recording::default();
        recording.insert("q", "only", Answer::text("yes"));
        assert!(recording.find("q", "whoever").is_some());
        recording.insert("q", "other", Answer::text("no"));
        assert!(recording.find("q", "whoever").is_none());
    }
}
