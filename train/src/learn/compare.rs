//! Candidates compared on rows that no part had seen.

use clap::ValueEnum;
use routing::TableError;
use serde::Serialize;

use crate::{
    decide::{Chooser, Predictions, Rule},
    parts::PartSpec,
    recipe::Recipe,
    settings::{Outcome, Trial, mean, standard_error},
};

/// What candidates are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The mean score
    Quality,
    /// The least cost at no less than the best single expert's score
    Cost,
    /// The best score at no more than the best single expert's cost
    Balanced,
}

/// A candidate must be better than a simpler one by this much of the paired standard error: cross-validation is not sharper than that,
/// and the simpler one decides in microseconds.
const WORTH: f64 = 0.5;

/// What was tried, and what it came to out of fold.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// For people.
    pub name: String,
    /// As in `bundle.json`.
    pub router: &'static str,
    /// Names of the parts, in the order of their weights.
    pub parts: Vec<&'static str>,
    /// Of each part.
    pub weights: Vec<f32>,
    /// By the objective asked for.
    pub outcome: Outcome,
    /// Mean gain of score over the best single expert, choosing the best predicted score.
    pub gain: f64,
    /// Its standard error, query by query.
    pub gain_standard_error: f64,
    /// What is compared: larger is better.
    #[serde(skip)]
    figure: f64,
    #[serde(skip)]
    scores: Vec<f64>,
    /// Reads no tokens.
    #[serde(skip)]
    is_simple: bool,
}

impl Candidate {
    pub(super) fn of(
        recipe: &Recipe,
        specs: &[PartSpec],
        weights: &[f32],
        trial: &Trial<'_>,
        chooser: &Chooser,
        predictions: &Predictions,
        objective: Objective,
    ) -> Result<Self, TableError> {
        let predictions = trial.predictions(predictions);
        let choices = chooser.choose(&predictions, Rule::Quality)?;
        let (scores, single) = (trial.scores(&choices), trial.scores(&trial.single()));
        let gains: Vec<f64> = scores.iter().zip(&single).map(|(score, single)| score - single).collect();
        let of_quality = trial.outcome(&choices);
        let settings = || trial.settings(chooser, &predictions).map(|settings| (settings.balanced.out_of_fold, settings.cost.out_of_fold));
        let (outcome, figure) = match objective {
            Objective::Quality => (of_quality, of_quality.score),
            Objective::Balanced => {
                let found = settings()?.0.unwrap_or(of_quality);
                (found, found.score)
            }
            Objective::Cost => match settings()?.1 {
                // Nothing is known of costs.
                None => (of_quality, of_quality.score),
                Some(found) => {
                    // Where no tolerance holds the best single expert's score, the guard will leave the choice to that expert: the
                    // candidate is worth no more than this, however cheap its own choices are.
                    let found = if found.score < mean(&single) { trial.outcome(&trial.single()) } else { found };
                    (found, found.cost_per_1k_usd.map_or(f64::NEG_INFINITY, |cost| -cost))
                }
            },
        };
        Ok(Self {
            name: recipe.describe(),
            router: recipe.name,
            parts: specs.iter().map(|spec| spec.kind.as_str()).collect(),
            weights: weights.to_vec(),
            outcome,
            gain: mean(&gains),
            gain_standard_error: standard_error(&gains),
            figure,
            scores,
            is_simple: !specs.iter().any(PartSpec::needs_embedding),
        })
    }

    pub(super) fn line(&self, trial: &Trial<'_>) -> String {
        let cost = self.outcome.cost_per_1k_usd.map_or(String::new(), |cost| format!(" at {cost:.4} USD per 1,000"));
        let Self { name, gain, gain_standard_error, .. } = self;
        format!(
            "{name}: {:.4}{cost} on {} rows out of fold; gain over best single {gain:+.4} ± {gain_standard_error:.4}",
            self.outcome.score,
            trial.rows()
        )
    }
}

/// The place of the best; where quality is what counts, a candidate that needs an encoder must be worth it.
pub(super) fn best(candidates: &[Candidate], objective: Objective) -> usize {
    let best = |simple_only: bool| {
        let those = (0..candidates.len()).filter(|at| !simple_only || candidates[*at].is_simple);
        those.reduce(|best, at| if candidates[at].figure > candidates[best].figure { at } else { best })
    };
    let (Some(all), simple) = (best(false), best(true)) else { return 0 };
    let Some(simple) = simple.filter(|_| objective == Objective::Quality) else { return all };
    let differences: Vec<f64> = candidates[all].scores.iter().zip(&candidates[simple].scores).map(|(one, other)| one - other).collect();
    if mean(&differences) > WORTH * standard_error(&differences) { all } else { simple }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::{Candidate, Objective, best};
    use crate::{
        data::Data,
        decide::{Market, Predictions},
        learn::tests::data,
        recipe::Recipe,
        router::Meaning,
        settings::Trial,
    };

    fn candidate(data: &Data, single: usize, quality: Array2<f32>, objective: Objective) -> Candidate {
        let recipe = Recipe { name: "lexical", meaning: Meaning::Scores, specs: Vec::new(), as_it_is: true };
        let predictions = Predictions {
            output_tokens: Array2::from_elem(quality.dim(), f32::NAN),
            quality,
            seconds: vec![f32::NAN; 3],
            prompt_tokens: vec![1.0; data.rows()],
        };
        let chooser = Market::read(None).unwrap().chooser(data);
        Candidate::of(&recipe, &[], &[], &Trial::new(data, single), &chooser, &predictions, objective).unwrap()
    }

    #[test]
    fn by_cost_a_candidate_that_loses_score_does_not_win_by_its_price() {
        let data = data(200, 1.0);
        let at = |name: &str| data.experts.iter().position(|expert| expert == name).unwrap();
        let (cheap, sums) = (at("cheap"), at("sums"));
        let always_cheap = Array2::from_shape_fn(data.score.dim(), |(_, expert)| f32::from(u8::from(expert == cheap)));
        let made = || [always_cheap.clone(), data.score.clone()].map(|quality| candidate(&data, sums, quality, Objective::Cost));
        let [losing, perfect] = made();
        let single = Trial::new(&data, sums).outcome(&[sums; 200]);
        assert_eq!(losing.outcome, single, "what the guard makes of it");
        assert!(perfect.outcome.score > single.score, "{:?}", perfect.outcome);
        assert!(perfect.outcome.cost_per_1k_usd.unwrap() < single.cost_per_1k_usd.unwrap(), "{:?}", perfect.outcome);
        assert_eq!(best(&[losing, perfect], Objective::Cost), 1);
        let [losing, perfect] = made();
        assert_eq!(best(&[perfect, losing], Objective::Cost), 0);
    }
}
