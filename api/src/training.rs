//! What a training Job says when it ends: one line of JSON, which is its container's termination message. Written by
//! `expert-router-train job`, read by the operator. Kubernetes keeps [`MOST_BYTES`] of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Kubernetes cuts a container's termination message here.
pub const MOST_BYTES: usize = 4096;

/// Set on a RouterModel to the digest of its candidate, it promotes it.
pub const PROMOTE_ANNOTATION: &str = "expertrouter.dev/promote";
/// Any change of it makes a RouterModel read its queries again, ask what is missing, and train.
pub const RETRAIN_ANNOTATION: &str = "expertrouter.dev/retrain";

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase")]
pub enum Summary {
    /// Experts were asked.
    Prepare(Prepared),
    /// A router was fitted.
    Fit(Fitted),
    /// It was evaluated.
    Evaluate(Evaluated),
    /// Its bundle was published.
    Publish(Published),
}

/// One part of the queries, asked and scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// Answers had.
    pub done: u64,
    /// Answers wanted.
    pub total: u64,
    /// What answers cost so far, earlier runs included.
    pub spent_usd: f64,
    /// Whether asking stopped because the next answer might have passed `maxCostUsd`.
    pub out_of_money: bool,
    /// Parts that the queries were asked in.
    pub parts: u32,
    /// SHA-256 of the outcomes, prices aside.
    pub digest: String,
}

/// A bundle in the work space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fitted {
    /// SHA-256 of its `bundle.json`.
    pub digest: String,
    /// The kind of router.
    pub kind: String,
}

/// How a bundle did on held-out queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluated {
    /// Whose.
    pub digest: String,
    /// `test`, or `val` where there is no test split.
    pub split: String,
    /// Rows compared.
    pub rows: u64,
    /// The router at the stated objective.
    pub router: Point,
    /// The best single expert, chosen on the training rows.
    pub best_single: Point,
    /// The bundle in service on the same rows; absent where there is none, or where it chooses among experts that are not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_service: Option<Point>,
    /// Every router, baseline and expert: name, score, USD per thousand queries.
    pub table: Vec<(String, f64, Option<f64>)>,
    /// Rows of the table that found no room.
    #[serde(default)]
    pub left_out: u64,
}

impl Evaluated {
    /// The experts of the table, by name: its rows that are called after one, as no baseline is. None where rows found no room, for some of
    /// these may be experts too.
    #[must_use]
    pub fn experts(&self) -> Vec<String> {
        if self.left_out > 0 {
            return Vec::new();
        }
        let names: BTreeSet<&String> = self.table.iter().map(|(name, ..)| name).filter(|name| !name.contains(' ')).collect();
        names.into_iter().cloned().collect()
    }
}

/// Score and cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// The bundle's digest, or the expert's name.
    pub name: String,
    /// Mean score.
    pub score: f64,
    /// USD per thousand queries; absent where prices are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// A bundle in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// SHA-256 of its `bundle.json`.
    pub digest: String,
}

/// Why a termination message is no summary.
#[derive(Debug, thiserror::Error)]
#[error("the Job's termination message is no summary: {0}")]
pub struct SummaryError(#[from] serde_json::Error);

impl Summary {
    /// Reads a termination message: its last line that is not blank.
    ///
    /// # Errors
    /// It is something else, such as the tail of a log.
    pub fn parse(message: &str) -> Result<Self, SummaryError> {
        Ok(serde_json::from_str(message.trim().lines().last().unwrap_or_default())?)
    }

    /// One line that fits. A table that does not is cut from its end, and says by how much.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut summary = self.clone();
        loop {
            let line = serde_json::to_string(&summary).expect("a summary has string keys only");
            let Self::Evaluate(evaluated) = &mut summary else { return line };
            if line.len() < MOST_BYTES || evaluated.table.pop().is_none() {
                return line;
            }
            evaluated.left_out += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluated(rows: usize) -> Summary {
        let point = |name: &str, score| Point { name: name.into(), score, cost: Some(0.5) };
        Summary::Evaluate(Evaluated {
            digest: "d".repeat(64),
            split: "test".into(),
            rows: 90,
            router: point("d", 0.75),
            best_single: point("atlas", 0.5),
            in_service: None,
            table: (0..rows).map(|row| (format!("{row:063}"), 0.123_456_789, None)).collect(),
            left_out: 0,
        })
    }

    #[test]
    fn a_summary_survives_the_way_through_a_termination_message() {
        for summary in [evaluated(3), Summary::Publish(Published { digest: "ab".into() })] {
            assert_eq!(Summary::parse(&format!("{}\n", summary.to_line())).unwrap(), summary);
        }
    }

    #[test]
    fn a_table_too_long_is_cut_and_says_so() {
        let line = evaluated(200).to_line();
        assert!(line.len() < MOST_BYTES, "{}", line.len());
        let Summary::Evaluate(read) = Summary::parse(&line).unwrap() else { panic!("{line}") };
        assert_eq!(read.table.len() + read.left_out as usize, 200);
        assert!(read.table.len() > 30, "{}", read.table.len());
    }

    #[test]
    fn a_table_names_its_experts_unless_it_is_cut() {
        let Summary::Evaluate(mut evaluated) = evaluated(0) else { unreachable!("it is an evaluation") };
        let row = |name: &str| (name.to_owned(), 0.5, None);
        evaluated.table = vec![row("router at Quality"), row("oracle of all"), row("nova"), row("atlas")];
        assert_eq!(evaluated.experts(), ["atlas", "nova"]);
        evaluated.left_out = 1;
        assert!(evaluated.experts().is_empty());
    }

    #[test]
    fn the_tail_of_a_log_is_no_summary() {
        assert!(Summary::parse("error: no route\nto host").is_err());
        assert!(Summary::parse("").is_err());
        assert!(Summary::parse(r#"{"step":"fit"}"#).is_err());
    }
}
