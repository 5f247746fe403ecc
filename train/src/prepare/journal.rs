//! The journal of a preparation: every request before it is sent, every answer as soon as it is there.
//!
//! In: events. Out: a file of JSON lines that is only ever appended to, and what can be read from it: the answers, and what was spent. An
//! answer counts as kept once it is on the disk. Of a line that a crash cut short nothing is taken. A request without an answer may have
//! been paid for: it counts with its worst case.

use std::{
    collections::HashMap,
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
    /// Answered.
    Answered { id: String, expert: String, asked: String, outcome: Box<Outcome> },
}

/// What a journal knows.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The answers, not yet scored.
    pub(super) found: HashMap<Key, Outcome>,
    /// What they cost, and what may have been paid for beside.
    pub(super) spent_usd: f64,
    /// That which may have been paid for: by requests without an answer, and by answers whose cost nobody told.
    pub(super) unsure_usd: HashMap<Key, f64>,
}

impl Answers {
    pub(super) fn mean_completion_tokens(&self, expert: &str) -> Option<f64> {
        let tokens = self.found.iter().filter(|(key, _)| key.expert == expert).filter_map(|(_, outcome)| outcome.completion_tokens);
        let (count, sum) = tokens.fold((0, 0.0), |(count, sum), tokens| (count + 1, sum + tokens));
        (count > 0).then(|| sum / f64::from(count))
    }
}

/// What one journal takes over from another.
pub(super) struct Adopted {
    pub(super) key: Key,
    pub(super) outcome: Option<Outcome>,
    /// What may have been paid for beside.
    pub(super) unsure_usd: Option<f64>,
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
        self.answer(key, outcome, true)
    }

    fn answer(&self, key: &Key, outcome: Outcome, durable: bool) -> Result<()> {
        let Key { id, expert, asked } = key.clone();
        self.append(&Event::Answered { id, expert, asked, outcome: Box::new(outcome) }, durable)
    }

    /// What another journal had.
    pub(super) fn adopt(&self, adopted: &[Adopted]) -> Result<()> {
        for Adopted { key, outcome, unsure_usd } in adopted {
            // An answer ends a request before it; it tells its cost, or what that request may have cost counts.
            let is_told = outcome.as_ref().is_some_and(|outcome| outcome.cost_usd.is_some());
            let answer = |outcome: &Outcome| self.answer(key, outcome.clone(), false);
            if is_told {
                outcome.iter().try_for_each(answer)?;
            }
            unsure_usd.iter().try_for_each(|usd| self.sent(key, *usd))?;
            if !is_told {
                outcome.iter().try_for_each(answer)?;
            }
        }
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.file.sync_data().with_context(|| format!("writing the journal {}", self.path.display()))
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
    let (mut answers, mut open, mut buffer, mut number) = (Answers::default(), HashMap::<Key, Vec<f64>>::new(), Vec::new(), 0);
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
    for (key, most) in open {
        *answers.unsure_usd.entry(key).or_default() += most.iter().sum::<f64>();
    }
    answers.spent_usd += answers.unsure_usd.values().sum::<f64>();
    Ok(answers)
}

impl Answers {
    fn take(&mut self, event: Event, open: &mut HashMap<Key, Vec<f64>>) {
        match event {
            Event::Sent { id, expert, asked, usd } => open.entry(Key { id, expert, asked }).or_default().push(usd),
            Event::Failed { id, expert, asked } => {
                open.get_mut(&Key { id, expert, asked }).and_then(Vec::pop);
            }
            Event::Answered { id, expert, asked, outcome } => {
                let key = Key { id, expert, asked };
                let most = open.get_mut(&key).and_then(Vec::pop);
                match (outcome.cost_usd, most) {
                    (Some(cost), _) => self.spent_usd += cost,
                    (None, Some(most)) => *self.unsure_usd.entry(key.clone()).or_default() += most,
                    (None, None) => {}
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
