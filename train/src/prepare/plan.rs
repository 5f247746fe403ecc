//! What is to be asked: the queries, the experts, and which of it is answered already. No network.

use std::{collections::HashMap, fmt::Write, path::Path};

use anyhow::{Result, bail};
use bytes::Bytes;
use routing::snapshot::Expert;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{PrepareOptions, journal::Answers};
use crate::{
    ask::Asker,
    judge::Judge,
    outcomes::{Outcome, Place, Reader, Row},
};

/// Queries and experts, checked.
pub struct Plan {
    pub(super) rows: Vec<Row>,
    pub(super) askers: Vec<Asker>,
    /// For each expert what each row asks of it; none where the row has that expert's outcome already.
    pub(super) questions: Vec<Vec<Option<Question>>>,
}

/// One query as one expert is asked it.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) key: Key,
    pub(super) body: Bytes,
}

/// Names a question and its very bytes: with other instructions, or of another model, it is another question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) expert: String,
    pub(super) asked: String,
}

impl Plan {
    /// Reads the queries and prepares what is sent.
    ///
    /// # Errors
    /// The first thing wrong, by file and line.
    pub fn read(path: &Path, experts: &[Expert], options: &PrepareOptions) -> Result<Self> {
        let (part, of) = options.part()?;
        let mut rows = Vec::new();
        for (at, row) in Reader::open(path)?.enumerate() {
            let (place, row) = row?;
            check(&row).map_err(|problem| place.problem(problem))?;
            if at % of == part && at < options.limit.unwrap_or(usize::MAX) {
                rows.push((place, row));
            }
        }
        if rows.is_empty() {
            bail!("{}: has no queries{}", path.display(), if of > 1 { " for this part" } else { "" });
        }
        let askers = options.askers(experts)?;
        let mut questions = Vec::with_capacity(askers.len());
        for asker in &askers {
            let ask = |(place, row): &(Place, Row)| question(asker, row, options).map_err(|problem| place.problem(problem));
            questions.push(rows.iter().map(ask).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Self { rows: rows.into_iter().map(|(_, row)| row).collect(), askers, questions })
    }

    /// Outcomes there will be when all is asked.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.rows.len() * self.askers.len()
    }

    /// Names of the experts of which nobody says what they cost.
    pub(super) fn unpriced(&self) -> impl Iterator<Item = &str> {
        self.askers.iter().map(Asker::expert).filter(|expert| expert.prices.is_none()).map(|expert| expert.name.as_str())
    }

    /// Whether any answer can be compared with one.
    #[must_use]
    pub fn has_references(&self) -> bool {
        self.rows.iter().any(|row| row.reference.is_some())
    }

    /// The rows with the answers there are, experts in the manifest's order, then those the manifest does not know.
    pub(super) fn rows(mut self, answers: &Answers) -> Vec<Row> {
        for (at, row) in self.rows.iter_mut().enumerate() {
            let mut had: HashMap<String, Outcome> = row.outcomes.drain(..).map(|outcome| (outcome.expert.clone(), outcome)).collect();
            let mut others: Vec<String> = Vec::new();
            for (asker, questions) in self.askers.iter().zip(&self.questions) {
                let answered = questions[at].as_ref().and_then(|question| answers.found.get(&question.key).cloned());
                row.outcomes.extend(answered.or_else(|| had.remove(&asker.expert().name)));
                had.remove(&asker.expert().name);
            }
            others.extend(had.keys().cloned());
            others.sort();
            row.outcomes.extend(others.iter().filter_map(|name| had.remove(name)));
        }
        self.rows
    }

    /// What asking the rest would cost, in words.
    pub(super) fn estimate(&self, answers: &Answers) -> String {
        let mut text = format!("{:<24}{:>9}{:>9}{:>14}{:>16}\n", "expert", "answered", "to ask", "likely USD", "at most USD");
        let (mut likely, mut most) = (0.0, 0.0);
        for (asker, questions) in self.askers.iter().zip(&self.questions) {
            let tokens = answers.mean_completion_tokens(&asker.expert().name);
            let open: Vec<&Question> = questions.iter().flatten().filter(|question| !answers.found.contains_key(&question.key)).collect();
            let expert_likely: f64 = open.iter().map(|question| asker.likely_cost_usd(&question.body, tokens)).sum();
            let expert_most: f64 = open.iter().map(|question| asker.most_cost_usd(&question.body)).sum();
            let (name, answered) = (&asker.expert().name, questions.len() - open.len());
            let unpriced = if asker.expert().prices.is_none() { "  (has no price)" } else { "" };
            let _ = writeln!(text, "{name:<24}{answered:>9}{:>9}{expert_likely:>14.6}{expert_most:>16.6}{unpriced}", open.len());
            likely += expert_likely;
            most += expert_most;
        }
        let _ = write!(text, "{:<42}{likely:>14.6}{most:>16.6}\nspent so far: USD {:.6}", "in all", answers.spent_usd);
        text
    }
}

fn check(row: &Row) -> Result<(), String> {
    Judge::of(row)?;
    if row.messages.as_ref().is_some_and(Vec::is_empty) {
        return Err("messages: must not be empty".into());
    }
    Ok(())
}

fn question(asker: &Asker, row: &Row, options: &PrepareOptions) -> Result<Option<Question>, String> {
    let name = &asker.expert().name;
    if row.outcomes.iter().any(|outcome| outcome.expert == *name && (outcome.response.is_some() || outcome.score.is_some())) {
        return Ok(None);
    }
    let body = asker.body(&messages(row)).map_err(|error| error.to_string())?;
    let fingerprint = options.fingerprints.get(name).map_or("", String::as_str);
    let asked = hex::encode(&Sha256::new().chain_update(&body).chain_update(fingerprint).finalize()[..8]);
    Ok(Some(Question { key: Key { id: row.id.clone(), expert: name.clone(), asked }, body }))
}

/// The conversation of a row.
pub(super) fn messages(row: &Row) -> Vec<Value> {
    match (&row.messages, &row.prompt) {
        (Some(messages), _) => messages.clone(),
        (None, prompt) => vec![json!({"role": "user", "content": prompt.as_deref().unwrap_or_default()})],
    }
}
