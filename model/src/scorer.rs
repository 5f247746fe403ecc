//! The seam between tensors and callers: rows in, scores out. [`crate::session::Network`] is one implementation, [`Fixed`] another.

use std::fmt;

use crate::features::Row;

/// What a scorer says of one text, by the bundle's order of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct RowScores {
    /// In units of the score; only differences count.
    pub quality: Vec<f32>,
    /// Expected tokens of the answer; NaN where nothing is known of an expert. Absent where no head for them was trained.
    pub output_tokens: Option<Vec<f32>>,
}

/// Scores rows. Called from several threads at once.
pub trait Scorer: Send + Sync + fmt::Debug {
    /// One answer for each row, in order.
    ///
    /// # Errors
    /// Why none could be had, in words for a log.
    fn score(&self, rows: &[&Row]) -> Result<Vec<RowScores>, String>;
}

/// Scores by a function of the text: for tests of what stands on scores.
pub struct Fixed<F>(pub F);

impl<F> fmt::Debug for Fixed<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Fixed")
    }
}

impl<F: Fn(&str) -> Result<Vec<f32>, String> + Send + Sync> Scorer for Fixed<F> {
    fn score(&self, rows: &[&Row]) -> Result<Vec<RowScores>, String> {
        rows.iter().map(|row| (self.0)(&row.text).map(|quality| RowScores { quality, output_tokens: None })).collect()
    }
}

/// That a scorer's answer can be used: one value for each expert, all of them numbers.
pub(crate) fn checked(scores: RowScores, experts: usize) -> Result<RowScores, String> {
    let RowScores { quality, output_tokens } = scores;
    if quality.len() != experts || output_tokens.as_ref().is_some_and(|tokens| tokens.len() != experts) {
        return Err(format!("{} scores for {experts} experts", quality.len()));
    }
    if quality.iter().any(|value| !value.is_finite()) {
        return Err("a score is not a finite number".into());
    }
    // A head that was trained on logarithms or differences may pass below 0 or overflow; the mean then serves better.
    let known = |value: f32| if value.is_finite() { value.max(0.0) } else { f32::NAN };
    let output_tokens = output_tokens.map(|tokens| tokens.into_iter().map(known).collect());
    Ok(RowScores { quality, output_tokens })
}
