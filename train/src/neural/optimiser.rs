//! AdamW with warm-up and linear decay, and a bound on the gradient's length.

use std::ops::Range;

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

/// Moving averages of gradients and of their squares.
#[derive(Debug)]
pub(crate) struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moments {
    pub(crate) fn zeros(count: usize) -> Self {
        Self { first: vec![0.0; count], second: vec![0.0; count] }
    }

    /// Of some of the numbers.
    pub(crate) fn slices(&mut self, range: Range<usize>) -> (&mut [f32], &mut [f32]) {
        (&mut self.first[range.clone()], &mut self.second[range])
    }
}

/// The optimiser with its memory.
#[derive(Debug)]
pub(crate) struct AdamW {
    parameters: Vec<Parameter>,
    moments: Vec<Moments>,
    schedule: Schedule,
    weight_decay: f32,
    step: usize,
}

impl AdamW {
    pub(crate) fn new(parameters: Vec<Parameter>, schedule: Schedule, weight_decay: f32) -> Self {
        let moments = parameters.iter().map(|parameter| Moments::zeros(parameter.variable.elem_count())).collect();
        Self { parameters, moments, schedule, weight_decay, step: 0 }
    }

    /// Moves every parameter once. What this step does to a parameter of rate 1 that decays is handed back, for those who keep
    /// parameters of their own.
    pub(crate) fn step(&mut self, gradients: &Gradients) -> Result<Move> {
        let rate = self.schedule.rate(self.step);
        self.step += 1;
        let squares: f32 = gradients.par_iter().flatten().map(|gradient| gradient.iter().map(|g| g * g).sum::<f32>()).sum();
        let cut = (MAX_LENGTH / squares.sqrt().max(1e-12)).min(1.0);
        let moved = Move { cut, first: 1.0, second: 1.0, rate, decay: rate * self.weight_decay }.at_step(self.step);
        self.parameters.par_iter().zip(&mut self.moments).zip(gradients).try_for_each(|((parameter, moments), gradient)| {
            let Some(gradient) = gradient else { return Ok(()) };
            let decay = if parameter.decays { moved.decay * parameter.rate } else { 0.0 };
            let moved = Move { rate: moved.rate * parameter.rate, decay, ..moved };
            let mut values = parameter.variable.flatten_all()?.to_vec1::<f32>()?;
            let (first, second) = moments.slices(0..values.len());
            moved.apply(&mut values, first, second, gradient);
            parameter.variable.set(&Tensor::from_vec(values, parameter.variable.shape(), parameter.variable.device())?)
        })?;
        Ok(moved)
    }
}

/// One step, as every number of a parameter takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move {
    cut: f32,
    first: f32,
    second: f32,
    rate: f32,
    decay: f32,
}

impl Move {
    /// The same for a number that is moved for the `step`-th time: averages that began at 0 are still too small then.
    pub(crate) fn at_step(self, step: usize) -> Self {
        let correct = |beta: f32| 1.0 / (1.0 - beta.powi(step.max(1) as i32));
        Self { first: correct(BETA.0), second: correct(BETA.1), ..self }
    }

    pub(crate) fn apply(&self, values: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        for (((value, first), second), gradient) in values.iter_mut().zip(first).zip(second).zip(gradient) {
            let gradient = gradient * self.cut;
            *first = BETA.0 * *first + (1.0 - BETA.0) * gradient;
            *second = BETA.1 * *second + (1.0 - BETA.1) * gradient * gradient;
            let direction = *first * self.first / ((*second * self.second).sqrt() + EPSILON);
            *value -= self.rate * direction + self.decay * *value;
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
