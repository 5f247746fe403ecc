//! A weighted sum of parts: weights from predictions made out of fold, so that a part is trusted for what it says of texts it has not
//! seen, and none more than it has earned.

use ndarray::{Array1, Array2};

use crate::{
    bert::BertPart,
    folds::{folds, held_out},
    linear::non_negative_least_squares,
    parts::{Part, PartKind, PartSpec},
    targets::Targets,
    views::Views,
};

/// Folds of cross-validation.
pub const FOLDS: usize = 5;
/// How strongly weights are drawn to the prior ones, in units of the parts' own variance: out-of-fold predictions of parts are much
/// alike, and free weights would follow their noise.
const PRIOR_STRENGTH: f64 = 0.3;

/// What parts say of rows they were not trained on.
#[derive(Debug, Clone)]
pub struct OutOfFold {
    /// In this order.
    pub specs: Vec<PartSpec>,
    /// `rows x experts` for each of them.
    pub deviations: Vec<Array2<f32>>,
    /// Where the data has token counts and a part predicts them.
    pub output_tokens: Option<Array2<f32>>,
}

/// A fitted mixture.
pub struct Mixture {
    /// With their weights.
    pub parts: Vec<(PartSpec, f32, Box<dyn Part>)>,
    /// Of each expert.
    pub expert_means: Array1<f32>,
}

impl OutOfFold {
    /// Fits every part on all folds but one and predicts that one, fold by fold. `progress` is told of each fold done.
    #[must_use]
    pub fn of(views: &Views, targets: &Targets, groups: &[String], specs: &[PartSpec], seed: u64, progress: &dyn Fn(usize)) -> Self {
        let fold_of = folds(groups, FOLDS, seed);
        let mut deviations = vec![Array2::zeros(targets.deviation.dim()); specs.len()];
        let mut output_tokens = None;
        for fold in 0..FOLDS {
            let (out, rest) = held_out(&fold_of, fold);
            let (train, held) = (views.select(&rest), views.select(&out));
            let train_targets = targets.select(&rest);
            let mut tokens = None;
            let train_groups: Vec<String> = rest.iter().map(|row| groups[*row].clone()).collect();
            for (spec, deviations) in specs.iter().zip(&mut deviations) {
                let part = spec.fit(&train, &train_targets, &train_groups);
                scatter(deviations, &out, &part.predict(&held));
                // The first that knows, as in serving.
                tokens = tokens.or_else(|| part.output_tokens(&held));
            }
            if let Some(tokens) = tokens {
                let all = output_tokens.get_or_insert_with(|| Array2::zeros(targets.deviation.dim()));
                scatter(all, &out, &tokens);
            }
            progress(fold + 1);
        }
        Self { specs: specs.to_vec(), deviations, output_tokens }
    }

    /// Some of the parts.
    #[must_use]
    pub fn subset(&self, which: impl Fn(&PartSpec) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.specs.len()).filter(|at| which(&self.specs[*at])).collect();
        Self {
            specs: kept.iter().map(|at| self.specs[*at]).collect(),
            deviations: kept.iter().map(|at| self.deviations[*at].clone()).collect(),
            output_tokens: self.output_tokens.clone(),
        }
    }

    /// Weights at least zero that bring the sum of parts nearest to what was observed, drawn to the prior ones.
    #[must_use]
    pub fn weights(&self, deviation: &Array2<f32>) -> Vec<f32> {
        let prior = prior(&self.specs);
        let count = self.specs.len();
        let mut gram = Array2::<f64>::zeros((count, count));
        let mut target = vec![0.0_f64; count];
        for (place, observed) in deviation.indexed_iter().filter(|(_, observed)| !observed.is_nan()) {
            let said: Vec<f64> = self.deviations.iter().map(|part| f64::from(part[place])).collect();
            for one in 0..count {
                target[one] += said[one] * f64::from(*observed);
                for other in 0..count {
                    gram[[one, other]] += said[one] * said[other];
                }
            }
        }
        for part in 0..count {
            let pull = PRIOR_STRENGTH * gram[[part, part]];
            target[part] += pull * f64::from(prior[part]);
            gram[[part, part]] += pull;
        }
        non_negative_least_squares(&gram, &target).into_iter().map(|weight| weight as f32).collect()
    }

    /// The weighted sum.
    #[must_use]
    pub fn mixed(&self, weights: &[f32]) -> Array2<f32> {
        let mut sum = Array2::zeros(self.deviations.first().map_or((0, 0), Array2::dim));
        for (part, weight) in self.deviations.iter().zip(weights) {
            sum.scaled_add(*weight, part);
        }
        sum
    }
}

