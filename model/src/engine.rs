//! A loaded bundle that answers: threads of its own, batches, a cache of repeated prompts, back-pressure at the door.
//!
//! In: a text already cut by the bundle's rules, and a deadline. Out: a [`Prediction`]. Graphs that read tokens run on the engine's
//! threads ([`queue`]); those that do not take microseconds, and run on the caller's. Deliberately absent: what to do without a score.

mod cache;
mod every;
mod queue;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Bundle, BundleError, Manifest,
    bundle::GRAPH,
    features::{Extractor, Row},
    scorer::{Fixed, RowScores, Scorer, checked},
    session::Network,
};
use cache::Cache;
use queue::Queue;

/// How an engine uses the machine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// `libonnxruntime.so`; absent: `ORT_DYLIB_PATH`, else what was fetched into the user's cache, else the loader's search path.
    pub onnxruntime: Option<PathBuf>,
    /// Threads that run an encoder. They share one session.
    pub threads: usize,
    /// Requests that may wait; one more is refused.
    pub max_waiting: usize,
    /// Requests that may run together. Fewer do where they are long or of unlike length.
    pub max_batch: usize,
    /// How long a request may wait for company while others run. An idle engine never waits.
    pub batch_window: Duration,
    /// Prompts whose scores are remembered. 0: none.
    pub cache_entries: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            onnxruntime: None,
            threads: thread::available_parallelism().map_or(1, usize::from),
            max_waiting: 64,
            max_batch: 16,
            batch_window: Duration::ZERO,
            cache_entries: 8192,
        }
    }
}

/// Scores of one prompt, by the bundle's order of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// In units of the score, whatever the output kind (log-probabilities are divided by T). Only differences count.
    pub quality: Vec<f32>,
    /// Where a head for them was trained; NaN for an expert of which it knows nothing.
    pub output_tokens: Option<Vec<f32>>,
    /// Tokens the encoder read; absent for a lexical router.
    pub prompt_tokens: Option<u32>,
    /// It was asked before, and nothing was computed.
    pub cached: bool,
    /// Text to tokens and features.
    pub tokenize: Duration,
    /// In the graph.
    pub encode: Duration,
    /// Waiting for a thread, and for others of the batch.
    pub queue: Duration,
}

/// Why there is no prediction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// The queue is full.
    #[error("too many requests wait for a score")]
    Overloaded,
    /// It may come yet, but nobody waits for it.
    #[error("the score did not come within the deadline")]
    DeadlineExceeded,
    /// In words for a log.
    #[error("the model failed: {0}")]
    Failed(String),
}

/// Loaded, warmed up, ready. Dropping it ends its threads, once they have finished what they run.
#[derive(Debug)]
pub struct Engine {
    bundle: Bundle,
    core: Arc<Core>,
    /// Absent where scores are computed on the caller's thread.
    queue: Option<Queue>,
}

/// What callers and threads share.
#[derive(Debug)]
struct Core {
    extractor: Extractor,
    scorer: Arc<dyn Scorer>,
    experts: usize,
    cache: Cache,
}

impl Engine {
    /// Loads ONNX Runtime (once per process) and the graph, runs one row through it, and checks the output's width.
    ///
    /// # Errors
    /// What is wrong with the library or the bundle.
    pub fn load(mut bundle: Bundle, options: &EngineOptions) -> Result<Self, BundleError> {
        let network = Network::load(&bundle, options.onnxruntime.as_deref())?;
        // ONNX Runtime has its own copy.
        bundle.graph = Vec::new();
        Self::with_scorer(bundle, Arc::new(network), options)
    }

    /// An engine over any scorer.
    ///
    /// # Errors
    /// What is wrong with the bundle, or with what the scorer says of a first text.
    pub fn with_scorer(mut bundle: Bundle, scorer: Arc<dyn Scorer>, options: &EngineOptions) -> Result<Self, BundleError> {
        let extractor = Extractor::new(&bundle)?;
        bundle.tokenizer = None;
        let cache = Cache::new(options.cache_entries);
        let core = Arc::new(Core { extractor, scorer, experts: bundle.manifest.experts.len(), cache });
        // The first run allocates and may fail for many reasons; better here than on a request.
        let row = core.extractor.row("What is this text about?".to_owned());
        let warm = row.and_then(|row| core.run(&[&row]).and_then(|mut scores| scores.remove(0)));
        warm.map_err(|problem| BundleError::invalid(GRAPH, format!("a first run failed: {problem}")))?;
        let queue = core.extractor.reads_tokens().then(|| Queue::start(&core, options)).transpose();
        let queue = queue.map_err(|source| BundleError::Runtime(format!("cannot start a thread: {source}")))?;
        Ok(Self { bundle, core, queue })
    }

