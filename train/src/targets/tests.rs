use ndarray::{Array2, Axis, array};

use super::{around_means, best_single, drawn_in, labels, soft_labels, two_way};
use crate::random::Random;

#[test]
fn an_expert_scored_on_easy_queries_only_is_not_thereby_better() {
    let (a, b, missing) = (0.0, 0.2, f32::NAN);
    let score = array![[a, b, 0.1], [0.5 + a, 0.5 + b, missing], [0.7 + a, 0.7 + b, missing], [0.1 + a, missing, 0.2]];
    let (means, deviation) = two_way(&score);
    assert!((means[1] - means[0] - 0.2).abs() < 1e-3 && (means[2] - means[0] - 0.1).abs() < 1e-3, "{means}");
    assert!(deviation.iter().all(|value| value.is_nan() || value.abs() < 1e-3), "{deviation}");
}

#[test]
fn with_nothing_missing_means_are_means() {
    let (means, deviation) = two_way(&array![[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]);
    assert!((means[0] - 2.0 / 3.0).abs() < 1e-6 && (means[1] - 1.0 / 3.0).abs() < 1e-6, "{means}");
    assert!(deviation.sum_axis(Axis(1)).iter().all(|sum| sum.abs() < 1e-6));
}

#[test]
fn soft_labels_leave_out_what_is_missing_and_rows_with_a_single_score() {
    let labels = soft_labels(&array![[1.0, 0.9, f32::NAN], [1.0, f32::NAN, f32::NAN]], 10.0);
    // Two of three share two thirds.
    let share = 2.0 / 3.0 / (1.0 + (-1.0_f32).exp());
    assert!((labels[[0, 0]] - share).abs() < 1e-6 && labels[[0, 2]].is_nan() && labels.row(1).iter().all(|share| share.is_nan()));
    let (means, deviation) = around_means(&labels);
    assert!((means[0] - share).abs() < 1e-6 && deviation[[0, 0]].abs() < 1e-6 && deviation[[1, 0]].is_nan());
}

#[test]
fn an_expert_that_was_lucky_on_a_few_rows_is_not_the_best() {
    let mut random = Random::new(4, 0);
    let chances = [0.7, 0.5, 0.0];
    let score = Array2::from_shape_fn((300, 3), |(row, expert)| match (expert, row % 75) {
        (2, 0) => 1.0,
        (2, _) => f32::NAN,
        _ => f32::from(u8::from(random.uniform() < chances[expert])),
    });
    let (means, deviation) = two_way(&score);
    assert!(means[2] > means[0] && means[0] > means[1], "as they stand: {means}");
    let drawn = drawn_in(means.clone(), &deviation);
    assert_eq!((drawn[0], drawn[1]), (means[0], means[1]));
    assert!(drawn[2] > drawn[1] && drawn[2] < drawn[0], "{drawn}");
    assert_eq!(best_single(&score), Some(0));
}

#[test]
fn only_fewer_rows_than_others_have_and_than_make_sure_draw_a_mean_in() {
    let drawn = |score: &Array2<f32>| {
        let (means, deviation) = two_way(score);
        (means.clone(), drawn_in(means, &deviation))
    };
    let (means, same) = drawn(&array![[1.0, 0.0], [1.0, 1.0]]);
    assert_eq!(means, same, "both have two");
    let mut many = Array2::from_shape_fn((300, 2), |(row, expert)| (row % 3 + expert) as f32);
    many.slice_mut(ndarray::s![100.., 1]).fill(f32::NAN);
    let (means, same) = drawn(&many);
    assert_eq!(means, same, "a hundred are enough");
    many[[0, 1]] = f32::NAN;
    let (means, less) = drawn(&many);
    assert!(less[1] < means[1] && less[0] == means[0], "{means} {less}");
}

#[test]
fn among_nearly_equal_experts_a_lucky_one_is_not_the_best_either() {
    let right = |row: usize, expert: usize| f32::from(u8::from((row + expert).is_multiple_of(2)));
    let scored = |rows: usize| {
        Array2::from_shape_fn((300, 3), |(row, expert)| match expert {
            2 if row < rows => 1.0,
            2 => f32::NAN,
            _ => right(row, expert),
        })
    };
    assert_eq!([4, 49, 50].map(|rows| best_single(&scored(rows)) == Some(2)), [false, false, true]);
    assert_eq!(best_single(&Array2::from_elem((3, 2), f32::NAN)), None);
}

#[test]
fn equal_experts_have_equal_mean_shares_whoever_was_asked_beside_them() {
    // All four are asked on half of the rows, the last two are not on the others.
    let score = Array2::from_shape_fn((40, 4), |(row, expert)| {
        let right = f32::from(u8::from((row / 2 + expert).is_multiple_of(4)));
        if row % 2 == 1 && expert >= 2 { f32::NAN } else { right }
    });
    let equal = Array2::from_shape_fn((40, 4), |(row, expert)| if score[[row, expert]].is_nan() { f32::NAN } else { 0.5 });
    let means = around_means(&soft_labels(&equal, 10.0)).0;
    assert!(means.iter().all(|mean| (mean - 0.25).abs() < 1e-6), "{means}");
    let labels = soft_labels(&score, 10.0);
    let sums = labels.mapv(|share| if share.is_nan() { 0.0 } else { share }).sum_axis(Axis(1));
    assert!(sums.iter().enumerate().all(|(row, sum)| (sum - [1.0, 0.5][row % 2]).abs() < 1e-6), "{sums}");
}

#[test]
fn rare_labels_join_their_family_and_lone_ones_are_dropped() {
    let mut names = vec!["m:law".to_owned(); 20];
    names.extend(vec!["m:art".to_owned(); 6]);
    names.extend(vec!["m:sea".to_owned(); 7]);
    names.extend(vec!["rare".to_owned(); 3]);
    names.push(String::new());
    let (matrix, found) = labels(&names);
    assert_eq!(found, ["m", "m:law"]);
    assert_eq!(matrix.sum_axis(Axis(0)).to_vec(), [13.0, 20.0]);
    assert_eq!(labels(&vec!["one".to_owned(); 30]).1.len(), 0);
}
