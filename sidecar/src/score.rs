//! Phase *score*: the request's text through the router model, under the policy's deadline.
//!
//! In: a prompt and a state. Out: scores in the table's order, or why there are none; and where the time went. A model that is slow or
//! broken never fails a request here: what to do then is the policy's, in `routing::choose`. Deliberately absent: the text rules and
//! everything below them, which are `model`'s, so that training and serving agree.

use std::time::{Duration, Instant};

use model::{Prediction, ScoreError};
use routing::{ScoreFailure, Scores};
use wire::Prompt;

use crate::{
    metrics::Metrics,
    state::{BoundModel, Model, State},
};

/// What came of scoring.
#[derive(Debug)]
pub struct Scored {
    /// In the table's order.
    pub scores: Result<Scores, ScoreFailure>,
    /// Text to tokens or features.
    pub tokenize: Duration,
    /// Waiting for the encoder.
    pub queue: Duration,
    /// In the graph.
    pub encode: Duration,
}

impl Scored {
    fn failed(failure: ScoreFailure) -> Self {
        Self { scores: Err(failure), tokenize: Duration::ZERO, queue: Duration::ZERO, encode: Duration::ZERO }
    }
}

/// Scores, and counts.
pub async fn score(state: &State, prompt: &Prompt<'_>, metrics: &Metrics) -> Scored {
    let bound = match &state.model {
        Model::Ready(bound) => bound,
        Model::None => return counted(Scored::failed(ScoreFailure::NoModel), metrics),
        Model::Broken(_) => return counted(Scored::failed(ScoreFailure::ModelBroken), metrics),
    };
    let begun = Instant::now();
    let text = bound.engine.bundle().manifest.text.apply(prompt);
    let cut = begun.elapsed();
    let deadline = Duration::from_millis(state.table.snapshot().policy.score_deadline_milliseconds);
    let scored = match bound.engine.score(text, deadline).await {
        Ok(prediction) => {
            if prediction.cached {
                metrics.score_cache_hits.inc();
            }
            metrics.tokenize_seconds.observe((cut + prediction.tokenize).as_secs_f64());
            metrics.queue_seconds.observe(prediction.queue.as_secs_f64());
            metrics.encode_seconds.observe(prediction.encode.as_secs_f64());
            Scored {
                tokenize: cut + prediction.tokenize,
                queue: prediction.queue,
                encode: prediction.encode,
                scores: bind(bound, &prediction),
            }
        }
        Err(error) => Scored::failed(match error {
            ScoreError::Overloaded => ScoreFailure::Overloaded,
            ScoreError::DeadlineExceeded => ScoreFailure::DeadlineExceeded,
            ScoreError::Failed(problem) => {
                tracing::warn!(problem, "the router model failed on a prompt");
                ScoreFailure::ModelBroken
            }
        }),
    };
    counted(scored, metrics)
}

fn counted(scored: Scored, metrics: &Metrics) -> Scored {
    if let Err(failure) = scored.scores {
        metrics.score_failures.with_label_values(&[failure.as_str()]).inc();
    }
    scored
}

/// From the bundle's columns to the table's order.
pub(crate) fn bind(bound: &BoundModel, prediction: &Prediction) -> Result<Scores, ScoreFailure> {
    let column = |values: &[f32]| -> Option<Vec<f32>> { bound.columns.iter().map(|column| values.get(*column).copied()).collect() };
    let quality = column(&prediction.quality).ok_or(ScoreFailure::ModelBroken)?;
    let output_tokens = match &prediction.output_tokens {
        // Where the head gives nothing for an expert, its mean in training does.
        Some(values) => {
            let trained = column(values).ok_or(ScoreFailure::ModelBroken)?;
            trained.iter().zip(&bound.mean_output_tokens).map(|(value, mean)| if value.is_finite() { *value } else { *mean }).collect()
        }
        None => bound.mean_output_tokens.clone(),
    };
    Ok(Scores { quality, output_tokens, seconds: bound.mean_seconds.clone(), recommended: bound.recommended })
}
