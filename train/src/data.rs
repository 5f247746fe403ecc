//! Rows of an outcomes file as matrices: what steps need of the rows together, NaN where an outcome is missing.

use std::collections::{BTreeMap, BTreeSet};

use model::TextRules;
use ndarray::{Array2, Axis};
use wire::{Prompt, request::Turn};

use crate::{
    outcomes::{Outcome, Row, Split},
    score::ScoreField,
};

/// Queries by experts. Every matrix is `rows x experts` and NaN where the outcome lacks the field.
#[derive(Debug, Clone)]
pub struct Data {
    /// In label order.
    pub experts: Vec<String>,
    /// Of each row.
    pub ids: Vec<String>,
    /// Empty where the row has none.
    pub datasets: Vec<String>,
    /// Near-duplicates share one; a row without stands for itself.
    pub groups: Vec<String>,
    /// What the router reads.
    pub texts: Vec<String>,
    /// Of each row.
    pub splits: Vec<Split>,
    /// The field chosen as the score.
    pub score: Array2<f32>,
    /// BERTScore F1.
    pub bertsim: Array2<f32>,
    /// Negative log-likelihood per token.
    pub nll: Array2<f32>,
    /// USD.
    pub cost: Array2<f32>,
    /// As counted by the expert, else the row's; estimated nowhere.
    pub prompt_tokens: Array2<f32>,
    /// As counted by the expert.
    pub output_tokens: Array2<f32>,
    /// Of the prompt tokens, those from the expert's cache.
    pub cached_tokens: Array2<f32>,
    /// To the end of the answer.
    pub seconds: Array2<f32>,
    /// The answer's share of the expert's time; the seconds, where nothing else is known.
    pub busy_seconds: Array2<f32>,
    /// Scores of experts that are not among the chosen: hints of what a query is like, in training only.
    pub others: Array2<f32>,
}

/// What is wrong with rows that are each all right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The file has no such expert.
    #[error("unknown expert{} {}; the file has {}", if unknown.len() > 1 { "s" } else { "" }, unknown.join(", "), known.join(", "))]
    UnknownExperts {
        /// Asked for.
        unknown: Vec<String>,
        /// In the file.
        known: Vec<String>,
    },
    /// Likewise, by whoever asked.
    #[error("a router chooses between at least two experts; only {} was asked for", asked.join(", "))]
    AskedTooFew {
        /// Asked for.
        asked: Vec<String>,
    },
    /// There is nothing to choose between.
    #[error("a router chooses between at least two experts with scores; the file has {}: {}", found.len(), found.join(", "))]
    TooFewExperts {
        /// With scores.
        found: Vec<String>,
    },
    /// An expert that was asked for has no score.
    #[error("{expert} has no `{field}` in any {split} row")]
    NoScores {
        /// Asked for.
        expert: String,
        /// The score field.
        field: String,
        /// In which rows.
        split: &'static str,
    },
    /// No rows of a split that is needed.
    #[error("no {0} rows: give rows a `split`, or leave it out everywhere for 80/10/10 by hash")]
    NoRows(&'static str),
    /// No two experts ever differ.
    #[error("the file is one-sided: in no training row do two experts have different `{0}`")]
    OneSided(String),
}

impl Data {
    /// Puts rows into matrices. `experts`: those a router may choose, in label order; none: all that have a score, by name.
    ///
    /// # Errors
    /// Unknown experts, or fewer than two.
    pub fn of(rows: &[Row], field: &ScoreField, experts: Option<&[String]>, rules: &TextRules) -> Result<Self, DataError> {
        let all: BTreeSet<&str> = rows.iter().flat_map(|row| row.outcomes.iter().map(|outcome| outcome.expert.as_str())).collect();
        let scored: BTreeSet<&str> = rows
            .iter()
            .flat_map(|row| row.outcomes.iter().filter(|outcome| field.of(outcome).is_some()).map(|outcome| outcome.expert.as_str()))
            .collect();
        let owned = |names: &BTreeSet<&str>| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let experts = match experts {
            None => owned(&scored),
            Some(chosen) => {
                let unknown: Vec<String> = chosen.iter().filter(|name| !all.contains(name.as_str())).cloned().collect();
                if !unknown.is_empty() {
                    return Err(DataError::UnknownExperts { unknown, known: owned(&all) });
                }
                let mut names = chosen.to_vec();
                let mut seen = BTreeSet::new();
                names.retain(|name| seen.insert(name.clone()));
                if names.len() < 2 {
                    return Err(DataError::AskedTooFew { asked: names });
                }
                names
            }
        };
        if experts.len() < 2 {
            return Err(DataError::TooFewExperts { found: experts });
        }
        let others: Vec<String> = owned(&scored).into_iter().filter(|name| !experts.contains(name)).collect();
        Ok(Self::fill(rows, field, experts, &others, rules))
    }