/// What six sets of outcomes had in common.
fn prior(specs: &[PartSpec]) -> Vec<f32> {
    let kinds: Vec<PartKind> = specs.iter().map(|spec| spec.kind).collect();
    let labels = kinds.iter().any(|kind| kind.needs_labels());
    let of = |kind: &PartKind| match kind {
        PartKind::Trees | PartKind::EmbeddingTrees => {
            if labels {
                0.5
            } else {
                0.85
            }
        }
        PartKind::Labels | PartKind::EmbeddingLabels => 0.4,
        PartKind::Words => 0.15,
        PartKind::EmbeddingNeighbours | PartKind::Mlp => 0.3,
        PartKind::Bert => 0.4,
    };
    let alike = |kind: &PartKind| {
        let group = |kind: &PartKind| match kind {
            PartKind::Trees | PartKind::EmbeddingTrees => 0,
            PartKind::Labels | PartKind::EmbeddingLabels => 1,
            PartKind::Words | PartKind::EmbeddingNeighbours | PartKind::Mlp => 2,
            PartKind::Bert => 3,
        };
        kinds.iter().filter(|other| group(other) == group(kind)).count() as f32
    };
    kinds.iter().map(|kind| of(kind) / alike(kind)).collect()
}

fn scatter(all: &mut Array2<f32>, rows: &[usize], values: &Array2<f32>) {
    for (row, values) in rows.iter().zip(values.rows()) {
        all.row_mut(*row).assign(&values);
    }
}

impl Mixture {
    /// Fits the parts that have a weight, on all rows. `tuned`: the layer behind the encoder that made the views' embeddings, where it was
    /// fine-tuned.
    #[must_use]
    pub fn fit(views: &Views, targets: &Targets, groups: &[String], specs: &[PartSpec], weights: &[f32], tuned: Option<BertPart>) -> Self {
        let part = |spec: &PartSpec| -> Box<dyn Part> {
            match &tuned {
                Some(tuned) if spec.kind.is_tuned() => Box::new(tuned.clone()),
                _ => spec.fit(views, targets, groups),
            }
        };
        let with_weight = specs.iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
        let parts = with_weight.map(|(spec, weight)| (*spec, *weight, part(spec))).collect();
        Self { parts, expert_means: targets.expert_means.clone() }
    }

    /// Predicted scores; only differences within a row count.
    #[must_use]
    pub fn predict(&self, views: &Views) -> Array2<f32> {
        let mut sum = Array2::zeros((views.rows(), self.expert_means.len())) + &self.expert_means;
        for (_, weight, part) in &self.parts {
            sum.scaled_add(*weight, &part.predict(views));
        }
        sum
    }

    /// Expected output tokens, from the first part that knows.
    #[must_use]
    pub fn output_tokens(&self, views: &Views) -> Option<Array2<f32>> {
        self.parts.iter().find_map(|(_, _, part)| part.output_tokens(views))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::OutOfFold;
    use crate::{
        parts::{PartKind, PartOptions},
        random::Random,
    };

    #[test]
    fn a_part_that_says_nothing_true_gets_less_weight_than_one_that_does() {
        let mut random = Random::new(1, 1);
        let signal = Array2::from_shape_simple_fn((2_000, 3), || random.normal() * 0.1);
        let noise = Array2::from_shape_simple_fn((2_000, 3), || random.normal() * 0.1);
        let mut observed = &signal + &Array2::from_shape_simple_fn((2_000, 3), || random.normal() * 0.4);
        (0..2_000).step_by(3).for_each(|row| observed[[row, 1]] = f32::NAN);
        let specs = [PartKind::Trees, PartKind::Words].map(|kind| kind.with(PartOptions::default())).to_vec();
        let found = OutOfFold { specs, deviations: vec![signal, noise], output_tokens: None };
        let weights = found.weights(&observed);
        assert!(weights[0] > 0.8 && weights[1] < 0.2, "{weights:?}");
    }
}
