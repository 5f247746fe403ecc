//! One small network of an MLP: trained on all rows but a few, which say when to stop.

use ndarray::{Array1, Array2, Axis, Zip};

use super::MlpOptions;
use crate::{
    folds::{folds, held_out},
    neural::{
        head::Affine,
        objective::Objective,
        ops::{affine, affine_back, dropout},
        optimiser::{AdamW, Manner, Schedule},
    },
    random::Random,
};

/// Fewer rows than these say too little about when to stop.
const LEAST_HELD: usize = 20;

/// What was learnt.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    pub(super) hidden: Affine,
    pub(super) last: Affine,
}

/// For each member the rows it does not see; empty where there are too few to spare.
pub(super) fn held_out_rows(groups: &[String], options: &MlpOptions) -> Vec<Vec<usize>> {
    let members = options.members.max(1);
    // One member alone spares a tenth.
    let parts = if members == 1 { 10 } else { members.max(5) };
    let fold_of = folds(groups, parts, options.seed);
    let rows = |member: usize| held_out(&fold_of, member % parts).0;
    (0..members).map(rows).map(|rows| if rows.len() < LEAST_HELD { Vec::new() } else { rows }).collect()
}

/// Trains one.
pub(super) fn train(x: &Array2<f32>, objective: &Objective, held: &[usize], options: &MlpOptions) -> Layers {
    let mut random = Random::new(options.seed, 1 + held.first().map_or(0, |row| *row as u64));
    let mut network = Network::new(x.ncols(), options.hidden.max(1), objective, &mut random);
    let mut rows: Vec<usize> = {
        let mut is_held = vec![false; x.nrows()];
        held.iter().for_each(|row| is_held[*row] = true);
        (0..x.nrows()).filter(|row| !is_held[*row]).collect()
    };
    let steps = rows.len().div_ceil(options.batch.max(1)) * options.epochs;
    let schedule = Schedule { peak: options.learning_rate, warm_up: steps / 10, steps };
    let mut optimiser = AdamW::new(Network::manners(), &network.parameters, schedule, options.weight_decay);
    let held_x = x.select(Axis(0), held);
    let mut best: Option<(f32, Layers)> = None;
    let mut since = 0;
    for _ in 0..options.epochs {
        random.shuffle(&mut rows);
        for batch in rows.chunks(options.batch.max(1)) {
            let gradients = network.gradients(&x.select(Axis(0), batch), batch, objective, options.dropout, &mut random);
            optimiser.step(&mut network.parameters, &gradients);
        }
        if held.is_empty() {
            continue;
        }
        let layers = network.layers();
        let loss = objective.score_loss(held, &layers.outputs(&held_x));
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            best = Some((loss, layers));
            since = 0;
        } else {
            since += 1;
            if since >= options.patience.max(1) {
                break;
            }
        }
    }
    best.map_or_else(|| network.layers(), |(_, layers)| layers)
}

impl Layers {
    fn outputs(&self, x: &Array2<f32>) -> Array2<f32> {
        self.last.apply(self.hidden.apply(x.view()).mapv_into(|value| value.max(0.0)).view())
    }
}

struct Network {
    /// Weight and bias of the hidden layer, then of the last.
    parameters: Vec<Array2<f32>>,
}

impl Network {
    fn new(inputs: usize, hidden: usize, objective: &Objective, random: &mut Random) -> Self {
        let mut weight =
            |inputs: usize, outputs: usize, size: f32| Array2::from_shape_simple_fn((inputs, outputs), || size * random.normal());
        let first = weight(inputs, hidden, (2.0 / inputs as f32).sqrt());
        let last = weight(hidden, objective.outputs(), 0.1 / (hidden as f32).sqrt());
        let bias = |values: Array1<f32>| values.insert_axis(Axis(0));
        Self { parameters: vec![first, bias(Array1::zeros(hidden)), last, bias(objective.initial_bias())] }
    }

    fn manners() -> Vec<Manner> {
        [true, false, true, false].map(|decays| Manner { rate: 1.0, decays }).to_vec()
    }

    fn gradients(&self, x: &Array2<f32>, rows: &[usize], objective: &Objective, share: f32, random: &mut Random) -> Vec<Array2<f32>> {
        let [first, first_bias, last, last_bias] = self.parameters.as_slice() else { unreachable!("two layers have four parameters") };
        let before = affine(x, first, first_bias);
        let factors = dropout(before.dim(), share, random);
        let hidden = before.mapv(|value| value.max(0.0)) * &factors;
        let (_, gradient) = objective.loss_and_gradient(rows, &affine(&hidden, last, last_bias));
        let mut found: Vec<Array2<f32>> = self.parameters.iter().map(|values| Array2::zeros(values.dim())).collect();
        let (of_first, of_last) = found.split_at_mut(2);
        let [of_weight, of_bias] = of_last else { unreachable!("as above") };
        let mut of_hidden = affine_back(&hidden, last, &gradient, of_weight, of_bias);
        Zip::from(&mut of_hidden).and(&before).and(&factors).for_each(|gradient, before, factor| {
            *gradient *= if *before > 0.0 { *factor } else { 0.0 };
        });
        let [of_weight, of_bias] = of_first else { unreachable!("as above") };
        affine_back(x, first, &of_hidden, of_weight, of_bias);
        found
    }

    fn layers(&self) -> Layers {
        let layer = |at: usize| Affine { weight: self.parameters[at].clone(), bias: self.parameters[at + 1].row(0).to_owned() };
        Layers { hidden: layer(0), last: layer(2) }
    }
}
