//! What a network's outputs are held against, row by row, with the gradient of the loss by each output.
//!
//! Outputs stand side by side: the experts' scores; their output tokens where the data has them; and, to guide training only, scores of
//! experts that are not to be chosen, and labels. The last two are dropped when training is done. A missing outcome has no gradient.

use ndarray::{Array1, Array2, ArrayView1, ArrayViewMut1, Axis, Zip, s};

use super::{
    Loss,
    head::{Affine, Head},
};
use crate::{score::soft_label, targets::Targets};

/// How much the loss of output tokens counts, against that of scores: they must not shape what scores are predicted from.
const TOKENS_WEIGHT: f32 = 0.1;

/// How much what is only there to guide counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Guides {
    /// Of labels.
    pub(crate) labels: f32,
    /// Of experts that are not to be chosen.
    pub(crate) others: f32,
}

/// Targets in the units of a network.
#[derive(Debug, Clone)]
pub(crate) struct Objective {
    loss: Loss,
    guides: Guides,
    expert_means: Array1<f32>,
    /// Shares, or deviations in units of their spread; NaN where missing.
    wanted: Array2<f32>,
    /// Of deviations.
    spread: f32,
    /// In units of each expert's spread, and those.
    tokens: Option<(Array2<f32>, Array1<f32>, Array1<f32>)>,
    others: Array2<f32>,
    labels: Array2<f32>,
}

impl Objective {
    pub(crate) fn new(targets: &Targets, loss: Loss, guides: Guides) -> Self {
        let spread = spread(targets.deviation.iter().copied());
        let wanted = match loss {
            Loss::Score => &targets.deviation / spread,
            Loss::SoftLabel { temperature } => shares(targets, temperature),
        };
        let others = &targets.others / self::spread(targets.others.iter().copied().filter(|value| *value != 0.0));
        Self {
            loss,
            guides,
            expert_means: targets.expert_means.clone(),
            wanted,
            spread,
            tokens: standardised(&targets.output_tokens),
            others,
            labels: targets.labels.clone(),
        }
    }

    /// How many experts a router chooses from.
    pub(crate) fn experts(&self) -> usize {
        self.wanted.ncols()
    }

    /// Width of the network's output.
    pub(crate) fn outputs(&self) -> usize {
        self.others_end() + self.labels.ncols()
    }

    fn tokens_end(&self) -> usize {
        self.experts() * if self.tokens.is_some() { 2 } else { 1 }
    }

    fn others_end(&self) -> usize {
        self.tokens_end() + self.others.ncols()
    }

    /// What outputs are before anything is learnt: what all rows have in common.
    pub(crate) fn initial_bias(&self) -> Array1<f32> {
        let mut bias = Array1::zeros(self.outputs());
        if let Loss::SoftLabel { .. } = self.loss {
            for (bias, shares) in bias.iter_mut().zip(self.wanted.columns()) {
                let there: Vec<f32> = shares.iter().copied().filter(|share| !share.is_nan()).collect();
                *bias = (there.iter().sum::<f32>() / there.len().max(1) as f32).max(1e-4).ln();
            }
        }
        bias
    }

    /// The mean loss over these rows, and its gradient by each output.
    pub(crate) fn loss_and_gradient(&self, rows: &[usize], outputs: &Array2<f32>) -> (f32, Array2<f32>) {
        let mut gradient = Array2::zeros(outputs.dim());
        let mut total = 0.0_f64;
        for ((row, outputs), mut gradient) in rows.iter().zip(outputs.rows()).zip(gradient.rows_mut()) {
            total += f64::from(self.row(*row, outputs, &mut gradient));
        }
        let scale = 1.0 / rows.len().max(1) as f32;
        gradient *= scale;
        (total as f32 * scale, gradient)
    }

    /// The mean loss of scores alone, by which training is stopped.
    pub(crate) fn score_loss(&self, rows: &[usize], outputs: &Array2<f32>) -> f32 {
        let mut gradient = Array1::zeros(self.experts());
        let loss = |(row, outputs): (&usize, ArrayView1<'_, f32>)| {
            f64::from(self.scores(*row, outputs.slice(s![..self.experts()]), gradient.view_mut()))
        };
        (rows.iter().zip(outputs.rows()).map(loss).sum::<f64>() / rows.len().max(1) as f64) as f32
    }

    fn row(&self, row: usize, outputs: ArrayView1<'_, f32>, gradient: &mut ArrayViewMut1<'_, f32>) -> f32 {
        let (experts, tokens, others) = (self.experts(), self.tokens_end(), self.others_end());
        let mut loss = self.scores(row, outputs.slice(s![..experts]), gradient.slice_mut(s![..experts]));
        if let Some((wanted, _, _)) = &self.tokens {
            let weight = TOKENS_WEIGHT / experts as f32;
            loss += squares(weight, outputs.slice(s![experts..tokens]), wanted.row(row), gradient.slice_mut(s![experts..tokens]));
        }
        if others > tokens {
            let weight = self.guides.others / (others - tokens) as f32;
            loss += squares(weight, outputs.slice(s![tokens..others]), self.others.row(row), gradient.slice_mut(s![tokens..others]));
        }
        if self.labels.row(row).iter().any(|label| *label > 0.0) {
            let (outputs, gradient) = (outputs.slice(s![others..]), gradient.slice_mut(s![others..]));
            loss += cross_entropy(self.guides.labels, outputs, self.labels.row(row), gradient);
        }
        loss
    }

