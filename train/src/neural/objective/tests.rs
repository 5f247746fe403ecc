//! Losses by hand and by finite differences.

use ndarray::{Array1, Array2, Axis, array};

use super::{Guides, Loss, Objective, Targets};
use crate::{random::Random, score::soft_label};

const GUIDES: Guides = Guides { labels: 0.7, others: 0.4 };

const LOSSES: [Loss; 2] = [Loss::Score, Loss::SoftLabel { temperature: 4.0 }];

/// Three experts, two others, two labels, token counts; with holes.
fn targets() -> Targets {
    let missing = f32::NAN;
    Targets {
        expert_means: array![0.6, 0.5, 0.1],
        deviation: array![[0.2, -0.1, -0.1], [missing, 0.3, -0.3], [-0.4, 0.4, missing], [missing, missing, missing]],
        others: array![[0.3, -0.3], [0.0, 0.1], [-0.2, 0.0], [0.5, 0.1]],
        labels: array![[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]],
        label_names: vec!["a".into(), "b".into()],
        output_tokens: array![[10.0, 200.0, missing], [30.0, missing, missing], [20.0, 100.0, missing], [missing, 150.0, missing]],
    }
}

#[test]
fn gradients_are_those_of_finite_differences_and_what_is_missing_has_none() {
    let mut random = Random::new(3, 0);
    for loss in LOSSES {
        let objective = Objective::new(&targets(), loss, GUIDES);
        assert_eq!(objective.outputs(), 3 + 3 + 2 + 2);
        let rows = [0, 1, 2, 3];
        let outputs = Array2::from_shape_simple_fn((4, objective.outputs()), || random.normal());
        let (_, gradient) = objective.loss_and_gradient(&rows, &outputs);
        for (place, gradient) in gradient.indexed_iter() {
            let moved = |step: f32| {
                let mut outputs = outputs.clone();
                outputs[place] += step;
                objective.loss_and_gradient(&rows, &outputs).0
            };
            let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((gradient - expected).abs() < 1e-3, "{loss} {place:?}: {gradient} {expected}");
        }
        assert!(gradient.row(3).iter().take(3).all(|value| *value == 0.0), "{loss}: a row without scores");
        assert_eq!((gradient[[1, 0]], gradient[[1, 4]], gradient[[2, 8]]), (0.0, 0.0, 0.0), "{loss}: what is missing");
        assert!(gradient[[1, 1]] != 0.0 && gradient[[1, 3]] != 0.0 && gradient[[2, 4]] != 0.0, "{loss}: what is there");
    }
}

#[test]
fn soft_labels_are_those_of_the_scores() {
    let targets = targets();
    let objective = Objective::new(&targets, LOSSES[1], GUIDES);
    let label = soft_label((&targets.deviation.row(0) + &targets.expert_means).view(), 4.0);
    assert!((&objective.wanted.row(0) - &label).iter().all(|error| error.abs() < 1e-6));
    let mut one = targets.clone();
    one.deviation[[2, 0]] = f32::NAN;
    let objective = Objective::new(&one, LOSSES[1], GUIDES);
    assert!(objective.wanted.row(2).iter().all(|share| share.is_nan()), "one score says nothing of who is best");
    assert!(Objective::new(&one, Loss::Score, GUIDES).wanted[[2, 1]] > 0.0, "but something of that expert");
}

#[test]
fn a_perfect_output_gives_back_deviations_and_tokens() {
    let targets = targets();
    for loss in LOSSES {
        let objective = Objective::new(&targets, loss, GUIDES);
        // A network whose input is the row's number, one-hot, and whose last layer says what is right.
        let mut weight = Array2::zeros((4, objective.outputs()));
        for expert in 0..3 {
            weight[[0, expert]] = match loss {
                Loss::Score => objective.wanted[[0, expert]],
                Loss::SoftLabel { .. } => objective.wanted[[0, expert]].ln(),
            };
        }
        let (wanted, _, _) = objective.tokens.as_ref().unwrap();
        weight[[0, 4]] = wanted[[0, 1]];
        let head = objective.head(&weight, &Array1::zeros(objective.outputs()));
        let error = &head.deviation(Array2::eye(4).view()).row(0) - &targets.deviation.row(0);
        let shift = error[0];
        assert!(error.iter().all(|error| (error - shift).abs() < 1e-5), "{loss}: {error}");
        assert!((head.output_tokens(Array2::eye(4).view()).unwrap()[[0, 1]] - 200.0).abs() < 1e-3);
        let least = objective.score_loss(&[0], &weight.select(Axis(0), &[0]));
        let entropy: f32 = match loss {
            Loss::Score => 0.0,
            Loss::SoftLabel { .. } => objective.wanted.row(0).iter().map(|share| -share * share.ln()).sum(),
        };
        assert!((least - entropy).abs() < 1e-5, "{loss}: {least} {entropy}");
    }
}

#[test]
fn before_training_a_network_says_what_all_rows_have_in_common() {
    let targets = targets();
    for loss in LOSSES {
        let objective = Objective::new(&targets, loss, GUIDES);
        let head = objective.head(&Array2::zeros((1, objective.outputs())), &objective.initial_bias());
        let scores = &head.deviation(Array2::zeros((1, 1)).view()).row(0) + &targets.expert_means;
        let expected = match loss {
            Loss::Score => targets.expert_means.clone(),
            Loss::SoftLabel { temperature } => {
                let mean = |expert: usize, rows: &[usize]| {
                    rows.iter().map(|row| objective.wanted[[*row, expert]]).sum::<f32>() / rows.len() as f32
                };
                array![mean(0, &[0, 2]), mean(1, &[0, 1, 2]), mean(2, &[0, 1])].mapv(|share| share.ln() / temperature)
            }
        };
        let error = scores - expected;
        assert!(error.iter().all(|value| (value - error[0]).abs() < 1e-5), "{loss}: {error}");
        assert_eq!(head.output_tokens(Array2::zeros((1, 1)).view()).unwrap().row(0).to_vec(), [20.0, 150.0, 0.0]);
    }
}
