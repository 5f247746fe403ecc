//! Answers to scores: right or wrong by the query's rule, similarity of meaning by BERTScore.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, Result};
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};

use super::progress::Scored;
use crate::{
    bertscore::BertScore,
    judge::Judge,
    outcomes::{Outcome, Reader, Row},
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

/// Takes BERTSim over from an earlier file where it scored the same answer against the same reference by the same encoder: an answer is
/// paid for once, and compared once. A file that cannot be read is none.
pub(super) fn take_over(rows: &mut [Row], earlier: &Path, by: &str) {
    let Ok(reader) = Reader::open(earlier) else { return };
    let known: HashMap<String, Row> = reader.map_while(Result::ok).map(|(_, row)| (row.id.clone(), row)).collect();
    for row in rows {
        let Some(before) = known.get(&row.id).filter(|before| before.reference == row.reference) else { continue };
        if before.other.get("bertsim_by").and_then(|name| name.as_str()) != Some(by) {
            continue;
        }
        for outcome in row.outcomes.iter_mut().filter(|outcome| outcome.bertsim.is_none()) {
            let same = before.outcomes.iter().find(|old| old.expert == outcome.expert && old.response == outcome.response);
            outcome.bertsim = same.and_then(|old| old.bertsim);
        }
        row.other.insert("bertsim_by".into(), by.into());
    }
}

/// Where a row has no reference, this expert's answer is it, and the row says so.
pub(super) fn refer_to(row: &mut Row, expert: &str) {
    let answer = row.outcomes.iter().find(|outcome| outcome.expert == expert).and_then(|outcome| outcome.response.clone());
    if let (None, Some(answer)) = (&row.reference, answer) {
        row.reference = Some(answer);
        row.other.insert("reference_by".into(), expert.into());
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::outcomes::Writer;

    fn row(reference: &str, response: &str, more: serde_json::Value) -> Row {
        let mut row = json!({"id": "a", "prompt": "p", "reference": reference, "outcomes": [{"expert": "atlas", "response": response}]});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn an_expert_s_answer_is_the_reference_where_there_is_none() {
        let row = |reference: serde_json::Value| -> Row {
            serde_json::from_value(json!({"id": "a", "prompt": "p", "reference": reference,
                "outcomes": [{"expert": "atlas", "response": "yes"}, {"expert": "bolt"}]}))
            .unwrap()
        };
        let referred = |reference, expert| {
            let mut row = row(reference);
            refer_to(&mut row, expert);
            (row.reference, row.other.get("reference_by").cloned())
        };
        assert_eq!(referred(json!(null), "atlas"), (Some("yes".to_owned()), Some(json!("atlas"))));
        assert_eq!(referred(json!(null), "bolt"), (None, None));
        assert_eq!(referred(json!("no"), "atlas"), (Some("no".to_owned()), None));
    }

    #[test]
    fn a_comparison_is_taken_over_where_nothing_in_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("earlier.jsonl.gz");
        let mut before = row("Rome", "Rome.", json!({"bertsim_by": "encoder 1"}));
        before.outcomes[0].bertsim = Some(0.75);
        let mut writer = Writer::create(&path).unwrap();
        writer.write(&before).unwrap();
        writer.finish().unwrap();
        for (row, by, expected) in [
            (row("Rome", "Rome.", json!({})), "encoder 1", Some(0.75)),
            (row("Rome", "Rome.", json!({})), "encoder 2", None),
            (row("Rome", "Milan.", json!({})), "encoder 1", None),
            (row("Roma", "Rome.", json!({})), "encoder 1", None),
            (row("Rome", "Rome.", json!({"id": "b"})), "encoder 1", None),
        ] {
            let mut rows = [row];
            take_over(&mut rows, &path, by);
            assert_eq!(rows[0].outcomes[0].bertsim, expected, "{rows:?}");
        }
        let mut rows = [row("Rome", "Rome.", json!({}))];
        take_over(&mut rows, &folder.path().join("none"), "encoder 1");
        assert_eq!(rows[0].outcomes[0].bertsim, None);
    }
}
