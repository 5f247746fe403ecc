//! Answers to scores: right or wrong by the query's rule, similarity of meaning by BERTScore.

use anyhow::Result;

use crate::{
    bertscore::BertScore,
    judge::Judge,
    outcomes::{Outcome, Row},
};

/// Scores every answer that has no score yet, of rows with something to score against.
///
/// # Errors
/// The encoder failed.
pub fn score_rows(mut rows: Vec<Row>, mut bertscore: Option<BertScore>) -> Result<Vec<Row>> {
    for row in &mut rows {
        let judge = Judge::of(row).map_err(|problem| anyhow::anyhow!("query {}: {problem}", row.id))?;
        if let Some(judge) = judge {
            judge_row(row, &judge);
        }
        let (Some(bertscore), Some(reference)) = (&mut bertscore, row.reference.clone()) else { continue };
        let mut open: Vec<&mut Outcome> =
            row.outcomes.iter_mut().filter(|outcome| outcome.bertsim.is_none() && outcome.response.is_some()).collect();
        if open.is_empty() {
            continue;
        }
        let responses: Vec<String> = open.iter().map(|outcome| outcome.response.clone().unwrap_or_default()).collect();
        for (outcome, f1) in open.iter_mut().zip(bertscore.f1(&responses, &reference)?) {
            outcome.bertsim = Some(f64::from(f1));
        }
        row.other.insert("bertsim_by".into(), bertscore.name().into());
    }
    Ok(rows)
}

fn judge_row(row: &mut Row, judge: &Judge) {
    for outcome in row.outcomes.iter_mut().filter(|outcome| outcome.score.is_none()) {
        outcome.score = outcome.response.as_deref().map(|response| if judge.is_right(response) { 1.0 } else { 0.0 });
    }
}
