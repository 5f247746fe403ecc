//! Training rows to a router: every recipe that was asked for is tried out of fold, the best is guarded against doing worse than the best
//! single expert, and fitted on all rows.
//!
//! In: rows to learn from, and prices. Out: [`Learned`], which exports a bundle. Everything is chosen by cross-validation in which
//! near-duplicates stay together; the validation split is left for telling how good the outcome is. Deliberately absent: files.

mod compare;
mod guard;
mod problem;
mod teacher;
mod thrift;
mod tuned;

use ndarray::Array2;

use crate::{
    data::Data,
    decide::{Chooser, Predictions},
    encoder::{Encoder, EncoderError},
    prices,
    recipe::{self, LossChoice, Recipe, RouterKind, Setting},
    router::{ExportError, Router},
    settings::{Settings, expected_tokens, present_mean},
    targets::{self, Targets},
    views::{Views, WordOptions, WordSpace},
};

pub use compare::{Candidate, Objective};
pub use guard::Guard;
pub use teacher::Teacher;
pub use thrift::Thrift;

use problem::Problem;
use teacher::Lesson;
use tuned::Tuned;

/// What is learnt from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Queries, and what experts made of them.
    pub data: &'a Data,
    /// Prices and limits.
    pub chooser: &'a Chooser,
    /// Where routers may read embeddings.
    pub encoder: Option<&'a Encoder>,
    /// Another router, on the same rows.
    pub teacher: Option<&'a Teacher>,
}

/// What is to be learnt.
#[derive(Debug, Clone, Copy)]
pub struct LearnOptions {
    /// Which router.
    pub kind: RouterKind,
    /// What it learns.
    pub loss: LossChoice,
    /// T of soft labels.
    pub temperature: f32,
    /// What recipes are compared by.
    pub objective: Objective,
    /// Repeats all of it.
    pub seed: u64,
    /// How long `Auto` may fine-tune the encoder, in minutes of two cores of a common server; 0: not at all.
    pub tune_minutes: f64,
}

