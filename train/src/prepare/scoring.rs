//! Answers to scores: right or wrong by the query's rule, similarity of meaning by BERTScore.

use anyhow::{Context, Result};
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};

use super::progress::Scored;
use crate::{
    bertscore::BertScore,
    judge::Judge,
    outcomes::{Outcome, Row},
};

/// Scores every answer that has no score yet, of rows with something to score against. On all cores.
///
/// # Errors
/// The encoder failed.
pub fn score_rows(mut rows: Vec<Row>, bertscore: Option<&BertScore>) -> Result<Vec<Row>> {
    for row in &mut rows {
        let judge = Judge::of(row).map_err(|problem| anyhow::anyhow!("query {}: {problem}", row.id))?;
        if let Some(judge) = judge {
            judge_row(row, &judge);
        }
    }
    let Some(bertscore) = bertscore else { return Ok(rows) };
    let progress = Scored::new(rows.len());
    rows.par_iter_mut().try_for_each(|row| {
        progress.step();
        compare_row(row, bertscore).with_context(|| format!("query {}", row.id))
    })?;
    progress.finish();
    Ok(rows)
}

fn judge_row(row: &mut Row, judge: &Judge) {
    for outcome in row.outcomes.iter_mut().filter(|outcome| outcome.score.is_none()) {
        outcome.score = outcome.response.as_deref().map(|response| if judge.is_right(response) { 1.0 } else { 0.0 });
    }
}

fn compare_row(row: &mut Row, bertscore: &BertScore) -> Result<()> {
    let Some(reference) = row.reference.as_deref() else { return Ok(()) };
    let mut open: Vec<&mut Outcome> =
        row.outcomes.iter_mut().filter(|outcome| outcome.bertsim.is_none() && outcome.response.is_some()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let answers: Vec<&str> = open.iter().filter_map(|outcome| outcome.response.as_deref()).collect();
    let found = bertscore.f1(&answers, reference)?;
    for (outcome, f1) in open.iter_mut().zip(found) {
        outcome.bertsim = Some((f1 * 1e6).round() / 1e6);
    }
    row.other.insert("bertsim_by".into(), bertscore.name().into());
    Ok(())
}
