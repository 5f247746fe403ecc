//! Answers of other journals: what was paid for in another division of the queries need not be asked again.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};

use super::journal::{self, Journal};

/// Puts into the journal of `out` the answers to these queries that other journals of the folder have and it has not, with what they
/// cost. Returns how many.
///
/// # Errors
/// A journal cannot be read or written, or another process has that of `out`.
pub fn adopt(out: &Path, folder: &Path, ids: &BTreeSet<String>) -> Result<usize> {
    let path = super::journal_path(out);
    let journal = Journal::open(&path, false)?;
    let mut found = journal::read(&path)?.found;
    let mut adopted = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let other = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        if other == path || other.extension().is_none_or(|extension| extension != "journal") {
            continue;
        }
        for (key, outcome) in journal::read(&other)?.found {
            if ids.contains(&key.id) && !found.contains_key(&key) {
                found.insert(key.clone(), outcome.clone());
                adopted.push((key, outcome));
            }
        }
    }
    let count = adopted.len();
    journal.adopt(adopted)?;
    Ok(count)
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
}