/// Why nothing was learnt.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The router asked for reads embeddings.
    #[error("a {0} router needs an encoder")]
    NoEncoder(&'static str),
    /// Texts cannot be embedded, or the encoder not be fine-tuned.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// Prices or names that no router may have.
    #[error("no choice can be made between these experts")]
    Choose(#[from] routing::TableError),
    /// A router cannot be exported, or the teacher not be asked.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Experts bind by name.
    #[error("the bundle to learn from has no expert {}; it has {}", missing.join(", "), known.join(", "))]
    Untaught {
        /// To be chosen from.
        missing: Vec<String>,
        /// In the bundle.
        known: Vec<String>,
    },
}

/// A router that has been compared and fitted.
pub struct Learned {
    /// Ready to predict and to be exported.
    pub router: Router,
    /// Fine-tuned for it, in place of the one that was given.
    pub encoder: Option<Encoder>,
    /// Everything that was tried, in the order tried.
    pub candidates: Vec<Candidate>,
    /// Which of them the router is.
    pub chosen: usize,
    /// The best single expert, by mean score freed of which queries it was scored on.
    pub best_single: usize,
    /// Whether cheaper experts are favoured, by how much.
    pub thrift: Thrift,
    /// Whether the best single expert had to be favoured.
    pub guard: Guard,
    /// For `Balanced` and `Cost`.
    pub settings: Settings,
}

impl Learned {
    /// What the router says of other rows. `train`: what it learnt from, for what is predicted of experts on average.
    ///
    /// # Errors
    /// Texts cannot be embedded.
    pub fn predict(
        &self,
        train: &Data,
        rows: &Data,
        encoder: Option<&Encoder>,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Predictions, LearnError> {
        let views = self.views(rows, encoder, progress)?;
        Ok(self.predict_views(train, rows, &views))
    }

    /// What the router's parts see of other rows.
    ///
    /// # Errors
    /// Texts cannot be embedded.
    pub fn views(&self, rows: &Data, encoder: Option<&Encoder>, progress: &(dyn Fn(&str) + Sync)) -> Result<Views, LearnError> {
        let mut views = self.router.space.views(&rows.texts);
        if self.router.needs_encoder() {
            let encoder = self.encoder.as_ref().or(encoder).ok_or(LearnError::NoEncoder("trained"))?;
            views.embedding = Some(embed(encoder, &rows.texts, progress)?);
        }
        Ok(views)
    }

    /// As [`Self::predict`], of views.
    #[must_use]
    pub fn predict_views(&self, train: &Data, rows: &Data, views: &Views) -> Predictions {
        Predictions {
            quality: self.router.predict(views),
            output_tokens: expected_tokens(train, rows.rows(), self.router.mixture.output_tokens(views)),
            seconds: mean_seconds(train),
            prompt_tokens: prices::shared_prompt_tokens(rows),
        }
    }
}

fn mean_seconds(data: &Data) -> Vec<f32> {
    data.seconds.columns().into_iter().map(|column| present_mean(column.iter().copied())).collect()
}

/// Learns from all rows of the data. `progress` is told what is being done.
///
/// # Errors
/// See [`LearnError`].
pub fn learn(from: Sources<'_>, options: &LearnOptions, progress: &(dyn Fn(&str) + Sync)) -> Result<Learned, LearnError> {
    let Sources { data, chooser, encoder, teacher } = from;
    let said = |of: &dyn Fn(&Array2<f32>) -> Array2<f32>| teacher.map(|teacher| (of(&teacher.quality), teacher.share));
    let scores = Lesson::of(Targets::of(data), said(&Targets::deviations));
    let temperature = options.temperature;
    let shares = said(&|quality| Targets::deviations_of_shares(quality, temperature));
    let shares = Lesson::of(Targets::of_shares(data, temperature), shares);
    let folds = encoder.map_or(Ok(0), |encoder| tuned::folds_in_time(encoder, data, options, progress))?;
    let setting = Setting {
        loss: options.loss,
        temperature: options.temperature,
        labels: !scores.targets.label_names.is_empty(),
        encoder: encoder.is_some(),
        tune: folds > 0,
        seed: options.seed,
    };
    let recipes = options.kind.recipes(&setting);
    let space = WordSpace::fit(&data.texts, &WordOptions { seed: options.seed, ..WordOptions::default() });
    let mut views = space.views(&data.texts);
    let needed = || encoder.ok_or(LearnError::NoEncoder(options.kind.as_str()));
    let on_tuned = recipe::on_tuned(&recipes);
    let tuned = match on_tuned.as_slice() {
        [] => None,
        specs => Some(Tuned::of(needed()?, (data, &views, &scores.targets), (specs, folds), options, progress)?),
    };
    if recipes.iter().any(Recipe::reads_published) {
        views.embedding = Some(embed(needed()?, &data.texts, progress)?);
    }
    let best_single = targets::best_single(&data.score).unwrap_or(0);
    let problem = Problem { data, chooser, encoder, views: &views, scores: &scores, shares: &shares, tuned, best_single, options };
    let tried = problem.try_all(recipes, progress)?;
    let chosen = compare::best(&tried.candidates, options.objective);
    problem.finish(tried, chosen, space, progress)
}

/// Embeddings, with progress.
///
/// # Errors
/// The encoder's.
pub fn embed(encoder: &Encoder, texts: &[String], progress: &(dyn Fn(&str) + Sync)) -> Result<Array2<f32>, EncoderError> {
    let told = std::sync::atomic::AtomicUsize::new(0);
    encoder.embed(texts, &|done, total| {
        let percent = done * 100 / total.max(1);
        if percent / 20 > told.fetch_max(percent, std::sync::atomic::Ordering::Relaxed) / 20 {
            progress(&format!("embedded {done} of {total} queries"));
        }
    })
}

#[cfg(test)]
pub(crate) mod tests;
