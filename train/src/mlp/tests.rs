//! What a network of one hidden layer must be able to do, and that all of it gets into the graph.

use ndarray::{Array2, array};

use super::{MlpInputs, MlpOptions, MlpPart};
use crate::{
    linear,
    mix::Mixture,
    neural::Loss,
    parts::{Part, PartKind, PartOptions},
    random::Random,
    router::{Meaning, Router, agreement},
    targets::Targets,
    views::{Views, WordOptions, WordSpace},
};

/// Embeddings at random; the first expert is right where the first two numbers have the same sign, which no linear part can tell.
fn exclusive_or(count: usize, seed: u64) -> (Views, Targets) {
    let mut random = Random::new(seed, 0);
    let mut embedding = Array2::from_shape_simple_fn((count, 4), || random.normal());
    linear::normalise_rows(&mut embedding);
    let deviation = Array2::from_shape_fn((count, 2), |(row, expert)| {
        let sign = if embedding[[row, 0]] * embedding[[row, 1]] > 0.0 { 0.5 } else { -0.5 };
        if expert == 0 { sign } else { -sign }
    });
    let texts: Vec<String> = (0..count).map(|row| format!("text {}", row % 7)).collect();
    let mut views = WordSpace::fit(&texts, &WordOptions { rank: 3, ..WordOptions::default() }).views(&texts);
    let output_tokens = Array2::from_shape_fn((count, 2), |(row, expert)| 100.0 + 50.0 * embedding[[row, 2]] * (1.0 + expert as f32));
    views.embedding = Some(embedding);
    let targets = Targets {
        expert_means: array![0.5, 0.5],
        deviation,
        others: Array2::zeros((count, 0)),
        labels: Array2::zeros((count, 0)),
        label_names: Vec::new(),
        output_tokens,
    };
    (views, targets)
}

fn right(part: &MlpPart, views: &Views, targets: &Targets) -> f32 {
    let said = part.predict(views);
    let right = said.rows().into_iter().zip(targets.deviation.rows()).filter(|(said, true_)| (said[0] > said[1]) == (true_[0] > true_[1]));
    right.count() as f32 / views.rows() as f32
}

#[test]
fn it_learns_what_is_not_linear_under_either_loss() {
    let ((views, targets), (others, truth)) = (exclusive_or(1_200, 1), exclusive_or(400, 2));
    for loss in [Loss::Score, Loss::SoftLabel { temperature: 4.0 }] {
        let part = MlpPart::fit(&views, &targets, &[], &MlpOptions { loss, ..MlpOptions::default() });
        let share = right(&part, &others, &truth);
        assert!(share > 0.93, "{loss}: {share}");
        let tokens = part.output_tokens(&others).unwrap();
        let error = (&tokens - &truth.output_tokens).mapv(f32::abs).mean().unwrap();
        assert!(error < 12.0, "{loss}: off by {error} tokens on average, of which spread alone would be 38");
    }
}

#[test]
fn an_expert_with_few_scores_may_join() {
    let ((views, mut targets), (others, truth)) = (exclusive_or(1_200, 1), exclusive_or(400, 2));
    // A third expert, the opposite of the first, scored on a fourth of the rows.
    let column = |(row, expert): (usize, usize)| match expert {
        2 if row % 4 != 0 => f32::NAN,
        2 => targets.deviation[[row, 1]],
        _ => targets.deviation[[row, expert]],
    };
    targets.deviation = Array2::from_shape_fn((1_200, 3), column);
    targets.expert_means = array![0.5, 0.5, 0.5];
    targets.output_tokens = Array2::from_elem((1_200, 3), f32::NAN);
    for loss in [Loss::Score, Loss::SoftLabel { temperature: 4.0 }] {
        let part = MlpPart::fit(&views, &targets, &[], &MlpOptions { loss, ..MlpOptions::default() });
        let said = part.predict(&others);
        let agree =
            said.rows().into_iter().zip(truth.deviation.rows()).filter(|(said, truth)| (said[2] > said[0]) == (truth[1] > truth[0]));
        assert!(agree.count() > 350, "{loss}");
        assert!(part.output_tokens(&others).is_none(), "nothing is known of tokens");
    }
}

#[test]
fn a_seed_repeats_it_and_another_does_not() {
    let (views, targets) = exclusive_or(300, 1);
    let options = MlpOptions { epochs: 3, ..MlpOptions::default() };
    let said = |options: &MlpOptions| MlpPart::fit(&views, &targets, &[], options).predict(&views);
    assert_eq!(said(&options), said(&options));
    assert_ne!(said(&options), said(&MlpOptions { seed: 1, ..options }));
}

#[test]
fn the_graph_says_what_the_part_says_whatever_it_reads() {
    let texts: Vec<String> =
        (0..200).map(|row| format!("say {} and {} of {}", row % 13, row % 7, if row % 2 == 0 { "apples" } else { "pears" })).collect();
    let space = WordSpace::fit(&texts, &WordOptions { rank: 5, ..WordOptions::default() });
    let encoder = crate::encoder::weights::fixtures::encoder(1, false);
    let mut views = space.views(&texts);
    views.embedding = Some(encoder.embed(&texts, &|_, _| {}).unwrap());
    let (_, targets) = exclusive_or(200, 3);
    for (embedding, surface, directions) in [(true, false, false), (false, true, true), (true, true, true)] {
        let mlp = MlpOptions { inputs: MlpInputs { embedding, surface, directions }, epochs: 3, ..MlpOptions::default() };
        let specs = [PartKind::Mlp.with(PartOptions { mlp, ..PartOptions::default() })];
        let mixture = Mixture::fit(&views, &targets, &[], &specs, &[1.0], None);
        let entry =
            |name: &str| model::bundle::ExpertEntry { name: name.into(), mean_score: None, mean_output_tokens: None, mean_seconds: None };
        let router = Router {
            kind: "mlp".into(),
            experts: ["a", "b"].map(entry).to_vec(),
            space: space.clone(),
            meaning: Meaning::Scores,
            favour: ndarray::Array1::zeros(2),
            mixture,
        };
        let nothing = serde_json::Value::Null;
        let bundle = router.bundle(&model::TextRules::default(), Some(&encoder), nothing.clone(), nothing).unwrap();
        let found = agreement(&bundle, &texts, &router.predict(&views)).unwrap();
        assert!(found.most < 1e-4, "{embedding} {surface} {directions}: {found:?}");
    }
}
