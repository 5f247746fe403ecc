//! Answers of other journals: what was paid for in another division of the queries need not be asked again.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};

use super::journal::{self, Adopted, Journal};

/// Puts into the journal of `out` the answers to these queries that other journals of the folder have and it has not, with what they
/// cost, and what may have been paid for beside. Returns how many answers.
///
/// # Errors
/// A journal cannot be read or written, or another process has that of `out`.
pub fn adopt(out: &Path, folder: &Path, ids: &BTreeSet<String>) -> Result<usize> {
    let path = super::journal_path(out);
    let journal = Journal::open(&path, false)?;
    let mut known = journal::read(&path)?;
    let mut adopted = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let other = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        if other == path || other.extension().is_none_or(|extension| extension != "journal") {
            continue;
        }
        let other = journal::read(&other)?;
        let keys: BTreeSet<_> = other.found.keys().chain(other.unsure_usd.keys()).filter(|key| ids.contains(&key.id)).collect();
        for key in keys {
            let outcome = other.found.get(key).filter(|_| !known.found.contains_key(key)).cloned();
            let unsure_usd = other.unsure_usd.get(key).filter(|_| !known.unsure_usd.contains_key(key)).copied();
            known.found.extend(outcome.clone().map(|outcome| (key.clone(), outcome)));
            known.unsure_usd.extend(unsure_usd.map(|usd| (key.clone(), usd)));
            if outcome.is_some() || unsure_usd.is_some() {
                adopted.push(Adopted { key: key.clone(), outcome, unsure_usd });
            }
        }
    }
    journal.adopt(&adopted)?;
    Ok(adopted.iter().filter(|adopted| adopted.outcome.is_some()).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outcomes::Outcome, prepare::plan::Key};

    fn key(id: &str, asked: &str) -> Key {
        Key { id: id.into(), expert: "atlas".into(), asked: asked.into() }
    }

    #[test]
    fn answers_to_these_queries_are_taken_over_once() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("part-0-of-1.jsonl.gz");
        let journal = Journal::open(&super::super::journal_path(&old), false).unwrap();
        for (id, asked) in [("a", "1"), ("b", "1"), ("c", "1"), ("a", "2")] {
            let outcome = Outcome { expert: "atlas".into(), cost_usd: Some(0.5), ..Outcome::default() };
            journal.answered(&key(id, asked), outcome).unwrap();
        }
        std::fs::write(folder.path().join("part-0-of-1.jsonl.gz"), "not a journal").unwrap();
        let new = folder.path().join("part-1-of-2.jsonl.gz");
        let ids = BTreeSet::from(["a".to_owned(), "c".to_owned()]);
        assert_eq!(adopt(&new, folder.path(), &ids).unwrap(), 3);
        assert_eq!(adopt(&new, folder.path(), &ids).unwrap(), 0);
        let answers = journal::read(&super::super::journal_path(&new)).unwrap();
        assert!(answers.found.contains_key(&key("a", "2")) && !answers.found.contains_key(&key("b", "1")));
        assert!((answers.spent_usd - 1.5).abs() < 1e-12, "what they cost was spent");
    }

    #[test]
    fn what_may_have_been_paid_for_is_taken_over_too() {
        let folder = tempfile::tempdir().unwrap();
        let old = Journal::open(&folder.path().join("old.journal"), false).unwrap();
        old.sent(&key("lost", "1"), 0.25).unwrap();
        old.sent(&key("untold", "1"), 0.5).unwrap();
        old.answered(&key("untold", "1"), Outcome { expert: "atlas".into(), ..Outcome::default() }).unwrap();
        for (usd, answered) in [(1.0, false), (2.0, true)] {
            old.sent(&key("second", "1"), usd).unwrap();
            if answered {
                let outcome = Outcome { expert: "atlas".into(), cost_usd: Some(0.125), ..Outcome::default() };
                old.answered(&key("second", "1"), outcome).unwrap();
            }
        }
        let spent = journal::read(old.path()).unwrap().spent_usd;
        assert!((spent - 1.875).abs() < 1e-12, "{spent}");
        let ids = ["lost", "untold", "second"].map(str::to_owned).into();
        let new = folder.path().join("new.jsonl");
        for adopted in [2, 0] {
            assert_eq!(adopt(&new, folder.path(), &ids).unwrap(), adopted);
            assert!((journal::read(&super::super::journal_path(&new)).unwrap().spent_usd - spent).abs() < 1e-12);
        }
    }
}
