//! Graphs that read tokens, run over many texts: in batches of like length, on every core.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use ndarray::{Array2, ArrayView1, Axis};
use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use super::{
    EncoderError,
    graph::{ATTENTION_MASK, INPUT_IDS},
};

/// Tokens, padding included, that run at once: what fits the nearer caches.
const BATCH_TOKENS: usize = 2048;

/// A graph of `input_ids` and `attention_mask`, loaded as often as there are cores.
#[derive(Debug)]
pub struct TokenNetwork {
    sessions: Vec<Mutex<Session>>,
    output: String,
}

impl TokenNetwork {
    /// Loads a graph; `output` is `[batch, anything]`.
    ///
    /// # Errors
    /// What is wrong with the library or the graph.
    pub fn load(bytes: &[u8], output: &str) -> Result<Self, EncoderError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let environment = model::session::load_runtime(None).map_err(EncoderError::Run)?;
        let session = || -> ort::Result<Session> {
            Session::builder(&environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(1)?
                .with_memory_pattern(false)?
                .commit_from_memory(bytes)
        };
        let sessions = (0..cores).map(|_| session().map(Mutex::new)).collect::<Result<_, _>>().map_err(complaint)?;
        Ok(Self { sessions, output: output.into() })
    }

    /// One row for each text; `progress` is told how many are done.
    ///
    /// # Errors
    /// ONNX Runtime's complaint.
    pub fn run_all(&self, texts: &[Vec<i64>], progress: &(dyn Fn(usize) + Sync)) -> Result<Array2<f32>, EncoderError> {
        let batches = batches(texts);
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let rows = Mutex::new(vec![Vec::new(); texts.len()]);
        let work = |session: &Mutex<Session>| -> Result<(), EncoderError> {
            let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                let found = run(&mut session, &self.output, texts, batch)?;
                let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
                for (at, row) in batch.iter().zip(found.rows()) {
                    rows[*at] = row.to_vec();
                }
                progress(done.fetch_add(batch.len(), Ordering::Relaxed) + batch.len());
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = self.sessions.iter().map(|session| scope.spawn(move || work(session))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(EncoderError::Run("a thread panicked".into()))))
        })?;
        stacked(&rows.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Rows of like length together, the longest first, so that the last batches are short and no core waits long.
fn batches(texts: &[Vec<i64>]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(texts[*at].len()));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for at in order {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * texts[batch[0]].len() <= BATCH_TOKENS => batch.push(at),
            _ => batches.push(vec![at]),
        }
    }
    batches
}

fn run(session: &mut Session, output: &str, texts: &[Vec<i64>], batch: &[usize]) -> Result<Array2<f32>, EncoderError> {
    let (ids, mask) = padded(texts, batch);
    let inputs = ort::inputs![
        INPUT_IDS => TensorRef::from_array_view(&ids).map_err(complaint)?,
        ATTENTION_MASK => TensorRef::from_array_view(&mask).map_err(complaint)?,
    ];
    let outputs = session.run(inputs).map_err(complaint)?;
    let found = outputs.get(output).ok_or_else(|| EncoderError::Run(format!("the graph has no output {output}")))?;
    let found = found.try_extract_array::<f32>().map_err(complaint)?;
    found.into_dimensionality().map(|rows| rows.to_owned()).map_err(|error| EncoderError::Run(error.to_string()))
}

/// Ids and mask of a batch, padded with 0 to the longest.
pub(crate) fn padded(texts: &[Vec<i64>], batch: &[usize]) -> (Array2<i64>, Array2<i64>) {
    let width = batch.iter().map(|at| texts[*at].len()).max().unwrap_or_default().max(1);
    let mut ids = Array2::zeros((batch.len(), width));
    let mut mask = Array2::zeros((batch.len(), width));
    for (row, at) in batch.iter().enumerate() {
        for (column, id) in texts[*at].iter().enumerate() {
            ids[[row, column]] = *id;
            mask[[row, column]] = 1;
        }
    }
    (ids, mask)
}

fn stacked(rows: &[Vec<f32>]) -> Result<Array2<f32>, EncoderError> {
    let width = rows.first().map_or(0, Vec::len);
    let mut out = Array2::zeros((0, width));
    for row in rows {
        out.push(Axis(0), ArrayView1::from(row)).map_err(|error| EncoderError::Run(error.to_string()))?;
    }
    Ok(out)
}

fn complaint(error: impl std::fmt::Display) -> EncoderError {
    EncoderError::Run(error.to_string())
}
