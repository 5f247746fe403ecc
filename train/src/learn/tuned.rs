//! The fine-tuned encoder among the candidates. Fine-tuning takes minutes, so it is not done for every fold: one fold is held out, and all
//! candidates are then compared on that fold alone.

use ndarray::{Array2, Axis};

use super::{LearnError, LearnOptions};
use crate::{
    bert::{Bert, BertOptions, BertProgress},
    data::Data,
    encoder::Encoder,
    folds::{folds, held_out},
    mix::FOLDS,
    neural,
    parts::{PartKind, PartOptions, PartSpec},
    recipe::LossChoice,
    targets::Targets,
};

/// What an encoder says of a fold that it was not fine-tuned on.
pub(super) struct Tuned {
    /// Rows of the fold.
    pub(super) held: Vec<usize>,
    /// `rows x experts` for all rows, 0 outside the fold.
    pub(super) deviation: Array2<f32>,
}

/// How the encoder is fine-tuned.
pub(super) fn options(options: &LearnOptions) -> BertOptions {
    let loss = match options.loss {
        LossChoice::SoftLabel => neural::Loss::SoftLabel { temperature: options.temperature },
        LossChoice::Score | LossChoice::Auto => neural::Loss::Score,
    };
    BertOptions { loss, seed: options.seed, ..BertOptions::default() }
}

/// The part that a fine-tuned encoder is.
pub(super) fn spec(seed: u64) -> PartSpec {
    PartKind::Bert.with(PartOptions { seed, ..PartOptions::default() })
}

impl Tuned {
    /// Fine-tunes on all folds but one.
    pub(super) fn of(
        encoder: &Encoder,
        data: &Data,
        targets: &Targets,
        learn: &LearnOptions,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, LearnError> {
        let (held, rest) = held_out(&folds(&data.groups, FOLDS, learn.seed), 0);
        let bert = fit(encoder, &data.select(&rest), &targets.select(&rest), learn, progress)?;
        let texts: Vec<String> = held.iter().map(|row| data.texts[*row].clone()).collect();
        let found = bert.predict(&texts)? - &targets.expert_means;
        let mut deviation = Array2::zeros(targets.deviation.dim());
        for (row, found) in held.iter().zip(found.axis_iter(Axis(0))) {
            deviation.row_mut(*row).assign(&found);
        }
        Ok(Self { held, deviation })
    }

    /// What was observed, NaN outside the fold.
    pub(super) fn observed(&self, targets: &Targets) -> Array2<f32> {
        let mut observed = Array2::from_elem(targets.deviation.dim(), f32::NAN);
        for row in &self.held {
            observed.row_mut(*row).assign(&targets.deviation.row(*row));
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