    fn scores(&self, row: usize, outputs: ArrayView1<'_, f32>, gradient: ArrayViewMut1<'_, f32>) -> f32 {
        let wanted = self.wanted.row(row);
        match self.loss {
            Loss::Score => squares(1.0 / self.experts() as f32, outputs, wanted, gradient),
            Loss::SoftLabel { .. } => cross_entropy(1.0, outputs, wanted, gradient),
        }
    }

    /// The network's last layer, `inputs x outputs`, in units of the score.
    pub(crate) fn head(&self, weight: &Array2<f32>, bias: &Array1<f32>) -> Head {
        let experts = self.experts();
        let (weights, biases) = (weight.slice(s![.., ..experts]), bias.slice(s![..experts]));
        let mut deviation = match self.loss {
            Loss::Score => Affine { weight: &weights * self.spread, bias: &biases * self.spread },
            Loss::SoftLabel { temperature } => Affine { weight: &weights / temperature, bias: &biases / temperature - &self.expert_means },
        };
        // What all experts have in common moves no choice.
        let common = deviation.weight.mean_axis(Axis(1)).unwrap_or_default();
        deviation.weight -= &common.insert_axis(Axis(1));
        deviation.bias -= deviation.bias.mean().unwrap_or_default();
        let output_tokens = self.tokens.as_ref().map(|(_, mean, spread)| {
            let columns = experts..self.tokens_end();
            Affine { weight: &weight.slice(s![.., columns.clone()]) * spread, bias: &bias.slice(s![columns]) * spread + mean }
        });
        Head { deviation, output_tokens }
    }
}

/// Half the squares of the errors that are there.
fn squares(weight: f32, outputs: ArrayView1<'_, f32>, wanted: ArrayView1<'_, f32>, gradient: ArrayViewMut1<'_, f32>) -> f32 {
    let mut loss = 0.0;
    Zip::from(gradient).and(outputs).and(wanted).for_each(|gradient, output, wanted| {
        if !wanted.is_nan() {
            let error = output - wanted;
            loss += 0.5 * weight * error * error;
            *gradient = weight * error;
        }
    });
    loss
}

/// Of shares that sum to 1, over those that are there.
fn cross_entropy(weight: f32, outputs: ArrayView1<'_, f32>, wanted: ArrayView1<'_, f32>, mut gradient: ArrayViewMut1<'_, f32>) -> f32 {
    let there = || (0..outputs.len()).filter(|at| !wanted[*at].is_nan());
    let most = there().map(|at| outputs[at]).fold(f32::NEG_INFINITY, f32::max);
    let log_total = there().map(|at| (outputs[at] - most).exp()).sum::<f32>().ln() + most;
    let mut loss = 0.0;
    for at in there() {
        let log_share = outputs[at] - log_total;
        loss -= weight * wanted[at] * log_share;
        gradient[at] = weight * (log_share.exp() - wanted[at]);
    }
    loss
}

/// Soft labels; NaN where an outcome is missing, and in rows with one score only, which say nothing of who is best. A row's ease moves no
/// share, so that means and deviations give the label of the scores themselves; of an expert whose mean was drawn in, of scores moved as far.
fn shares(targets: &Targets, temperature: f32) -> Array2<f32> {
    let mut shares = &targets.deviation + &targets.expert_means;
    for mut row in shares.rows_mut() {
        let label = soft_label(row.view(), temperature);
        let several = row.iter().filter(|score| !score.is_nan()).count() > 1;
        Zip::from(&mut row).and(&label).for_each(|share, label| *share = if several && !share.is_nan() { *label } else { f32::NAN });
    }
    shares
}

/// Root of the mean square, of what is there.
fn spread(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values
        .filter(|value| !value.is_nan())
        .fold((0.0_f64, 0_u64), |(sum, count), value| (sum + f64::from(value) * f64::from(value), count + 1));
    let spread = (sum / count.max(1) as f64).sqrt() as f32;
    if spread > 1e-6 { spread } else { 1.0 }
}

/// Columns with mean 0 and spread 1, with mean and spread of each; none where there is nothing.
fn standardised(tokens: &Array2<f32>) -> Option<(Array2<f32>, Array1<f32>, Array1<f32>)> {
    if tokens.iter().all(|value| value.is_nan()) {
        return None;
    }
    let present = |column: ArrayView1<'_, f32>| column.iter().copied().filter(|value| !value.is_nan()).collect::<Vec<_>>();
    let mean = |values: Vec<f32>| values.iter().map(|value| f64::from(*value)).sum::<f64>() as f32 / values.len().max(1) as f32;
    let means = Array1::from_iter(tokens.columns().into_iter().map(|column| mean(present(column))));
    let centred = tokens - &means;
    let spreads = Array1::from_iter(centred.columns().into_iter().map(|column| spread(column.iter().copied())));
    Some((centred / &spreads, means, spreads))
}

#[cfg(test)]
mod tests;
