//! The journal of a preparation: every request before it is sent, every answer as soon as it is there.
//!
//! In: events. Out: a file of JSON lines that is only ever appended to, and what can be read from it: the answers, and what was spent. An
//! answer counts as kept once it is on the disk. Of a line that a crash cut short nothing is taken. A request without an answer may have
//! been paid for: it counts with its worst case. What was paid counts in the journal of whoever asked, and in no other.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{File, TryLockError},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::plan::Key;
use crate::outcomes::Outcome;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    /// About to be sent; `usd` is its worst case.
    Sent { id: String, expert: String, asked: String, usd: f64 },
    /// Answered with an error, which costs nothing.
    Failed { id: String, expert: String, asked: String },
    /// Answered; `elsewhere`: to a request of another journal, which counts what it cost.
    Answered {
        id: String,
        expert: String,
        asked: String,
        outcome: Box<Outcome>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        elsewhere: bool,
    },
}

/// What a journal knows.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The answers, not yet scored.
    pub(super) found: HashMap<Key, Outcome>,
    /// What those asked for here cost, and what may have been paid for beside: requests without an answer, answers whose cost nobody told.
    pub(super) spent_usd: f64,
}

impl Answers {
    pub(super) fn mean_completion_tokens(&self, expert: &str) -> Option<f64> {
        let tokens = self.found.iter().filter(|(key, _)| key.expert == expert).filter_map(|(_, outcome)| outcome.completion_tokens);
        let (count, sum) = tokens.fold((0, 0.0), |(count, sum), tokens| (count + 1, sum + tokens));
        (count > 0).then(|| sum / f64::from(count))
    }
}

/// An open journal. One process at a time has it.
pub(super) struct Journal {
    path: PathBuf,
    lines: Mutex<Lines>,
}

struct Lines {
    file: File,
    /// Bytes up to the end of the last whole line.
    whole: u64,
}

impl Journal {
    /// Opens or makes it, and cuts off what a crash left of a last line.
    pub(super) fn open(path: &Path, fresh: bool) -> Result<Self> {
        let file = File::options().create(true).truncate(false).append(true).read(true).open(path);
        let mut file = file.with_context(|| format!("opening the journal {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{}: another process is writing this journal", path.display()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
        }
        let whole = if fresh { 0 } else { whole_lines(&file).with_context(|| format!("reading {}", path.display()))? };
        file.set_len(whole).with_context(|| format!("repairing {}", path.display()))?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.into(), lines: Mutex::new(Lines { file, whole }) })
    }

    pub(super) fn sent(&self, key: &Key, usd: f64) -> Result<()> {
        let Key { id, expert, asked } = key.clone();
        self.append(&Event::Sent { id, expert, asked, usd }, false)
    }

    pub(super) fn failed(&self, key: &Key) -> Result<()> {
        let Key { id, expert, asked } = key.clone();
        self.append(&Event::Failed { id, expert, asked }, false)
    }

    pub(super) fn answered(&self, key: &Key, outcome: Outcome) -> Result<()> {
        self.answer(key, outcome, false)
    }

    /// Answers that other journals have.
    pub(super) fn adopt(&self, answers: Vec<(Key, Outcome)>) -> Result<()> {
        answers.into_iter().try_for_each(|(key, outcome)| self.answer(&key, outcome, true))?;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.file.sync_data().with_context(|| format!("writing the journal {}", self.path.display()))
    }

    /// One from elsewhere is safe there: all such are made durable together.
    fn answer(&self, key: &Key, outcome: Outcome, elsewhere: bool) -> Result<()> {
        let Key { id, expert, asked } = key.clone();
        self.append(&Event::Answered { id, expert, asked, outcome: Box::new(outcome), elsewhere }, !elsewhere)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// One write a line, so that a kill cannot fall between halves of it that matter.
    fn append(&self, event: &Event, durable: bool) -> Result<()> {
        let mut line = serde_json::to_vec(event).context("writing JSON")?;
        line.push(b'\n');
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let written = lines.file.write_all(&line);
        match &written {
            Ok(()) => lines.whole += line.len() as u64,
            // What a full disk took of a line goes again: others may follow, and a torn line between whole ones is none to repair.
            Err(_) => drop(lines.file.set_len(lines.whole)),
        }
        let kept = written.and_then(|()| if durable { lines.file.sync_data() } else { Ok(()) });
        kept.with_context(|| format!("writing the journal {}", self.path.display()))
    }
}

/// The length of the file up to its last line feed.
fn whole_lines(file: &File) -> std::io::Result<u64> {
    let mut lines = BufReader::new(file);
    let (mut whole, mut buffer) = (0, Vec::new());
    loop {
        buffer.clear();
        let read = lines.read_until(b'\n', &mut buffer)?;
        if buffer.last() != Some(&b'\n') {
            return Ok(whole);
        }
        whole += read as u64;
    }
}

