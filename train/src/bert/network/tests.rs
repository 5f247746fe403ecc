//! Gradients of every parameter, and the network against the graph it is exported to.

use candle_core::{Device, Tensor};
use ndarray::{Array2, array};

use super::{Network, Shard};
use crate::{
    bert::words::Words,
    encoder::weights::{WORDS, fixtures},
    neural::{
        Loss,
        objective::{Guides, Objective},
    },
    random::Random,
    targets::Targets,
};

fn objective() -> Objective {
    let targets = Targets {
        expert_means: array![0.6, 0.4],
        deviation: array![[0.3, -0.3], [-0.2, 0.2], [0.1, -0.1]],
        others: array![[0.3], [0.1], [-0.2]],
        labels: Array2::zeros((3, 0)),
        label_names: Vec::new(),
        output_tokens: array![[10.0, 20.0], [30.0, f32::NAN], [15.0, 40.0]],
    };
    Objective::new(&targets, Loss::Score, Guides { labels: 0.3, others: 0.3 })
}

const IDS: [&[i64]; 3] = [&[2, 5, 6, 7, 3], &[2, 9, 3], &[2, 5, 5, 11, 12, 13, 3]];

#[test]
fn every_parameter_has_a_gradient_and_it_is_that_of_finite_differences() {
    let (weights, objective) = (fixtures::tiny(2), objective());
    let network = Network::new(&weights, &objective, &mut Random::new(4, 0)).unwrap();
    let words = Words::new(&weights);
    let shard = Shard { rows: &[0, 1, 2], ids: IDS.to_vec() };
    let found = network.learn(&words, &shard, &objective, 3, (0.0, &mut Random::new(0, 0))).unwrap();
    let loss = |network: &Network, words: &Words| objective.loss_and_gradient(&[0, 1, 2], &network.predict(words, &IDS).unwrap()).0;
    assert!((found.loss - loss(&network, &words)).abs() < 1e-6);
    assert_eq!(network.names().count(), weights.config.tensors().len() - 1 + 2, "all but the table of words, and the last layer");
    let mut random = Random::new(6, 0);
    for ((name, variable), gradient) in network.variables.iter().zip(&found.gradients) {
        let gradient = gradient.as_ref().unwrap_or_else(|| panic!("{name} has no gradient"));
        assert!(gradient.iter().any(|value| value.abs() > 1e-9) || name.ends_with("key.bias"), "{name}: nothing but zeros");
        let values = variable.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for _ in 0..4 {
            let at = random.below(values.len());
            let moved = |step: f32| {
                let mut values = values.clone();
                values[at] += step;
                variable.set(&Tensor::from_vec(values, variable.shape(), &Device::Cpu).unwrap()).unwrap();
                loss(&network, &words)
            };
            let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            variable.set(&Tensor::from_vec(values.clone(), variable.shape(), &Device::Cpu).unwrap()).unwrap();
            assert!((gradient[at] - expected).abs() < 2e-3 * (1.0 + expected.abs()), "{name}[{at}]: {} {expected}", gradient[at]);
        }
    }
}

#[test]
fn words_that_were_met_have_gradients_and_no_others() {
    let (weights, objective) = (fixtures::tiny(2), objective());
    let network = Network::new(&weights, &objective, &mut Random::new(4, 0)).unwrap();
    let shard = Shard { rows: &[0, 1, 2], ids: IDS.to_vec() };
    let found = network.learn(&Words::new(&weights), &shard, &objective, 3, (0.0, &mut Random::new(0, 0))).unwrap();
    let (rows, gradients) = found.words;
    // 0 is padding's, whose gradient is nothing.
    assert_eq!(rows, [0, 2, 3, 5, 6, 7, 9, 11, 12, 13]);
    let hidden = weights.config.hidden;
    let table = weights.values(WORDS);
    for (row, gradient) in rows.iter().zip(gradients.chunks_exact(hidden)) {
        let at = 3;
        let moved = |step: f32| {
            let mut table = table.clone();
            table[*row as usize * hidden + at] += step;
            let mut tensors = network.tensors(&Words::new(&weights)).unwrap();
            tensors.insert(WORDS.into(), Tensor::from_vec(table, (60, hidden), &Device::Cpu).unwrap());
            let words = Words::new(&weights.replaced(tensors).unwrap());
            objective.loss_and_gradient(&[0, 1, 2], &network.predict(&words, &IDS).unwrap()).0
        };
        let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        assert!((gradient[at] - expected).abs() < 2e-3 * (1.0 + expected.abs()), "{row}: {} {expected}", gradient[at]);
        assert_eq!(gradient.iter().all(|value| value.abs() < 1e-9), *row == 0, "{row}");
    }
}

#[test]
fn what_runs_together_does_not_matter() {
    let (weights, objective) = (fixtures::tiny(2), objective());
    let network = Network::new(&weights, &objective, &mut Random::new(4, 0)).unwrap();
    let words = Words::new(&weights);
    let together = network.predict(&words, &IDS).unwrap();
    for (row, ids) in together.rows().into_iter().zip(IDS) {
        let alone = network.predict(&words, &[ids]).unwrap();
        assert!((&alone.row(0) - &row).iter().all(|error| error.abs() < 1e-5));
    }
}
