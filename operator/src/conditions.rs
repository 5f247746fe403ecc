//! Conditions as Kubernetes has them: a map by type, each with the generation it speaks of, and a time that moves only when the status
//! flips. Time is an argument.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// Yes, no, or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Verdict {
    /// As in a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One finding, before it is a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The condition's type.
    pub kind: &'static str,
    /// Yes, no, or not known.
    pub verdict: Verdict,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

impl Finding {
    /// It holds.
    #[must_use]
    pub fn yes(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, verdict: Verdict::True, reason: reason.into(), message: message.into() }
    }

    /// It does not.
    #[must_use]
    pub fn no(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, verdict: Verdict::False, reason: reason.into(), message: message.into() }
    }

    /// Nobody can tell.
    #[must_use]
    pub fn unknown(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, verdict: Verdict::Unknown, reason: reason.into(), message: message.into() }
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.verdict == Verdict::True
    }
}

/// The longest message the API server takes.
const LONGEST_MESSAGE: usize = 32_768;

/// The conditions after a visit: exactly the findings, in their order; times are kept where the status did not flip.
#[must_use]
pub fn merge(before: &[Condition], findings: &[Finding], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    findings.iter().map(|finding| condition(before, finding, generation, now)).collect()
}

/// The same, with the conditions before that no finding speaks of: they still speak of the generation they were found for.
#[must_use]
pub fn merge_some(before: &[Condition], findings: &[Finding], generation: Option<i64>, now: Timestamp, order: &[&str]) -> Vec<Condition> {
    let mut conditions = merge(before, findings, generation, now);
    let others = before.iter().filter(|condition| !findings.iter().any(|finding| finding.kind == condition.type_));
    conditions.extend(others.cloned());
    conditions.sort_by_key(|condition| order.iter().position(|kind| *kind == condition.type_));
    conditions
}

fn condition(before: &[Condition], finding: &Finding, generation: Option<i64>, now: Timestamp) -> Condition {
    let status = finding.verdict.as_str();
    let same = before.iter().find(|condition| condition.type_ == finding.kind && condition.status == status);
    // The API server keeps whole seconds; a finer time would differ from what is read back for ever.
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    Condition {
        type_: finding.kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.clone(),
        message: shorten(&finding.message, LONGEST_MESSAGE),
        observed_generation: generation,
        last_transition_time: same.map_or(now, |condition| condition.last_transition_time.clone()),
    }
}

/// As much of a text as fits, in whole characters.
#[must_use]
pub fn shorten(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub(3)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", &text[..end])
}

/// Whether a condition was True.
#[must_use]
pub fn was_true(before: &[Condition], kind: &str) -> bool {
    before.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_time_moves_only_when_the_status_flips() {
        let first = merge(&[], &[Finding::no("Ready", "A", "a")], Some(1), at(10));
        let second = merge(&first, &[Finding::no("Ready", "B", "b")], Some(2), at(20));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("B", Some(2)));
        let third = merge(&second, &[Finding::yes("Ready", "C", "c")], Some(2), at(30));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn what_was_not_found_any_more_is_gone() {
        let first = merge(&[], &[Finding::yes("A", "A", ""), Finding::yes("B", "B", "")], None, at(1));
        let second = merge(&first, &[Finding::yes("B", "B", "")], None, at(2));
        assert_eq!(second.len(), 1);
    }

    #[test]
    fn what_was_not_looked_at_stays_as_it_was_found() {
        let first = merge(&[], &[Finding::yes("A", "A", ""), Finding::yes("B", "B", "")], Some(1), at(1));
        let second = merge_some(&first, &[Finding::no("A", "X", "")], Some(2), at(2), &["A", "B"]);
        let found: Vec<_> = second.iter().map(|condition| (condition.type_.as_str(), condition.observed_generation)).collect();
        assert_eq!(found, [("A", Some(2)), ("B", Some(1))]);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let text = shorten(&"ä".repeat(40_000), LONGEST_MESSAGE);
        assert!(text.len() <= LONGEST_MESSAGE && text.ends_with("..."));
        assert_eq!(shorten("short", 10), "short");
    }
}