/// Reads a journal; one that is not there is empty.
pub(super) fn read(path: &Path) -> Result<Answers> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Answers::default()),
        Err(error) => return Err(error).with_context(|| format!("opening the journal {}", path.display())),
    };
    let mut lines = BufReader::new(file);
    // In an order, so that the sum is the same to the last digit whenever it is read.
    let (mut answers, mut open, mut buffer, mut number) = (Answers::default(), BTreeMap::<Key, Vec<f64>>::new(), Vec::new(), 0);
    loop {
        buffer.clear();
        number += 1;
        lines.read_until(b'\n', &mut buffer).with_context(|| format!("{}:{number}", path.display()))?;
        if buffer.last() != Some(&b'\n') {
            break;
        }
        let event = serde_json::from_slice(&buffer).with_context(|| format!("{}:{number}: not a line of a journal", path.display()))?;
        answers.take(event, &mut open);
    }
    answers.spent_usd += open.values().flatten().sum::<f64>();
    Ok(answers)
}

impl Answers {
    fn take(&mut self, event: Event, open: &mut BTreeMap<Key, Vec<f64>>) {
        match event {
            Event::Sent { id, expert, asked, usd } => open.entry(Key { id, expert, asked }).or_default().push(usd),
            Event::Failed { id, expert, asked } => {
                open.get_mut(&Key { id, expert, asked }).and_then(Vec::pop);
            }
            Event::Answered { id, expert, asked, outcome, elsewhere } => {
                let key = Key { id, expert, asked };
                // An answer from elsewhere ends no request of this journal: that one may have been paid for beside.
                if !elsewhere {
                    let most = open.get_mut(&key).and_then(Vec::pop);
                    self.spent_usd += outcome.cost_usd.or(most).unwrap_or(0.0);
                }
                self.found.insert(key, *outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::{Journal, Key, read};
    use crate::outcomes::Outcome;

    fn key(id: &str) -> Key {
        Key { id: id.into(), expert: "atlas".into(), asked: "00ff".into() }
    }

    fn outcome(cost: f64) -> Outcome {
        Outcome { expert: "atlas".into(), cost_usd: Some(cost), completion_tokens: Some(3.0), ..Outcome::default() }
    }

    #[test]
    fn answers_are_found_again_and_money_is_counted_at_its_worst() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let journal = Journal::open(&path, false).unwrap();
        for (id, cost) in [("a", Some(0.5)), ("b", None)] {
            journal.sent(&key(id), 2.0).unwrap();
            if let Some(cost) = cost {
                journal.answered(&key(id), outcome(cost)).unwrap();
            }
        }
        journal.sent(&key("c"), 8.0).unwrap();
        journal.failed(&key("c")).unwrap();
        let answers = read(&path).unwrap();
        assert_eq!(answers.found.len(), 1);
        assert!((answers.spent_usd - 2.5).abs() < 1e-12, "{}", answers.spent_usd);
        assert_eq!(answers.mean_completion_tokens("atlas"), Some(3.0));
    }

    #[test]
    fn an_answer_from_elsewhere_costs_nothing_here_and_ends_no_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let journal = Journal::open(&path, false).unwrap();
        journal.sent(&key("a"), 2.0).unwrap();
        journal.adopt(vec![(key("a"), outcome(0.5)), (key("b"), outcome(8.0))]).unwrap();
        let answers = read(&path).unwrap();
        assert_eq!(answers.found.len(), 2);
        assert!((answers.spent_usd - 2.0).abs() < 1e-12, "{}", answers.spent_usd);
    }

    #[test]
    fn a_torn_last_line_goes_and_a_broken_one_before_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        Journal::open(&path, false).unwrap().answered(&key("a"), outcome(0.5)).unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"event\":\"answ").unwrap();
        assert_eq!(read(&path).unwrap().found.len(), 1);
        let journal = Journal::open(&path, false).unwrap();
        journal.answered(&key("b"), outcome(0.5)).unwrap();
        assert_eq!(read(&path).unwrap().found.len(), 2);
        drop(journal);
        fs::write(&path, "{}\n").unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("j:1"));
    }

    #[test]
    fn two_cannot_write_one_journal_and_fresh_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let journal = Journal::open(&path, false).unwrap();
        assert!(Journal::open(&path, false).is_err());
        journal.answered(&key("a"), outcome(0.5)).unwrap();
        drop(journal);
        drop(Journal::open(&path, true).unwrap());
        assert!(read(&path).unwrap().found.is_empty());
    }
}
