//! AdamW with warm-up and linear decay, and a bound on the gradient's length.

use std::ops::Range;

use ndarray::Array2;
use rayon::prelude::*;

/// Of the moving averages of the gradient and of its square.
const BETA: (f32, f32) = (0.9, 0.999);
const EPSILON: f32 = 1e-8;
/// Longer gradients are cut to this length: one odd batch must not undo an epoch.
const MAX_LENGTH: f32 = 1.0;

/// How a parameter is learnt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// How fast, against the schedule's rate: what starts at random may learn faster than what starts trained.
    pub(crate) rate: f32,
    /// Biases and scales are not drawn towards zero.
    pub(crate) decays: bool,
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
    manners: Vec<Manner>,
    moments: Vec<Moments>,
    schedule: Schedule,
    weight_decay: f32,
    step: usize,
}

impl AdamW {
    /// For parameters of these sizes.
    pub(crate) fn new(manners: Vec<Manner>, parameters: &[Array2<f32>], schedule: Schedule, weight_decay: f32) -> Self {
        let moments = parameters.iter().map(|parameter| Moments::zeros(parameter.len())).collect();
        Self { manners, moments, schedule, weight_decay, step: 0 }
    }

    /// Moves every parameter once. What this step does to a parameter of rate 1 that decays is handed back, for those who keep
    /// parameters of their own.
    pub(crate) fn step(&mut self, parameters: &mut [Array2<f32>], gradients: &[Array2<f32>]) -> Move {
        let rate = self.schedule.rate(self.step);
        self.step += 1;
        // In order, so that the sum does not depend on the number of cores.
        let squares: Vec<f32> = gradients.par_iter().map(|gradient| gradient.iter().map(|g| g * g).sum()).collect();
        let cut = (MAX_LENGTH / squares.iter().sum::<f32>().sqrt().max(1e-12)).min(1.0);
        let moved = Move { cut, first: 1.0, second: 1.0, rate, decay: rate * self.weight_decay }.at_step(self.step);
        parameters.par_iter_mut().zip(&mut self.moments).zip(&self.manners).zip(gradients).for_each(
            |(((parameter, moments), manner), gradient)| {
                let decay = if manner.decays { moved.decay * manner.rate } else { 0.0 };
                let moved = Move { rate: moved.rate * manner.rate, decay, ..moved };
                let values = parameter.as_slice_mut().expect("parameters are laid out row by row");
                let (first, second) = moments.slices(0..values.len());
                moved.apply(values, first, second, gradient.as_slice().expect("as the parameters"));
            },
        );
        moved
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
    use ndarray::array;

    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_zero() {
        let schedule = Schedule { peak: 1.0, warm_up: 2, steps: 6 };
        let rates: Vec<f32> = (0..8).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
    }

    #[test]
    fn the_least_point_of_a_bowl_is_found() {
        let mut parameters = vec![array![[3.0, -2.0]], array![[7.0]]];
        let manners = vec![Manner { rate: 1.0, decays: false }, Manner { rate: 0.0, decays: true }];
        let mut optimiser = AdamW::new(manners, &parameters, Schedule { peak: 0.2, warm_up: 5, steps: 300 }, 0.1);
        for _ in 0..300 {
            let bowl = array![[parameters[0][[0, 0]] - 1.0, 10.0 * (parameters[0][[0, 1]] - 0.5)]];
            optimiser.step(&mut parameters, &[bowl, array![[1.0]]]);
        }
        assert!((&parameters[0] - &array![[1.0, 0.5]]).iter().all(|error| error.abs() < 1e-2), "{}", parameters[0]);
        assert_eq!(parameters[1], array![[7.0]], "of rate 0");
    }
}
