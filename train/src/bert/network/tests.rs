//! Gradients of every parameter, and texts that do not mind their company.

use ndarray::{Array2, array};

use super::{Network, Shard};
use crate::{
    bert::{ground::Ground, words::Words},
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
    let mut network = Network::new(&weights, 0, &objective, &mut Random::new(4, 0));
    let ground = Ground::Words(Words::new(&weights));
    let shard = Shard { rows: &[0, 1, 2], ids: IDS.to_vec() };
    let found = network.learn(&ground, &shard, &objective, 3, (0.0, &mut Random::new(0, 0)));
    let loss = |network: &Network| objective.loss_and_gradient(&[0, 1, 2], &network.predict(&ground, &shard)).0;
    assert!((found.loss - loss(&network)).abs() < 1e-6);
    assert_eq!(network.names().len(), weights.config.tensors().len() - 1 + 2, "all but the table of words, and the last layer");
    let mut random = Random::new(6, 0);
    for (name, parameter) in network.names().clone() {
        let gradient = &found.gradients[parameter];
        // A key's bias adds the same to all scores of a token, which the softmax takes away again.
        assert!(gradient.iter().any(|value| value.abs() > 1e-6) || name.ends_with("key.bias"), "{name}: nothing but zeros");
        for _ in 0..4 {
            let place = (random.below(gradient.nrows()), random.below(gradient.ncols()));
            let value = network.parameters[parameter][place];
            let mut moved = |step: f32| {
                network.parameters[parameter][place] = value + step;
                let loss = loss(&network);
                network.parameters[parameter][place] = value;
                loss
            };
            let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((gradient[place] - expected).abs() < 2e-3 * (1.0 + expected.abs()), "{name}{place:?}: {} {expected}", gradient[place]);
        }
    }
}

#[test]
fn words_that_were_met_have_gradients_and_no_others() {
    let (weights, objective) = (fixtures::tiny(2), objective());
    let network = Network::new(&weights, 0, &objective, &mut Random::new(4, 0));
    let shard = Shard { rows: &[0, 1, 2], ids: IDS.to_vec() };
    let found = network.learn(&Ground::Words(Words::new(&weights)), &shard, &objective, 3, (0.0, &mut Random::new(0, 0)));
    assert_eq!(found.words.keys().copied().collect::<Vec<u32>>(), [2, 3, 5, 6, 7, 9, 11, 12, 13]);
    for (word, gradient) in &found.words {
        let at = [*word as usize, 3];
        let moved = |step: f32| {
            let mut tensors = network.tensors(&Ground::Words(Words::new(&weights)));
            tensors.get_mut(WORDS).unwrap()[at.as_slice()] += step;
            let ground = Ground::Words(Words::new(&weights.replaced(tensors).unwrap()));
            objective.loss_and_gradient(&[0, 1, 2], &network.predict(&ground, &shard)).0
        };
        let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        assert!((gradient[3] - expected).abs() < 2e-3 * (1.0 + expected.abs()), "{word}: {} {expected}", gradient[3]);
    }
}

#[test]
fn what_runs_together_does_not_matter() {
    let (weights, objective) = (fixtures::tiny(2), objective());
    let network = Network::new(&weights, 0, &objective, &mut Random::new(4, 0));
    let ground = Ground::Words(Words::new(&weights));
    let together = Shard { rows: &[0, 1, 2], ids: IDS.to_vec() };
    for (row, ids) in network.predict(&ground, &together).rows().into_iter().zip(IDS) {
        let alone = network.predict(&ground, &Shard { rows: &[0], ids: vec![ids] });
        assert!((&alone.row(0) - &row).iter().all(|error| error.abs() < 1e-5));
    }
}

#[test]
fn layers_that_do_not_learn_are_computed_once_and_have_no_gradient() {
    let (weights, objective) = (fixtures::tiny(2), objective());
    let ids: Vec<Vec<i64>> = IDS.iter().map(|ids| ids.to_vec()).collect();
    let shard = Shard { rows: &[0, 1, 2], ids: IDS.to_vec() };
    let learn = |first: usize| {
        let network = Network::new(&weights, first, &objective, &mut Random::new(4, 0));
        let ground = Ground::new(&weights, first, &ids);
        let found = network.learn(&ground, &shard, &objective, 3, (0.0, &mut Random::new(0, 0)));
        (network, ground, found)
    };
    let ((whole, _, of_whole), (upper, ground, of_upper)) = (learn(0), learn(1));
    assert!((of_whole.loss - of_upper.loss).abs() < 1e-3, "{} {}", of_whole.loss, of_upper.loss);
    assert!(of_upper.words.is_empty() && upper.names().keys().all(|name| !name.contains("layer.0") && !name.starts_with("embeddings")));
    for (name, at) in upper.names() {
        let apart = &of_upper.gradients[*at] - &of_whole.gradients[whole.names()[name]];
        assert!(apart.iter().all(|error| error.abs() < 5e-3), "{name}: {apart}");
    }
    let tensors = weights.replaced(upper.tensors(&ground)).unwrap();
    assert_eq!(tensors.tensor("encoder.layer.0.output.dense.bias"), weights.tensor("encoder.layer.0.output.dense.bias"));
}
