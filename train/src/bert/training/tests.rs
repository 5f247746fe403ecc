//! Batches, rows held out, and a rule that only a trained encoder can know.

use ndarray::Array2;

use super::{held_rows, shuffled, train};
use crate::{
    bert::BertOptions,
    encoder::weights::fixtures,
    neural::{
        Loss,
        objective::{Guides, Objective},
    },
    random::Random,
    targets::Targets,
};

#[test]
fn each_row_is_met_once_in_batches_of_like_length() {
    let mut random = Random::new(1, 0);
    let ids: Vec<Vec<i64>> = (0..500).map(|_| vec![1; 1 + random.below(60)]).collect();
    let rows: Vec<usize> = (0..500).filter(|row| row % 5 != 0).collect();
    let batches = shuffled(&rows, &ids, 8, 3, 0);
    let mut met: Vec<usize> = batches.iter().flatten().copied().collect();
    met.sort_unstable();
    assert_eq!(met, rows);
    assert_ne!(batches, shuffled(&rows, &ids, 8, 3, 1), "another pass, another order");
    assert_eq!(batches, shuffled(&rows, &ids, 8, 3, 0), "the same seed, the same order");
    let padded: usize = batches.iter().map(|batch| batch.len() * batch.iter().map(|row| ids[*row].len()).max().unwrap()).sum();
    let tokens: usize = rows.iter().map(|row| ids[*row].len()).sum();
    assert!(padded < tokens * 13 / 10, "{padded} {tokens}");
}

#[test]
fn groups_are_held_out_whole_and_few_rows_not_at_all() {
    let groups: Vec<String> = (0..900).map(|row| (row / 3).to_string()).collect();
    let (held, rows) = held_rows(&groups, &BertOptions { held_out: 0.1, ..BertOptions::default() });
    assert_eq!((held.len(), rows.len()), (90, 810));
    assert!(held.iter().all(|row| rows.iter().all(|other| groups[*row] != groups[*other])));
    assert_eq!(held_rows(&groups[..300], &BertOptions::default()), (Vec::new(), (0..300).collect()));
    assert_eq!(held_rows(&groups, &BertOptions { held_out: 0.0, ..BertOptions::default() }).0, [0_usize; 0]);
}

/// The first expert is right where most words of a text are of one half of the vocabulary, which only the table of words can tell.
fn rule(count: usize, seed: u64) -> (Vec<Vec<i64>>, Targets, Vec<String>) {
    let texts = fixtures::texts(count, 12, seed);
    let ids: Vec<Vec<i64>> = fixtures::encoder(1, false).token_ids(&texts).unwrap();
    let right = |ids: &Vec<i64>| ids.iter().filter(|id| (4..30).contains(*id)).count() * 2 > ids.len() - 2;
    let deviation = Array2::from_shape_fn((count, 2), |(row, expert)| {
        let sign = if right(&ids[row]) { 0.5 } else { -0.5 };
        if expert == 0 { sign } else { -sign }
    });
    let targets = Targets {
        expert_means: ndarray::array![0.5, 0.5],
        deviation,
        others: Array2::zeros((count, 0)),
        labels: Array2::zeros((count, 0)),
        label_names: Vec::new(),
        output_tokens: Array2::from_elem((count, 2), f32::NAN),
    };
    (ids, targets, (0..count).map(|row| row.to_string()).collect())
}

fn options() -> BertOptions {
    BertOptions {
        layers: 2,
        epochs: 8,
        batch: 16,
        learning_rate: 1e-2,
        head_rate: 1.0,
        held_out: 0.2,
        dropout: 0.0,
        ..BertOptions::default()
    }
}

#[test]
fn the_encoder_learns_a_rule_and_a_seed_repeats_it_on_any_number_of_cores() {
    let (ids, targets, groups) = rule(2_000, 1);
    let weights = fixtures::tiny(1);
    let objective = Objective::new(&targets, Loss::Score, Guides { labels: 0.0, others: 0.0 });
    let steps = std::sync::Mutex::new(Vec::new());
    let learn =
        |options: &BertOptions| train(&weights, &ids, &objective, &groups, options, &|progress| steps.lock().unwrap().push(progress));
    let found = learn(&options());
    let least = found.losses.iter().copied().fold(f32::INFINITY, f32::min);
    assert!(least < 0.3, "the loss of knowing nothing is 0.5, this is {:?}", found.losses);
    let steps = steps.into_inner().unwrap();
    assert_eq!((steps[0].step, steps[0].epoch, steps[0].held_out_loss), (1, 1, None));
    assert!(steps.iter().all(|step| step.step <= step.steps) && steps.last().unwrap().held_out_loss.is_some());
    assert_ne!(found.weights.sha256, weights.sha256);

    let short = BertOptions { epochs: 1, ..options() };
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let quiet = |options: &BertOptions| train(&weights, &ids, &objective, &groups, options, &|_| {});
    let (alone, together) = (one.install(|| quiet(&short)), quiet(&short));
    assert_eq!(alone.weights.sha256, together.weights.sha256);
    assert_ne!(quiet(&BertOptions { seed: 1, ..short }).weights.sha256, together.weights.sha256);
}

#[test]
fn training_ends_when_nothing_more_is_gained_and_the_best_is_kept() {
    let (ids, mut targets, groups) = rule(600, 2);
    // Nothing to learn: every pass past the first few makes it worse.
    let mut random = Random::new(9, 0);
    for mut row in targets.deviation.rows_mut() {
        let sign = if random.below(2) == 0 { 0.5 } else { -0.5 };
        (row[0], row[1]) = (sign, -sign);
    }
    let objective = Objective::new(&targets, Loss::Score, Guides { labels: 0.0, others: 0.0 });
    let options = BertOptions { epochs: 40, patience: 2, ..options() };
    let found = train(&fixtures::tiny(1), &ids, &objective, &groups, &options, &|_| {});
    assert!(found.losses.len() < 40, "{:?}", found.losses);
    let best = found.losses.iter().copied().fold(f32::INFINITY, f32::min);
    assert!(best <= *found.losses.last().unwrap() && found.losses.len() - found.losses.iter().position(|loss| *loss == best).unwrap() == 3);
}
