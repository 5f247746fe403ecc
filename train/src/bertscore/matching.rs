//! Greedy matching of two texts' tokens by their embeddings. Pure.

use ndarray::{Array2, ArrayView2, Axis};

/// A text's tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct Embedded {
    /// One row a token, of length 1.
    states: Array2<f32>,
    /// Whether the token enters the means: special ones do not.
    counts: Vec<bool>,
}

impl Embedded {
    pub(super) fn new(states: ArrayView2<'_, f32>, counts: Vec<bool>) -> Self {
        let mut states = states.to_owned();
        for mut state in states.axis_iter_mut(Axis(0)) {
            let length = state.dot(&state).sqrt();
            if length > 0.0 {
                state /= length;
            }
        }
        Self { states, counts }
    }

    fn is_empty(&self) -> bool {
        !self.counts.contains(&true)
    }
}

/// BERTScore's F1; 0 where a text has no token that counts.
pub(super) fn f1(answer: &Embedded, reference: &Embedded) -> f64 {
    if answer.is_empty() || reference.is_empty() {
        return 0.0;
    }
    let similarity = answer.states.dot(&reference.states.t());
    let precision = mean_of_nearest(similarity.view(), &answer.counts);
    let recall = mean_of_nearest(similarity.t(), &reference.counts);
    let f1 = 2.0 * precision * recall / (precision + recall);
    if f1.is_finite() { f1.clamp(-1.0, 1.0) } else { 0.0 }
}

/// The mean over rows that count of each row's greatest value.
fn mean_of_nearest(similarity: ArrayView2<'_, f32>, counts: &[bool]) -> f64 {
    let nearest = similarity.rows().into_iter().zip(counts).filter(|(_, counts)| **counts);
    let (sum, count) = nearest
        .fold((0.0, 0), |(sum, count), (row, _)| (sum + f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max)), count + 1));
    sum / f64::from(count)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::{Embedded, f1};

    fn embedded(states: Array2<f32>, counts: &[bool]) -> Embedded {
        Embedded::new(states.view(), counts.to_vec())
    }

    #[test]
    fn each_token_is_matched_with_its_nearest_and_lengths_do_not_matter() {
        let answer = embedded(array![[2.0, 0.0], [0.0, 3.0]], &[true, true]);
        let reference = embedded(array![[5.0, 0.0]], &[true]);
        // Precision: one token finds itself, the other is at a right angle. Recall: found.
        assert!((f1(&answer, &reference) - 2.0 * 0.5 * 1.0 / 1.5).abs() < 1e-6);
        assert!((f1(&reference, &answer) - f1(&answer, &reference)).abs() < 1e-6);
        assert!((f1(&answer, &answer) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn special_tokens_do_not_count_but_may_be_matched_with() {
        let answer = embedded(array![[1.0, 0.0], [0.0, 1.0]], &[false, true]);
        let reference = embedded(array![[0.0, 1.0], [1.0, 0.0]], &[false, true]);
        // Either text's one word is nearest to the other's special token.
        assert!((f1(&answer, &reference) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_is_like_nothing() {
        let word = embedded(array![[1.0, 0.0]], &[true]);
        let special = embedded(array![[1.0, 0.0]], &[false]);
        let zero = embedded(array![[0.0, 0.0]], &[true]);
        for (one, other) in [(&word, &special), (&special, &word), (&special, &special), (&zero, &word), (&Embedded::default(), &word)] {
            assert_eq!(f1(one, other), 0.0);
        }
    }
}
