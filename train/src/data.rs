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
    /// To the end of the answer.
    pub seconds: Array2<f32>,
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
                chosen.to_vec()
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
            seconds: empty(),
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
        put(&mut self.seconds, at, outcome.seconds);
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
            seconds: matrix(&self.seconds),
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
mod tests {
    use model::TextRules;

    use super::{Data, DataError, Split};
    use crate::{outcomes::Row, score::ScoreField};

    fn rows(lines: &[&str]) -> Vec<Row> {
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn data(lines: &[&str], experts: Option<&[String]>) -> Result<Data, DataError> {
        Data::of(&rows(lines), &ScoreField::default(), experts, &TextRules::default())
    }

    const GOOD: [&str; 3] = [
        r#"{"id":"1","split":"train","prompt":"p","prompt_tokens":7,"outcomes":[{"expert":"b","score":1,"cost_usd":2},{"expert":"a","score":0,"prompt_tokens":9},{"expert":"c","score":1}]}"#,
        r#"{"id":"2","split":"val","group":"g","prompt":"q","outcomes":[{"expert":"a","score":0.5},{"expert":"d"}]}"#,
        r#"{"id":"3","split":"train","messages":[{"role":"user","content":[{"type":"text","text":"m"}]}],"outcomes":[]}"#,
    ];

    #[test]
    fn experts_bind_by_name_and_what_is_missing_is_not_a_number() {
        let data = data(&GOOD, Some(&["a".into(), "b".into()])).unwrap();
        assert_eq!(data.score.row(0).to_vec(), [0.0, 1.0]);
        assert!(data.score[[1, 1]].is_nan() && data.cost[[0, 0]].is_nan() && data.score[[2, 0]].is_nan());
        assert_eq!((data.cost[[0, 1]], data.prompt_tokens.row(0).to_vec()), (2.0, vec![9.0, 7.0]));
        assert_eq!(data.others.dim(), (3, 1), "c was not chosen, d has no score");
        assert_eq!(data.groups, ["id:1", "g", "id:3"]);
        assert_eq!((data.of_split(Split::Val), data.complete()), (vec![1], vec![0]));
        assert_eq!(data.select(&[1, 0]).ids, ["2", "1"]);
        assert_eq!(data.check_for_training(&ScoreField::default()), Ok(()));
    }

    #[test]
    fn what_rows_lack_together_is_said() {
        let unknown = data(&GOOD, Some(&["a".into(), "z".into()])).unwrap_err();
        assert_eq!(unknown.to_string(), "unknown expert z; the file has a, b, c, d");
        let check = |lines: &[&str], expected: &str| {
            let found = data(lines, None).and_then(|data| data.check_for_training(&ScoreField::default())).unwrap_err().to_string();
            assert!(found.starts_with(expected), "{found}");
        };
        check(&GOOD[2..], "a router chooses between at least two experts with scores; the file has 0");
        check(&GOOD[..1], "no validation rows");
        let same = GOOD[0].replace(r#""score":0"#, r#""score":1"#);
        check(&[&same, GOOD[1]], "the file is one-sided");
        let only_val = GOOD[0].replace("train", "val");
        check(&[&only_val], "no training rows");
        let missing = GOOD[0].replace(r#""expert":"c","score":1"#, r#""expert":"c""#);
        let late = GOOD[1].replace(r#""expert":"d""#, r#""expert":"c","score":1"#);
        check(&[&missing, &late], "c has no `score` in any training row");
    }
}
