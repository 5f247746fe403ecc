//! The rows with all that is known of them, and what is tried on them: every recipe out of fold, then the chosen one on all rows.

use ndarray::Array2;

use super::{
    Guard, LearnError, LearnOptions, Learned, Thrift,
    compare::Candidate,
    guard, mean_seconds,
    teacher::Lesson,
    tuned::{self, Tuned},
};
use crate::{
    data::Data,
    decide::{Chooser, Predictions},
    encoder::Encoder,
    mix::{Mixture, OutOfFold},
    parts::PartSpec,
    prices,
    recipe::Recipe,
    router::{Meaning, Router, expert_entries},
    settings::{Trial, expected_tokens},
    targets::Targets,
    views::{Views, WordSpace},
};

/// What is learnt from.
pub(super) struct Problem<'a> {
    pub(super) data: &'a Data,
    pub(super) chooser: &'a Chooser,
    pub(super) encoder: Option<&'a Encoder>,
    pub(super) views: &'a Views,
    pub(super) scores: &'a Lesson,
    pub(super) shares: &'a Lesson,
    pub(super) tuned: Option<Tuned>,
    pub(super) best_single: usize,
    pub(super) options: &'a LearnOptions,
}

/// Recipes with what they predicted out of fold.
pub(super) struct Tried {
    pub(super) recipes: Vec<Recipe>,
    pub(super) candidates: Vec<Candidate>,
    /// Thrift included.
    pub(super) predictions: Vec<Predictions>,
    pub(super) thrifts: Vec<Thrift>,
}

