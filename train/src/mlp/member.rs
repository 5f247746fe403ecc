//! One small network of an MLP: trained on all rows but a few, which say when to stop.

use candle_core::{Device, Result, Tensor, Var};
use ndarray::{Array1, Array2, Axis};

use super::MlpOptions;
use crate::{
    folds::{folds, held_out},
    neural::{
        head::Affine,
        objective::Objective,
        ops::add_bias,
        optimiser::{AdamW, Parameter, Schedule, gradients},
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
    try_train(x, objective, held, options).expect("shapes fit by construction, and nothing else can fail on a processor")
}

fn try_train(x: &Array2<f32>, objective: &Objective, held: &[usize], options: &MlpOptions) -> Result<Layers> {
    let mut random = Random::new(options.seed, 1 + held.first().map_or(0, |row| *row as u64));
    let network = Network::new(x.ncols(), options.hidden.max(1), objective, &mut random)?;
    let mut rows: Vec<usize> = {
        let mut is_held = vec![false; x.nrows()];
        held.iter().for_each(|row| is_held[*row] = true);
        (0..x.nrows()).filter(|row| !is_held[*row]).collect()
    };
    let steps = rows.len().div_ceil(options.batch.max(1)) * options.epochs;
    let schedule = Schedule { peak: options.learning_rate, warm_up: steps / 10, steps };
    let mut optimiser = AdamW::new(network.parameters(), schedule, options.weight_decay);
    let held_x = x.select(Axis(0), held);
    let mut best: Option<(f32, Layers)> = None;
    let mut since = 0;
    for _ in 0..options.epochs {
        random.shuffle(&mut rows);
        for batch in rows.chunks(options.batch.max(1)) {
            let outputs = network.forward(&tensor(&x.select(Axis(0), batch))?, options.dropout, &mut random)?;
            let (_, gradient) = objective.loss_and_gradient(batch, &matrix(&outputs)?);
            let loss = (&outputs * tensor(&gradient)?)?.sum_all()?;
            optimiser.step(&gradients(&loss, &network.variables())?)?;
        }
        if held.is_empty() {
            continue;
        }
        let layers = network.layers()?;
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
    best.map_or_else(|| network.layers(), |(_, layers)| Ok(layers))
}

impl Layers {
    fn outputs(&self, x: &Array2<f32>) -> Array2<f32> {
        self.last.apply(self.hidden.apply(x.view()).mapv_into(|value| value.max(0.0)).view())
    }
}

struct Network {
    hidden: [Var; 2],
    last: [Var; 2],
}

impl Network {
    fn new(inputs: usize, hidden: usize, objective: &Objective, random: &mut Random) -> Result<Self> {
        let mut weight = |inputs: usize, outputs: usize, size: f32| {
            let values: Vec<f32> = (0..inputs * outputs).map(|_| size * random.normal()).collect();
            Var::from_tensor(&Tensor::from_vec(values, (inputs, outputs), &Device::Cpu)?)
        };
        let first = weight(inputs, hidden, (2.0 / inputs as f32).sqrt())?;
        let last = weight(hidden, objective.outputs(), 0.1 / (hidden as f32).sqrt())?;
        let bias = Var::from_tensor(&Tensor::from_vec(objective.initial_bias().to_vec(), objective.outputs(), &Device::Cpu)?)?;
        let zeros = Var::zeros(hidden, candle_core::DType::F32, &Device::Cpu)?;
        Ok(Self { hidden: [first, zeros], last: [last, bias] })
    }

    fn variables(&self) -> Vec<Var> {
        self.hidden.iter().chain(&self.last).cloned().collect()
    }

    fn parameters(&self) -> Vec<Parameter> {
        let parameter = |variable: Var| Parameter { decays: variable.rank() > 1, variable, rate: 1.0 };
        self.variables().into_iter().map(parameter).collect()
    }

    fn forward(&self, x: &Tensor, dropout: f32, random: &mut Random) -> Result<Tensor> {
        let hidden = add_bias(&x.matmul(&self.hidden[0])?, &self.hidden[1])?.relu()?;
        let hidden = crate::neural::ops::dropout(&hidden, dropout, random)?;
        add_bias(&hidden.matmul(&self.last[0])?, &self.last[1])
    }

    fn layers(&self) -> Result<Layers> {
        let affine = |[weight, bias]: &[Var; 2]| -> Result<Affine> {
            Ok(Affine { weight: matrix(weight)?, bias: Array1::from(bias.to_vec1::<f32>()?) })
        };
        Ok(Layers { hidden: affine(&self.hidden)?, last: affine(&self.last)? })
    }
}

fn tensor(matrix: &Array2<f32>) -> Result<Tensor> {
    Tensor::from_vec(matrix.iter().copied().collect::<Vec<f32>>(), matrix.dim(), &Device::Cpu)
}

fn matrix(tensor: &Tensor) -> Result<Array2<f32>> {
    let shape = tensor.dims2()?;
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Array2::from_shape_vec(shape, values).map_err(candle_core::Error::wrap)
}
