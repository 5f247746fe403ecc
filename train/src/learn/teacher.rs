//! Distillation: what another router says of the training queries is learnt beside what was observed, and in its place where no expert was
//! asked. So a router of words learns from one that reads embeddings.

use model::Bundle;
use ndarray::Array2;

use super::LearnError;
use crate::{router, targets::Targets};

/// Another router, asked about the rows to be learnt from.
#[derive(Debug, Clone)]
pub struct Teacher {
    /// Its predicted scores, `rows x experts`; only differences within a row count.
    pub quality: Array2<f32>,
    /// How much it counts against what was observed, from 0 to 1.
    pub share: f32,
}

impl Teacher {
    /// Asks a bundle, by the names of experts.
    ///
    /// # Errors
    /// The bundle lacks one of the experts, or cannot be run.
    pub fn ask(bundle: Bundle, experts: &[String], texts: &[String], share: f32) -> Result<Self, LearnError> {
        let known: Vec<String> = bundle.manifest.experts.iter().map(|expert| expert.name.clone()).collect();
        let place = |name: &String| known.iter().position(|known| known == name);
        let missing: Vec<String> = experts.iter().filter(|name| place(name).is_none()).cloned().collect();
        if !missing.is_empty() {
            return Err(LearnError::Untaught { missing, known });
        }
        let columns: Vec<usize> = experts.iter().filter_map(place).collect();
        let said = router::load(bundle)?.score_all(texts).map_err(router::ExportError::from)?;
        let quality = Array2::from_shape_fn((said.len(), columns.len()), |(row, column)| said[row].quality[columns[column]]);
        Ok(Self { quality, share })
    }
}

/// What parts learn, and what they are weighed by.
pub(super) struct Lesson {
    pub(super) targets: Targets,
    /// Deviations as they were observed, whatever a teacher says of them.
    pub(super) observed: Array2<f32>,
}

impl Lesson {
    /// `said`: the teacher's predictions as deviations of the same kind as the targets', and how much they count.
    pub(super) fn of(mut targets: Targets, said: Option<(Array2<f32>, f32)>) -> Self {
        let observed = targets.deviation.clone();
        if let Some((said, share)) = said {
            ndarray::Zip::from(&mut targets.deviation).and(&said).for_each(|target, said| {
                *target = if target.is_nan() { *said } else { (1.0 - share) * *target + share * said };
            });
        }
        Self { targets, observed }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::Lesson;
    use crate::{learn::tests::data, targets::Targets};

    #[test]
    fn a_teacher_is_heard_by_its_share_and_alone_where_nothing_was_observed() {
        let mut targets = Targets::of(&data(2, 1.0));
        targets.deviation = array![[0.5, -0.5, f32::NAN], [f32::NAN, f32::NAN, f32::NAN]];
        let lesson = Lesson::of(targets, Some((array![[0.0, -0.25, 0.25], [0.3, -0.1, -0.2]], 0.5)));
        assert_eq!(lesson.targets.deviation, array![[0.25, -0.375, 0.25], [0.3, -0.1, -0.2]]);
        assert!(lesson.observed[[0, 2]].is_nan() && lesson.observed[[0, 0]] == 0.5, "the parts are weighed by what was observed");
    }
}
