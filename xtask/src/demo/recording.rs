//! The committed recording of all answers, and the sample of it that is asked again.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::screen::row;

/// Rows of an outcomes file.
pub(super) type Rows = Vec<Value>;

/// Reads an outcomes file, compressed or not.
pub(super) fn read(path: &Path) -> Result<Rows> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let lines: Box<dyn BufRead> = match path.extension().is_some_and(|ending| ending == "gz") {
        true => Box::new(BufReader::new(GzDecoder::new(file))),
        false => Box::new(BufReader::new(file)),
    };
    let mut rows = Vec::new();
    for (at, line) in lines.lines().enumerate() {
        let place = || format!("{}:{}", path.display(), at + 1);
        rows.push(serde_json::from_str(&line.with_context(place)?).with_context(place)?);
    }
    Ok(rows)
}

/// The queries with their recorded outcomes, except for every `every`-th: those have none, so that `prepare` asks them. How many those
/// are comes out.
pub(super) fn write_sample(queries: &Rows, recording: &Rows, every: usize, path: &Path) -> Result<usize> {
    let recorded: BTreeMap<&str, &Value> = recording.iter().map(|row| (id(row), row)).collect();
    let mut file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    let mut asked = 0;
    for (at, query) in queries.iter().enumerate() {
        let row = if at % every == 0 {
            asked += 1;
            query
        } else {
            match recorded.get(id(query)) {
                Some(row) if row["prompt"] == query["prompt"] => *row,
                _ => bail!("the recording does not have the query {}: it was made of other queries", id(query)),
            }
        };
        writeln!(file, "{row}").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(asked)
}

/// What asking again came to, expert by expert.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Agreement {
    asked: usize,
    same_answer: usize,
    same_score: usize,
    right_now: f64,
    right_then: f64,
    same_tokens: usize,
}

/// Compares the sample with what was recorded.
pub(super) fn compare(now: &Rows, recording: &Rows, every: usize) -> BTreeMap<String, Agreement> {
    let recorded: BTreeMap<&str, &Value> = recording.iter().map(|row| (id(row), row)).collect();
    let mut all: BTreeMap<String, Agreement> = BTreeMap::new();
    for row in now.iter().step_by(every) {
        let Some(then) = recorded.get(id(row)) else { continue };
        for outcome in outcomes(row) {
            let Some(old) = outcomes(then).iter().find(|old| old["expert"] == outcome["expert"]) else { continue };
            let agreement = all.entry(outcome["expert"].as_str().unwrap_or_default().to_owned()).or_default();
            agreement.asked += 1;
            agreement.same_answer += usize::from(outcome["response"] == old["response"]);
            agreement.same_score += usize::from(outcome["score"] == old["score"]);
            agreement.same_tokens += usize::from(outcome["prompt_tokens"] == old["prompt_tokens"]);
            agreement.right_now += outcome["score"].as_f64().unwrap_or_default();
            agreement.right_then += old["score"].as_f64().unwrap_or_default();
        }
    }
    all
}

impl Agreement {
    pub(super) fn sum(all: &BTreeMap<String, Self>) -> Self {
        all.values().fold(Self::default(), |sum, one| Self {
            asked: sum.asked + one.asked,
            same_answer: sum.same_answer + one.same_answer,
            same_score: sum.same_score + one.same_score,
            same_tokens: sum.same_tokens + one.same_tokens,
            right_now: sum.right_now + one.right_now,
            right_then: sum.right_then + one.right_then,
        })
    }

    /// The share of answers that were right then and now, or wrong then and now.
    pub(super) fn score_share(&self) -> f64 {
        self.same_score as f64 / self.asked.max(1) as f64
    }

    /// The head of the table that [`Self::cells`] fills.
    pub(super) fn head() -> Vec<String> {
        row(["expert", " asked", " same answer", " same verdict", " same prompt tokens", " right now", " right then"])
    }

    pub(super) fn cells(&self, name: &str) -> Vec<String> {
        let share = |count: f64| format!("{:.0} %", 100.0 * count / self.asked.max(1) as f64);
        let count = |count: usize| share(count as f64);
        vec![
            name.to_owned(),
            self.asked.to_string(),
            count(self.same_answer),
            count(self.same_score),
            count(self.same_tokens),
            share(self.right_now),
            share(self.right_then),
        ]
    }
}

pub(super) fn id(row: &Value) -> &str {
    row["id"].as_str().unwrap_or_default()
}

fn outcomes(row: &Value) -> &[Value] {
    row["outcomes"].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recorded(id: &str, response: &str, score: f64) -> Value {
        json!({"id": id, "prompt": format!("p{id}"), "outcomes": [{"expert": "a", "response": response, "score": score, "prompt_tokens": 3}]})
    }

    #[test]
    fn every_other_query_is_asked_again_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.jsonl");
        let queries: Rows = ["1", "2", "3"].iter().map(|id| json!({"id": id, "prompt": format!("p{id}")})).collect();
        let recording = vec![recorded("1", "x", 1.0), recorded("2", "y", 0.0), recorded("3", "z", 1.0)];
        assert_eq!(write_sample(&queries, &recording, 2, &path).unwrap(), 2);
        let sample = read(&path).unwrap();
        assert_eq!(sample.iter().map(|row| row.get("outcomes").is_some()).collect::<Vec<_>>(), [false, true, false]);
        let now = vec![recorded("1", "x", 1.0), recorded("2", "other", 1.0), recorded("3", "w", 0.0)];
        let all = compare(&now, &recording, 2);
        assert_eq!(all["a"].cells("a"), ["a", "2", "50 %", "50 %", "100 %", "50 %", "100 %"]);
        assert_eq!(Agreement::sum(&all), all["a"]);
        assert!((all["a"].score_share() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_recording_of_other_queries_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let queries = vec![json!({"id": "1", "prompt": "p1"}), json!({"id": "2", "prompt": "other"})];
        let recording = vec![recorded("1", "x", 1.0), recorded("2", "y", 0.0)];
        let error = write_sample(&queries, &recording, 2, &folder.path().join("s")).unwrap_err().to_string();
        assert!(error.contains("query 2"), "{error}");
    }
}
