//! AdamW with warm-up and linear decay, and a bound on the gradient's length.

use candle_core::{Result, Tensor, Var};
use rayon::prelude::*;

/// Of the moving averages of the gradient and of its square.
const BETA: (f32, f32) = (0.9, 0.999);
const EPSILON: f32 = 1e-8;
/// Longer gradients are cut to this length: one odd batch must not undo an epoch.
const MAX_LENGTH: f32 = 1.0;

/// Something that is learnt.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub(crate) variable: Var,
    /// How fast, against the schedule's rate: what starts at random may learn faster than what starts trained.
    pub(crate) rate: f32,
    /// Biases and scales are not drawn towards zero.
    pub(crate) decays: bool,
}

/// One gradient for each parameter; none where it had no part in the loss.
pub(crate) type Gradients = Vec<Option<Vec<f32>>>;

/// The gradient of a scalar by each variable.
pub(crate) fn gradients(loss: &Tensor, variables: &[Var]) -> Result<Gradients> {
    let store = loss.backward()?;
    let flat = |variable: &Var| store.get(variable).map(|gradient| gradient.flatten_all()?.to_vec1::<f32>()).transpose();
    variables.iter().map(flat).collect()
}

/// Learning rate over the steps: up, then down, both linear.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) peak: f32,
    pub(crate) warm_up: usize,
    pub(crate) steps: usize,
}

impl Schedule {
    fn rate(&self, step: usize) -> f32 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f32 / self.warm_up as f32;
        }
        self.peak * self.steps.saturating_sub(step) as f32 / self.steps.saturating_sub(self.warm_up).max(1) as f32
    }
}

/// The optimiser with its memory.
#[derive(Debug)]
pub(crate) struct AdamW {
    parameters: Vec<Parameter>,
    averages: Vec<(Vec<f32>, Vec<f32>)>,
    schedule: Schedule,
    weight_decay: f32,
    step: usize,
}

impl AdamW {
    pub(crate) fn new(parameters: Vec<Parameter>, schedule: Schedule, weight_decay: f32) -> Self {
        let zeros = |parameter: &Parameter| vec![0.0; parameter.variable.elem_count()];
        let averages = parameters.iter().map(|parameter| (zeros(parameter), zeros(parameter))).collect();
        Self { parameters, averages, schedule, weight_decay, step: 0 }
    }

    /// Moves every parameter once.
    pub(crate) fn step(&mut self, gradients: &Gradients) -> Result<()> {
        let rate = self.schedule.rate(self.step);
        self.step += 1;
        let squares: f32 = gradients.par_iter().flatten().map(|gradient| gradient.iter().map(|g| g * g).sum::<f32>()).sum();
        let cut = (MAX_LENGTH / squares.sqrt().max(1e-12)).min(1.0);
        let correct = |beta: f32| 1.0 / (1.0 - beta.powi(self.step as i32));
        let moved = Move { cut, first: correct(BETA.0), second: correct(BETA.1) };
        let weight_decay = self.weight_decay;
        self.parameters.par_iter().zip(&mut self.averages).zip(gradients).try_for_each(|((parameter, averages), gradient)| {
            let Some(gradient) = gradient else { return Ok(()) };
            let rate = rate * parameter.rate;
            let decay = if parameter.decays { rate * weight_decay } else { 0.0 };
            let mut values = parameter.variable.flatten_all()?.to_vec1::<f32>()?;
            moved.apply(&mut values, averages, gradient, rate, decay);
            parameter.variable.set(&Tensor::from_vec(values, parameter.variable.shape(), parameter.variable.device())?)
        })
    }
}

struct Move {
    cut: f32,
    first: f32,
    second: f32,
}

impl Move {
    fn apply(&self, values: &mut [f32], averages: &mut (Vec<f32>, Vec<f32>), gradient: &[f32], rate: f32, decay: f32) {
        let (first, second) = averages;
        for (((value, first), second), gradient) in values.iter_mut().zip(first).zip(second).zip(gradient) {
            let gradient = gradient * self.cut;
            *first = BETA.0 * *first + (1.0 - BETA.0) * gradient;
            *second = BETA.1 * *second + (1.0 - BETA.1) * gradient * gradient;
            let direction = *first * self.first / ((*second * self.second).sqrt() + EPSILON);
            *value -= rate * direction + decay * *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_zero() {
        let schedule = Schedule { peak: 1.0, warm_up: 2, steps: 6 };
        let rates: Vec<f32> = (0..8).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
    }

    #[test]
    fn the_least_point_of_a_bowl_is_found_and_what_has_no_gradient_stays() {
        let variable = |values: &[f32]| Var::new(values, &Device::Cpu).unwrap();
        let (bowl, still) = (variable(&[3.0, -2.0]), variable(&[7.0]));
        let parameters = [&bowl, &still].map(|variable| Parameter { variable: variable.clone(), rate: 1.0, decays: false }).to_vec();
        let mut optimiser = AdamW::new(parameters, Schedule { peak: 0.2, warm_up: 5, steps: 300 }, 0.1);
        for _ in 0..300 {
            let values = bowl.to_vec1::<f32>().unwrap();
            let gradient = vec![values[0] - 1.0, 10.0 * (values[1] - 0.5)];
            optimiser.step(&vec![Some(gradient), None]).unwrap();
        }
        let values = bowl.to_vec1::<f32>().unwrap();
        assert!((values[0] - 1.0).abs() < 1e-2 && (values[1] - 0.5).abs() < 1e-2, "{values:?}");
        assert_eq!(still.to_vec1::<f32>().unwrap(), [7.0]);
    }
}