    fn fill(rows: &[Row], field: &ScoreField, experts: Vec<String>, others: &[String], rules: &TextRules) -> Self {
        let place = |names: &[String]| names.iter().cloned().enumerate().map(|(at, name)| (name, at)).collect::<BTreeMap<_, _>>();
        let (places, other_places) = (place(&experts), place(others));
        let empty = || Array2::from_elem((rows.len(), experts.len()), f32::NAN);
        let mut data = Self {
            ids: rows.iter().map(|row| row.id.clone()).collect(),
            datasets: rows.iter().map(|row| row.dataset.clone()).collect(),
            groups: rows.iter().map(|row| row.group.clone().unwrap_or_else(|| format!("id:{}", row.id))).collect(),
            texts: rows.iter().map(|row| text_of(row, rules)).collect(),
            splits: rows.iter().map(Row::split).collect(),
            score: empty(),
            bertsim: empty(),
            nll: empty(),
            cost: empty(),
            prompt_tokens: empty(),
            output_tokens: empty(),
            cached_tokens: empty(),
            seconds: empty(),
            busy_seconds: empty(),
            others: Array2::from_elem((rows.len(), others.len()), f32::NAN),
            experts,
        };
        for (at, row) in rows.iter().enumerate() {
            for outcome in &row.outcomes {
                if let Some(expert) = places.get(&outcome.expert) {
                    data.put([at, *expert], field, row, outcome);
                } else if let Some(other) = other_places.get(&outcome.expert) {
                    put(&mut data.others, [at, *other], field.of(outcome));
                }
            }
        }
        data
    }

    fn put(&mut self, at: [usize; 2], field: &ScoreField, row: &Row, outcome: &Outcome) {
        put(&mut self.score, at, field.of(outcome));
        put(&mut self.bertsim, at, outcome.bertsim);
        put(&mut self.nll, at, outcome.nll);
        put(&mut self.cost, at, outcome.cost_usd);
        put(&mut self.prompt_tokens, at, outcome.prompt_tokens.or(row.prompt_tokens));
        put(&mut self.output_tokens, at, outcome.completion_tokens);
        put(&mut self.cached_tokens, at, outcome.cached_tokens);
        put(&mut self.seconds, at, outcome.seconds);
        put(&mut self.busy_seconds, at, outcome.busy_seconds.or(outcome.seconds));
    }

    /// Some of the rows, in the order asked for.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let names = |all: &[String]| rows.iter().map(|row| all[*row].clone()).collect();
        let matrix = |all: &Array2<f32>| all.select(Axis(0), rows);
        Self {
            experts: self.experts.clone(),
            ids: names(&self.ids),
            datasets: names(&self.datasets),
            groups: names(&self.groups),
            texts: names(&self.texts),
            splits: rows.iter().map(|row| self.splits[*row]).collect(),
            score: matrix(&self.score),
            bertsim: matrix(&self.bertsim),
            nll: matrix(&self.nll),
            cost: matrix(&self.cost),
            prompt_tokens: matrix(&self.prompt_tokens),
            output_tokens: matrix(&self.output_tokens),
            cached_tokens: matrix(&self.cached_tokens),
            seconds: matrix(&self.seconds),
            busy_seconds: matrix(&self.busy_seconds),
            others: matrix(&self.others),
        }
    }

    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Numbers of the rows of a split.
    #[must_use]
    pub fn of_split(&self, split: Split) -> Vec<usize> {
        (0..self.rows()).filter(|row| self.splits[*row] == split).collect()
    }

    /// Numbers of the rows in which every expert has a score.
    #[must_use]
    pub fn complete(&self) -> Vec<usize> {
        (0..self.rows()).filter(|row| self.score.row(*row).iter().all(|score| !score.is_nan())).collect()
    }

    /// Whether a router can be trained on these rows and chosen on others.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_for_training(&self, field: &ScoreField) -> Result<(), DataError> {
        let train = self.of_split(Split::Train);
        if train.is_empty() {
            return Err(DataError::NoRows("training"));
        }
        if self.of_split(Split::Val).is_empty() {
            return Err(DataError::NoRows("validation"));
        }
        for (at, expert) in self.experts.iter().enumerate() {
            if train.iter().all(|row| self.score[[*row, at]].is_nan()) {
                return Err(DataError::NoScores { expert: expert.clone(), field: field.to_string(), split: "training" });
            }
        }
        let differs = |row: &usize| {
            let mut scores = self.score.row(*row).into_iter().filter(|score| !score.is_nan());
            scores.next().is_some_and(|first| scores.any(|score| score != first))
        };
        if train.iter().any(differs) { Ok(()) } else { Err(DataError::OneSided(field.to_string())) }
    }
}

fn put(matrix: &mut Array2<f32>, at: [usize; 2], value: Option<f64>) {
    if let Some(value) = value {
        matrix[at] = value as f32;
    }
}

/// What the router reads of a row: as at serving, by the bundle's rules.
#[must_use]
pub fn text_of(row: &Row, rules: &TextRules) -> String {
    let turns = match (&row.prompt, &row.messages) {
        (Some(prompt), _) => vec![Turn { role: "user".into(), text: prompt.as_str().into() }],
        (None, Some(messages)) => messages.iter().filter_map(turn).collect(),
        (None, None) => Vec::new(),
    };
    rules.apply(&Prompt { turns })
}

/// A message as the chat endpoint has it: text, or parts of which the text counts.
fn turn(message: &serde_json::Value) -> Option<Turn<'_>> {
    let role = message.get("role")?.as_str()?.into();
    let text = match message.get("content") {
        Some(serde_json::Value::String(text)) => text.as_str().into(),
        Some(serde_json::Value::Array(parts)) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join("\n").into()
        }
        _ => "".into(),
    };
    Some(Turn { role, text })
}

#[cfg(test)]
mod tests;
