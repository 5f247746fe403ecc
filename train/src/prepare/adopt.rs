//! Answers of other journals: what another part paid for, or was paid for in another division of the queries, need not be asked again.
//!
//! What was paid counts in the journal of whoever asked, wherever the answer is taken over. So what the present parts spent, and what was
//! spent in other divisions, is what was paid in all, whichever way queries moved, came or went.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
};

use anyhow::{Context, Result};

use super::journal::{self, Journal};

/// What the journals of a folder say, as one part of the queries sees it.
#[derive(Debug, Default)]
pub struct Adopted {
    /// How many answers were taken over.
    pub answers: usize,
    /// What this part spent.
    own_usd: f64,
    /// What each other part of the same division spent.
    others_usd: Vec<f64>,
    /// What was spent in other divisions.
    elsewhere_usd: f64,
}

impl Adopted {
    /// This part's share of what was spent in other divisions.
    #[must_use]
    pub fn elsewhere_usd(&self, parts: u32) -> f64 {
        self.elsewhere_usd / f64::from(parts)
    }

    /// How much this part may have spent, for all together to spend no more than `most_usd`. Where a part spent more than its share, as may
    /// be when others asked less or the limit was higher, the others have less.
    ///
    /// It is the same at any time while the parts ask: those below it do not pass it, and those above it pay for nothing more.
    #[must_use]
    pub fn limit_usd(&self, most_usd: f64, parts: u32) -> f64 {
        let mut spent: Vec<f64> = self.others_usd.iter().copied().chain([self.own_usd]).collect();
        spent.sort_by(f64::total_cmp);
        let (mut left, mut sharing) = (most_usd - self.elsewhere_usd, parts);
        while let Some(most) = spent.pop().filter(|most| sharing > 1 && *most > left / f64::from(sharing)) {
            left -= most;
            sharing -= 1;
        }
        // What costs nothing may be asked all the same.
        (left / f64::from(sharing)).max(self.own_usd)
    }
}

/// Puts into the journal of `out` the answers to these queries that other journals of the folder have and it has not.
///
/// # Errors
/// A journal cannot be read or written, or another process has that of `out`.
pub fn adopt(out: &Path, folder: &Path, ids: &BTreeSet<String>) -> Result<Adopted> {
    let path = super::journal_path(out);
    let journal = Journal::open(&path, false)?;
    let own = journal::read(&path)?;
    let mut adopted = Adopted { own_usd: own.spent_usd, ..Adopted::default() };
    let mut known: HashSet<_> = own.found.into_keys().collect();
    let mut answers = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let other = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        if other == path || other.extension().is_none_or(|extension| extension != "journal") {
            continue;
        }
        let is_of_same_division = division(&path).is_some_and(|same| division(&other) == Some(same));
        let other = journal::read(&other)?;
        if is_of_same_division {
            adopted.others_usd.push(other.spent_usd);
        } else {
            adopted.elsewhere_usd += other.spent_usd;
        }
        answers.extend(other.found.into_iter().filter(|(key, _)| ids.contains(&key.id) && known.insert(key.clone())));
    }
    adopted.answers = answers.len();
    journal.adopt(answers)?;
    Ok(adopted)
}

