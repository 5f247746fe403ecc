//! Which field of an outcome is the score, and soft labels made of scores.

use std::{fmt, str::FromStr};

use ndarray::{Array1, ArrayView1};

use crate::outcomes::Outcome;

/// A weighted sum of fields: `score`, `bertsim`, or `0.7*bertsim+0.3*score`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreField {
    terms: Vec<(f64, Field)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Score,
    Bertsim,
}

impl ScoreField {
    /// BERTScore F1, the paper's.
    #[must_use]
    pub fn bertsim() -> Self {
        Self { terms: vec![(1.0, Field::Bertsim)] }
    }

    /// The outcome's score; none where one of the fields is missing.
    #[must_use]
    pub fn of(&self, outcome: &Outcome) -> Option<f64> {
        self.terms.iter().try_fold(0.0, |sum, (weight, field)| {
            let value = match field {
                Field::Score => outcome.score,
                Field::Bertsim => outcome.bertsim,
            };
            value.map(|value| sum + weight * value)
        })
    }
}

impl Default for ScoreField {
    fn default() -> Self {
        Self { terms: vec![(1.0, Field::Score)] }
    }
}

impl FromStr for ScoreField {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let field = |name: &str| match name.trim() {
            "score" => Ok(Field::Score),
            "bertsim" => Ok(Field::Bertsim),
            other => Err(format!("`{other}` is neither score nor bertsim")),
        };
        let term = |term: &str| match term.split_once('*') {
            None => Ok((1.0, field(term)?)),
            Some((weight, name)) => match weight.trim().parse::<f64>() {
                Ok(weight) if weight.is_finite() && weight > 0.0 => Ok((weight, field(name)?)),
                _ => Err(format!("`{}` is not a weight above 0", weight.trim())),
            },
        };
        Ok(Self { terms: text.split('+').map(term).collect::<Result<_, String>>()? })
    }
}

impl fmt::Display for ScoreField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (weight, field)) in self.terms.iter().enumerate() {
            let name = match field {
                Field::Score => "score",
                Field::Bertsim => "bertsim",
            };
            let plus = if at > 0 { "+" } else { "" };
            if (weight - 1.0).abs() < f64::EPSILON { write!(f, "{plus}{name}")? } else { write!(f, "{plus}{weight}*{name}")? }
        }
        Ok(())
    }
}

/// `softmax(temperature * score)` over the experts that have one; 0 for the others. All zero where none has.
#[must_use]
pub fn soft_label(scores: ArrayView1<'_, f32>, temperature: f32) -> Array1<f32> {
    let most = scores.iter().copied().filter(|score| !score.is_nan()).fold(f32::NEG_INFINITY, f32::max);
    let shares = scores.mapv(|score| if score.is_nan() { 0.0 } else { (temperature * (score - most)).exp() });
    let sum = shares.sum();
    if sum > 0.0 { shares / sum } else { shares }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::{Outcome, ScoreField, soft_label};

    #[test]
    fn fields_and_weighted_sums_are_read_and_told() {
        let outcome = Outcome { score: Some(1.0), bertsim: Some(0.5), ..Outcome::default() };
        for (text, expected) in [("score", 1.0), ("bertsim", 0.5), ("0.7*bertsim+0.3*score", 0.65), (" 2 * score ", 2.0)] {
            let field: ScoreField = text.parse().unwrap();
            assert!((field.of(&outcome).unwrap() - expected).abs() < 1e-12, "{text}");
            assert_eq!(field.to_string().parse::<ScoreField>().unwrap(), field);
        }
        let missing = Outcome { score: Some(1.0), ..Outcome::default() };
        assert_eq!("bertsim+score".parse::<ScoreField>().unwrap().of(&missing), None);
        for bad in ["", "nll", "x*score", "-1*score", "NaN*score", "score+"] {
            assert!(bad.parse::<ScoreField>().is_err(), "{bad}");
        }
    }

    #[test]
    fn soft_labels_are_the_formula_and_leave_out_what_is_missing() {
        let found = soft_label(array![0.9, 0.8, f32::NAN].view(), 10.0);
        let share = 1.0 / (1.0 + (-1.0_f32).exp());
        assert!((found[0] - share).abs() < 1e-6 && (found[1] - (1.0 - share)).abs() < 1e-6 && found[2] == 0.0, "{found}");
        assert_eq!(soft_label(array![f32::NAN, f32::NAN].view(), 10.0), array![0.0, 0.0]);
        assert_eq!(soft_label(array![1e9, 0.0].view(), 10.0), array![1.0, 0.0], "large scores do not overflow");
    }
}
