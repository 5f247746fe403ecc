//! Many texts at once, for training and evaluation.
//!
//! Which rows run together depends on the texts alone, so that results do not depend on how many threads there are, or which was quick.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Core, Prediction, ScoreError, Timings, guarded, prediction};
use crate::{
    batch::{self, Limits},
    features::Row,
};

/// Nobody waits for the first: batches are large where rows are short.
const LIMITS: Limits = Limits { rows: 64, cells: 4096, padding_percent: 10 };

pub(super) fn score(core: &Core, texts: &[String], threads: usize) -> Result<Vec<Prediction>, ScoreError> {
    let singly: Vec<Vec<usize>> = (0..texts.len()).map(|index| vec![index]).collect();
    let rows = in_parallel(&singly, threads, |indices| indices.iter().map(|index| extract(core, &texts[*index])).collect())?;
    let lengths: Vec<usize> = rows.iter().map(|(row, _)| row.length()).collect();
    let groups = batch::groups(&lengths, &LIMITS);
    in_parallel(&groups, threads, |indices| run(core, &rows, indices))
}

fn extract(core: &Core, text: &str) -> Result<(Row, Duration), String> {
    let begun = Instant::now();
    let row = core.extractor.row(text.to_owned())?;
    Ok((row, begun.elapsed()))
}

fn run(core: &Core, rows: &[(Row, Duration)], indices: &[usize]) -> Result<Vec<Prediction>, String> {
    let begun = Instant::now();
    let batch: Vec<&Row> = indices.iter().map(|index| &rows[*index].0).collect();
    let scores = core.run(&batch)?;
    // Each its share: sums over rows are then right.
    let encode = begun.elapsed() / u32::try_from(indices.len()).unwrap_or(u32::MAX).max(1);
    let each = indices.iter().zip(scores).map(|(index, scores)| {
        let (row, tokenize) = &rows[*index];
        scores.map(|scores| prediction(row, scores, Timings { tokenize: *tokenize, encode, queue: Duration::ZERO }))
    });
    each.collect()
}

/// Does groups of indices on some threads; what came of each index is put in its place.
fn in_parallel<T: Send>(
    groups: &[Vec<usize>],
    threads: usize,
    act: impl Fn(&[usize]) -> Result<Vec<T>, String> + Sync,
) -> Result<Vec<T>, ScoreError> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new((Vec::new(), None));
    let work = || {
        while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = guarded(|| act(group));
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(values) => done.0.extend(group.iter().copied().zip(values)),
                Err(problem) => {
                    done.1.get_or_insert(problem);
                    next.store(groups.len(), Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(groups.len()) {
            scope.spawn(work);
        }
        work();
    });
    let (mut values, problem) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(problem) = problem {
        return Err(ScoreError::Failed(problem));
    }
    values.sort_by_key(|(index, _)| *index);
    Ok(values.into_iter().map(|(_, value)| value).collect())
}