impl Problem<'_> {
    fn lesson(&self, meaning: Meaning) -> &Lesson {
        match meaning {
            Meaning::Shares { .. } => self.shares,
            Meaning::Scores | Meaning::Logits { .. } => self.scores,
        }
    }

    fn trial(&self) -> Trial<'_> {
        let trial = Trial::new(self.data, self.best_single);
        match &self.tuned {
            Some(tuned) => trial.only(&tuned.held),
            None => trial,
        }
    }

    /// Parts that recipes share are fitted once.
    pub(super) fn try_all(&self, recipes: Vec<Recipe>, progress: &(dyn Fn(&str) + Sync)) -> Result<Tried, LearnError> {
        let by_shares = |recipe: &Recipe| matches!(recipe.meaning, Meaning::Shares { .. });
        let of_scores = self.out_of_fold(recipes.iter().filter(|recipe| !by_shares(recipe)), &self.scores.targets, "scores", progress);
        let of_shares = self.out_of_fold(recipes.iter().filter(|recipe| by_shares(recipe)), &self.shares.targets, "soft labels", progress);
        let tokens = of_scores.output_tokens.as_ref().or(of_shares.output_tokens.as_ref());
        let tokens = expected_tokens(self.data, self.data.rows(), tokens.cloned());
        let trial = self.trial();
        let mut tried = Tried { recipes: Vec::new(), candidates: Vec::new(), predictions: Vec::new(), thrifts: Vec::new() };
        for recipe in recipes {
            let targets = &self.lesson(recipe.meaning).targets;
            let (parts, observed) = self.parts_of(&recipe, if by_shares(&recipe) { &of_shares } else { &of_scores });
            let weights = if recipe.as_it_is { vec![1.0; parts.specs.len()] } else { parts.weights(&observed) };
            let quality = recipe.meaning.quality(parts.mixed(&weights) + &targets.expert_means);
            let mut predictions = self.predictions(quality, tokens.clone());
            let thrift = Thrift::of(&trial, self.chooser, &predictions, self.data)?;
            guard::added(&mut predictions.quality, &thrift.favour(self.data));
            let candidate = Candidate::of(&recipe, &parts.specs, &weights, &trial, self.chooser, &predictions, self.options.objective)?;
            progress(&candidate.line(&trial));
            tried.candidates.push(candidate);
            tried.predictions.push(predictions);
            tried.thrifts.push(thrift);
            tried.recipes.push(Recipe { specs: parts.specs, ..recipe });
        }
        Ok(tried)
    }

    /// A recipe's parts, with what was observed on the rows by which they are weighed.
    fn parts_of(&self, recipe: &Recipe, published: &OutOfFold) -> (OutOfFold, Array2<f32>) {
        let on_tuned = |spec: &PartSpec| recipe.is_tuned() && spec.needs_embedding();
        let mut parts = published.subset(|spec| recipe.specs.contains(spec) && !on_tuned(spec));
        let observed = &self.lesson(recipe.meaning).observed;
        let Some(tuned) = self.tuned.as_ref().filter(|_| recipe.is_tuned()) else { return (parts, observed.clone()) };
        for (spec, deviation) in tuned.specs.iter().zip(&tuned.deviations).filter(|(spec, _)| recipe.specs.contains(spec)) {
            parts.specs.push(*spec);
            parts.deviations.push(deviation.clone());
        }
        (parts, tuned.observed(observed))
    }

    fn out_of_fold<'r>(
        &self,
        recipes: impl Iterator<Item = &'r Recipe>,
        targets: &Targets,
        of: &str,
        progress: &(dyn Fn(&str) + Sync),
    ) -> OutOfFold {
        let mut specs: Vec<PartSpec> = Vec::new();
        for recipe in recipes {
            let published = recipe.specs.iter().filter(|spec| !(recipe.is_tuned() && spec.needs_embedding()));
            for spec in published {
                if !specs.contains(spec) {
                    specs.push(*spec);
                }
            }
        }
        let told = |fold: usize| {
            if !specs.is_empty() {
                progress(&format!("cross-validation on {of}: fold {fold} of {} ({} parts)", crate::mix::FOLDS, specs.len()));
            }
        };
        OutOfFold::of(self.views, targets, &self.data.groups, &specs, self.options.seed, &told)
    }

    fn predictions(&self, quality: Array2<f32>, output_tokens: Array2<f32>) -> Predictions {
        let seconds = mean_seconds(self.data);
        Predictions { quality, output_tokens, seconds, prompt_tokens: prices::shared_prompt_tokens(self.data) }
    }

    pub(super) fn finish(
        &self,
        mut tried: Tried,
        chosen: usize,
        space: WordSpace,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Learned, LearnError> {
        let recipe = &tried.recipes[chosen];
        let trial = self.trial();
        let predictions = &mut tried.predictions[chosen];
        let thrift = tried.thrifts[chosen];
        thrift.line().iter().for_each(|line| progress(line));
        let guard = Guard::of(&trial, self.chooser, predictions, self.best_single)?;
        let of_guard = guard.favour(self.best_single, self.data.experts.len());
        guard::added(&mut predictions.quality, &of_guard);
        progress(&guard.line(&self.data.experts[self.best_single]));
        let settings = trial.settings(self.chooser, &trial.predictions(predictions))?;
        progress(&format!("fitting the {} router on all {} training rows", recipe.name, self.data.rows()));
        let targets = &self.lesson(recipe.meaning).targets;
        let weights = &tried.candidates[chosen].weights;
        let used =
            |of_tuned: &dyn Fn(&PartSpec) -> bool| recipe.specs.iter().zip(weights).any(|(spec, weight)| of_tuned(spec) && *weight > 0.0);
        let (mixture, encoder) = match self.encoder {
            Some(start) if recipe.is_tuned() && used(&PartSpec::needs_embedding) => {
                let bert = tuned::fit(start, self.data, targets, self.options, progress)?;
                let views = Views { embedding: Some(bert.embeddings(&self.data.texts)?), ..self.views.clone() };
                let mixture = Mixture::fit(&views, targets, &self.data.groups, &recipe.specs, weights, Some(bert.part()));
                (mixture, Some(bert.into_encoder()))
            }
            _ => (Mixture::fit(self.views, targets, &self.data.groups, &recipe.specs, weights, None), None),
        };
        let router = Router {
            kind: recipe.name.into(),
            experts: expert_entries(self.data),
            space,
            meaning: recipe.meaning,
            favour: of_guard + thrift.favour(self.data),
            mixture,
        };
        Ok(Learned { router, encoder, candidates: tried.candidates, chosen, best_single: self.best_single, thrift, guard, settings })
    }
}
