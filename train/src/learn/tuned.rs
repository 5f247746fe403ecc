//! The fine-tuned encoder among the candidates. Fine-tuning takes minutes, so it is done for as many of the folds as fit into the time
//! that may be spent, and all candidates are then compared on those folds alone.

use ndarray::{Array2, Axis};

use super::{LearnError, LearnOptions};
use crate::{
    bert::{Bert, BertOptions, BertProgress},
    data::Data,
    encoder::Encoder,
    folds::{folds, held_out},
    mix::FOLDS,
    neural,
    parts::PartSpec,
    recipe::{LossChoice, RouterKind},
    targets::Targets,
    views::Views,
};

/// `Auto` does not fine-tune on fewer rows: an encoder learns little from them that words do not tell.
const LEAST_ROWS: usize = 1_000;
/// Tokens that go forth and back through one layer in a minute, on two cores of a common server.
const TOKENS_A_MINUTE: f64 = 0.8e6;
/// Layers that learn where `Auto` fine-tunes, of MiniLM's six: half the time of all, so that twice as many folds can be compared.
const AUTO_LAYERS: usize = 3;

/// What parts that stand on a fine-tuned encoder say of folds that it was not fine-tuned on.
pub(super) struct Tuned {
    /// Rows of these folds.
    pub(super) held: Vec<usize>,
    /// In this order.
    pub(super) specs: Vec<PartSpec>,
    /// `rows x experts` of each part, for all rows; 0 outside the folds.
    pub(super) deviations: Vec<Array2<f32>>,
}

/// How the encoder is fine-tuned.
pub(super) fn options(options: &LearnOptions) -> BertOptions {
    let loss = match options.loss {
        LossChoice::SoftLabel => neural::Loss::SoftLabel { temperature: options.temperature },
        LossChoice::Score | LossChoice::Auto => neural::Loss::Score,
    };
    let layers = if options.kind == RouterKind::Auto { AUTO_LAYERS } else { usize::MAX };
    BertOptions { loss, layers, seed: options.seed, ..BertOptions::default() }
}

/// On how many folds the encoder is fine-tuned; 0: not at all. By the work there is and not by the clock, so that the same input gives the
/// same router however busy the machine.
///
/// # Errors
/// The tokenizer's complaint.
pub(super) fn folds_in_time(encoder: &Encoder, data: &Data, learn: &LearnOptions, progress: &dyn Fn(&str)) -> Result<usize, LearnError> {
    if learn.kind == RouterKind::Bert {
        return Ok(1);
    }
    if learn.kind != RouterKind::Auto || learn.tune_minutes <= 0.0 || data.rows() < LEAST_ROWS {
        return Ok(0);
    }
    let tokens: usize = encoder.token_ids(&data.texts)?.iter().map(Vec::len).sum();
    let options = options(learn);
    let layers = options.layers.min(encoder.weights().config.layers);
    let once = (tokens * layers * options.epochs) as f64 / TOKENS_A_MINUTE;
    let folds = folds_within(learn.tune_minutes, once);
    if folds == 0 {
        progress(&format!(
            "the encoder is not fine-tuned: that may take {:.0} minutes, and needs about {:.0}",
            learn.tune_minutes,
            1.8 * once
        ));
    }
    Ok(folds)
}

/// Fine-tuning on all rows takes `once`; every fold is fine-tuned on all rows but its own, and the encoder that is kept on all.
fn folds_within(minutes: f64, once: f64) -> usize {
    let share = 1.0 - 1.0 / FOLDS as f64;
    ((minutes / once.max(1e-9) - 1.0) / share).clamp(0.0, FOLDS as f64) as usize
}

impl Tuned {
    /// Fine-tunes on all folds but one, for the first so many folds; fits the other parts on what that makes of the rows.
    pub(super) fn of(
        encoder: &Encoder,
        (data, views, targets): (&Data, &Views, &Targets),
        (specs, count): (&[PartSpec], usize),
        learn: &LearnOptions,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, LearnError> {
        let fold_of = folds(&data.groups, FOLDS, learn.seed);
        let mut tuned =
            Self { held: Vec::new(), specs: specs.to_vec(), deviations: vec![Array2::zeros(targets.deviation.dim()); specs.len()] };
        for fold in 0..count {
            let (held, rest) = held_out(&fold_of, fold);
            let bert = fit(encoder, &data.select(&rest), &targets.select(&rest), learn, &|what| {
                progress(&format!("without fold {} of {count}: {what}", fold + 1));
            })?;
            let parts = (specs, Views { embedding: Some(bert.embeddings(&data.texts)?), ..views.clone() });
            tuned.add(&bert, parts, targets, &data.groups, (&held, &rest));
            tuned.held.extend(held);
        }
        tuned.held.sort_unstable();
        Ok(tuned)
    }

    fn add(
        &mut self,
        bert: &Bert,
        (specs, views): (&[PartSpec], Views),
        targets: &Targets,
        groups: &[String],
        (held, rest): (&[usize], &[usize]),
    ) {
        let (learnt_from, unseen) = (views.select(rest), views.select(held));
        let targets = targets.select(rest);
        let groups: Vec<String> = rest.iter().map(|row| groups[*row].clone()).collect();
        for (spec, deviations) in specs.iter().zip(&mut self.deviations) {
            let part = if spec.kind.is_tuned() { Box::new(bert.part()) } else { spec.fit(&learnt_from, &targets, &groups) };
            for (row, said) in held.iter().zip(part.predict(&unseen).axis_iter(Axis(0))) {
                deviations.row_mut(*row).assign(&said);
            }
        }
    }

    /// What was observed, NaN outside the folds.
    pub(super) fn observed(&self, all: &Array2<f32>) -> Array2<f32> {
        let mut observed = Array2::from_elem(all.dim(), f32::NAN);
        for row in &self.held {
            observed.row_mut(*row).assign(&all.row(*row));
        }
        observed
    }
}

/// Fine-tunes on all of these rows.
pub(super) fn fit(
    encoder: &Encoder,
    data: &Data,
    targets: &Targets,
    learn: &LearnOptions,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Bert, LearnError> {
    let told = |at: BertProgress| {
        let BertProgress { step, steps, epoch, loss, held_out_loss } = at;
        if step % (steps / 10).max(1) == 0 {
            let held = held_out_loss.map_or(String::new(), |loss| format!(", {loss:.4} on rows held out"));
            progress(&format!("fine-tuning, pass {epoch}: step {step} of {steps}, loss {loss:.4}{held}"));
        }
    };
    Ok(Bert::fit(encoder, &data.texts, targets, &data.groups, &options(learn), &told)?)
}

#[cfg(test)]
mod tests {
    use super::folds_within;

    #[test]
    fn as_many_folds_as_fit_beside_the_encoder_that_is_kept() {
        for (minutes, once, expected) in [(10.0, 1.0, 5), (10.0, 2.0, 5), (10.0, 3.0, 2), (10.0, 5.0, 1), (10.0, 5.6, 0), (10.0, 60.0, 0)] {
            assert_eq!(folds_within(minutes, once), expected, "{minutes} {once}");
        }
    }
}
