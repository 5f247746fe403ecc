//! Which rows are held out together in cross-validation.

use std::collections::BTreeMap;

use crate::random::Random;

/// A fold for each row; rows of a group are in one fold, folds are of nearly equal size.
#[must_use]
pub fn folds(groups: &[String], count: usize, seed: u64) -> Vec<usize> {
    let mut members = BTreeMap::<&str, Vec<usize>>::new();
    for (row, group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(row);
    }
    let mut order: Vec<Vec<usize>> = members.into_values().collect();
    Random::new(seed, 77).shuffle(&mut order);
    // The largest groups first, each into the fold that has least: no fold is left with too little.
    order.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let mut sizes = vec![0_usize; count.max(1)];
    let mut out = vec![0; groups.len()];
    for rows in order {
        let fold = (0..sizes.len()).min_by_key(|fold| sizes[*fold]).unwrap_or(0);
        sizes[fold] += rows.len();
        rows.into_iter().for_each(|row| out[row] = fold);
    }
    out
}

/// Rows of a fold, and the others.
#[must_use]
pub fn held_out(folds: &[usize], fold: usize) -> (Vec<usize>, Vec<usize>) {
    (0..folds.len()).partition(|row| folds[*row] == fold)
}

#[cfg(test)]
mod tests {
    use super::{folds, held_out};

    #[test]
    fn groups_stay_together_and_folds_are_even() {
        let groups: Vec<String> = (0..100).map(|row| if row < 20 { "large".into() } else { format!("{}", row / 2) }).collect();
        let found = folds(&groups, 4, 1);
        assert_eq!(found, folds(&groups, 4, 1));
        assert_ne!(found, folds(&groups, 4, 2));
        assert!(found[..20].iter().all(|fold| *fold == found[0]));
        assert!((10..50).all(|pair| found[2 * pair] == found[2 * pair + 1]));
        for fold in 0..4 {
            let (out, rest) = held_out(&found, fold);
            assert_eq!((out.len() + rest.len(), out.len()), (100, 25 + out.len() - 25));
            assert!((23..=27).contains(&out.len()), "{}", out.len());
        }
    }
}