/// What names a division: the end of a name `part-0-of-2.jsonl.gz.journal`, which its parts have alike.
fn division(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.rsplit_once("-of-").map(|(_, division)| division)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outcomes::Outcome,
        prepare::{journal_path, plan::Key},
    };

    fn key(id: &str, asked: &str) -> Key {
        Key { id: id.into(), expert: "atlas".into(), asked: asked.into() }
    }

    fn outcome(cost_usd: Option<f64>) -> Outcome {
        Outcome { expert: "atlas".into(), cost_usd, ..Outcome::default() }
    }

    fn spent(path: &Path) -> f64 {
        journal::read(path).unwrap().spent_usd
    }

    #[test]
    fn answers_to_these_queries_are_taken_over_once_and_cost_where_they_were_asked() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("part-0-of-1.jsonl.gz");
        let journal = Journal::open(&journal_path(&old), false).unwrap();
        for (id, asked) in [("a", "1"), ("b", "1"), ("c", "1"), ("a", "2")] {
            journal.answered(&key(id, asked), outcome(Some(0.5))).unwrap();
        }
        std::fs::write(folder.path().join("part-0-of-1.jsonl.gz"), "not a journal").unwrap();
        let new = folder.path().join("part-1-of-2.jsonl.gz");
        let ids = BTreeSet::from(["a".to_owned(), "c".to_owned()]);
        for answers in [3, 0] {
            let adopted = adopt(&new, folder.path(), &ids).unwrap();
            assert_eq!((adopted.answers, adopted.elsewhere_usd(2)), (answers, 1.0), "that of a query which is gone counts too");
        }
        let found = journal::read(&journal_path(&new)).unwrap().found;
        assert!(found.contains_key(&key("a", "2")) && !found.contains_key(&key("b", "1")));
        assert_eq!(spent(&journal_path(&new)), 0.0);
        // The other part of the same division has its own from there, and counts nothing twice.
        let other = folder.path().join("part-0-of-2.jsonl.gz");
        assert_eq!(adopt(&other, folder.path(), &ids).unwrap().elsewhere_usd(2), 1.0);
    }

    #[test]
    fn what_may_have_been_paid_for_counts_where_it_was_sent() {
        let folder = tempfile::tempdir().unwrap();
        let old = Journal::open(&folder.path().join("old.journal"), false).unwrap();
        old.sent(&key("lost", "1"), 0.25).unwrap();
        old.sent(&key("untold", "1"), 0.5).unwrap();
        old.answered(&key("untold", "1"), outcome(None)).unwrap();
        for (usd, answered) in [(1.0, false), (2.0, true)] {
            old.sent(&key("second", "1"), usd).unwrap();
            if answered {
                old.answered(&key("second", "1"), outcome(Some(0.125))).unwrap();
            }
        }
        assert!((spent(old.path()) - 1.875).abs() < 1e-12);
        let ids = ["lost", "untold", "second"].map(str::to_owned).into();
        let new = folder.path().join("new.jsonl");
        for answers in [2, 0] {
            let adopted = adopt(&new, folder.path(), &ids).unwrap();
            assert_eq!(adopted.answers, answers);
            assert!((adopted.elsewhere_usd(1) - 1.875).abs() < 1e-12);
            assert_eq!(spent(&journal_path(&new)), 0.0);
        }
    }

    #[test]
    fn a_part_that_spent_more_than_its_share_leaves_less_to_the_others() {
        let limit = |own_usd, others_usd: &[f64], elsewhere_usd, most_usd, parts| {
            let others_usd = others_usd.to_vec();
            Adopted { answers: 0, own_usd, others_usd, elsewhere_usd }.limit_usd(most_usd, parts)
        };
        assert_eq!(limit(0.0, &[], 0.0, 6.0, 3), 2.0, "shared by those that have not begun too");
        assert_eq!(limit(1.0, &[2.0], 8.0, 20.0, 2), 6.0);
        assert_eq!(limit(2.0, &[10.0], 8.0, 21.0, 2), 3.0, "10 and 8 are gone");
        assert_eq!(limit(10.0, &[2.0], 8.0, 21.0, 2), 10.0, "nothing more");
        assert_eq!(limit(1.0, &[9.0, 4.0], 0.0, 15.0, 3), 2.0, "one after another is above");
        assert_eq!(limit(1.0, &[9.0, 4.0], 0.0, 10.0, 3), 1.0, "the limit was lowered: nobody pays any more");
        // Others on their way change nothing.
        for of_other in [0.0, 1.5, 3.0] {
            assert_eq!(limit(0.0, &[7.0, of_other], 0.0, 13.0, 3), 3.0);
        }
    }
}