    /// An engine that answers by a function of the text, for tests of what stands on scores. The first call is with a text of the
    /// engine's own.
    ///
    /// # Errors
    /// What the function says of that, or what is wrong with the names.
    pub fn fixed(experts: &[&str], scores: impl Fn(&str) -> Result<Vec<f32>, String> + Send + Sync + 'static) -> Result<Self, BundleError> {
        let bundle = Bundle { manifest: Manifest::fixed(experts), graph: Vec::new(), tokenizer: None, digest: "fixed".into() };
        Self::with_scorer(bundle, Arc::new(Fixed(scores)), &EngineOptions { cache_entries: 0, ..EngineOptions::default() })
    }

    /// What was loaded. Its graph and tokenizer were handed on, and are no longer here.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Scores a text (already cut by the bundle's rules). Lexical routers are run here and now; encoders on the engine's threads. A
    /// caller that goes away takes its entry out of the queue.
    ///
    /// # Errors
    /// See [`ScoreError`].
    pub async fn score(&self, text: String, deadline: Duration) -> Result<Prediction, ScoreError> {
        let key = self.core.cache.key(&text);
        if let Some(prediction) = self.core.cache.get(key) {
            return Ok(prediction);
        }
        match &self.queue {
            Some(queue) => queue.ask(key, text, deadline).await,
            None => self.core.score_here(key, text),
        }
    }

    /// Scores many texts at once on the calling thread's time (and as many more threads as the engine has), for training and
    /// evaluation. The same texts give the same scores, however many threads there are. The cache is left alone.
    ///
    /// # Errors
    /// See [`ScoreError`]; one text that fails fails all.
    pub fn score_all(&self, texts: &[String]) -> Result<Vec<Prediction>, ScoreError> {
        let threads = self.queue.as_ref().map_or_else(|| EngineOptions::default().threads, Queue::threads);
        every::score(&self.core, texts, threads)
    }
}

impl Core {
    fn score_here(&self, key: cache::Key, text: String) -> Result<Prediction, ScoreError> {
        let begun = Instant::now();
        let row = guarded(|| self.extractor.row(text)).map_err(ScoreError::Failed)?;
        let tokenize = begun.elapsed();
        let scores = self.run(&[&row]).and_then(|mut scores| scores.remove(0)).map_err(ScoreError::Failed)?;
        let timings = Timings { tokenize, encode: begun.elapsed() - tokenize, queue: Duration::ZERO };
        self.cache.put(key, &row, &scores);
        Ok(prediction(&row, scores, timings))
    }

    /// One run; a row whose scores cannot be used fails alone, a run that fails fails all.
    fn run(&self, rows: &[&Row]) -> Result<Vec<Result<RowScores, String>>, String> {
        let scores = guarded(|| self.scorer.score(rows))?;
        if scores.len() != rows.len() {
            return Err(format!("{} answers to {} rows", scores.len(), rows.len()));
        }
        Ok(scores.into_iter().map(|scores| checked(scores, self.experts)).collect())
    }
}

struct Timings {
    tokenize: Duration,
    encode: Duration,
    queue: Duration,
}

fn prediction(row: &Row, scores: RowScores, timings: Timings) -> Prediction {
    let RowScores { quality, output_tokens } = scores;
    let Timings { tokenize, encode, queue } = timings;
    Prediction { quality, output_tokens, prompt_tokens: row.prompt_tokens(), cached: false, tokenize, encode, queue }
}

/// A panic below is an error like any other: the thread has more to do.
fn guarded<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!("a panic: {}", words.as_deref().unwrap_or("of unknown kind")))
    })
}

#[cfg(test)]
mod tests;
