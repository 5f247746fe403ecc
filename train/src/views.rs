//! What parts see of a text: hashed words weighted by rarity, their leading singular directions, the surface, and an encoder's embedding
//! where there is one. Made without looking at any outcome.

use std::collections::HashMap;

use model::lexical::{Features, HASH_VERSION, HashRules, Lexicon, SURFACE, surface};
use ndarray::{Array2, Axis};
use rayon::prelude::*;

use crate::{linear, sparse::Sparse, svd};

/// How the space of words is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WordOptions {
    /// Buckets, as a power of two.
    pub bits: u8,
    /// Rows kept at most, those in most texts first: bounds the bundle and the memory of who serves it.
    pub max_rows: usize,
    /// Singular directions.
    pub rank: usize,
    /// Repeats the directions.
    pub seed: u64,
}

impl Default for WordOptions {
    fn default() -> Self {
        Self { bits: 18, max_rows: 60_000, rank: 128, seed: 0 }
    }
}

/// A fitted space of words.
#[derive(Debug, Clone)]
pub struct WordSpace {
    /// Which hashes have a row.
    pub rules: HashRules,
    /// Rarity of each row.
    pub rarity: Vec<f32>,
    /// `rows x rank`, rounded to 16 bits as the bundle has it.
    pub projection: Array2<f32>,
}

/// Texts as matrices, a row each.
#[derive(Debug, Clone)]
pub struct Views {
    /// Weighted by rarity, rows of length 1.
    pub words: Sparse,
    /// Directions of words, rows of length 1.
    pub directions: Array2<f32>,
    /// As `model::lexical::surface` has it.
    pub surface: Array2<f32>,
    /// Rows of length 1.
    pub embedding: Option<Array2<f32>>,
}

impl WordSpace {
    /// Looks at all texts: which hashes are in two or more, how rare they are, and which directions texts differ in.
    #[must_use]
    pub fn fit(texts: &[String], options: &WordOptions) -> Self {
        let open = HashRules { version: HASH_VERSION, bits: options.bits, rows: Vec::new(), ngrams: 2 };
        let mut counts = HashMap::<u32, u32>::new();
        for features in features(&open, texts) {
            features.rows.iter().for_each(|row| *counts.entry(*row).or_default() += 1);
        }
        let mut kept: Vec<(u32, u32)> = counts.into_iter().filter(|(_, count)| *count >= 2).collect();
        kept.sort_unstable_by_key(|(hash, count)| (std::cmp::Reverse(*count), *hash));
        kept.truncate(options.max_rows);
        kept.sort_unstable();
        if kept.is_empty() {
            // Texts without a word in common: one row that nothing has, so that the graph has a table.
            kept.push((0, 2));
        }
        let total = texts.len() as f32;
        let rarity = kept.iter().map(|(_, count)| ((1.0 + total) / (1.0 + *count as f32)).ln() + 1.0).collect();
        let rules = HashRules { rows: kept.into_iter().map(|(hash, _)| hash).collect(), ..open };
        let mut space = Self { rules, rarity, projection: Array2::zeros((0, 0)) };
        let words = space.words(texts);
        let vectors = svd::right_vectors(&words, options.rank, options.seed);
        space.projection = rounded(if vectors.ncols() == 0 { Array2::zeros((words.columns(), 1)) } else { vectors });
        space
    }

    /// What parts see of these texts.
    #[must_use]
    pub fn views(&self, texts: &[String]) -> Views {
        let words = self.words(texts);
        let mut directions = words.dot(self.projection.view());
        linear::normalise_rows(&mut directions);
        let numbers: Vec<f32> = texts.par_iter().flat_map_iter(|text| surface(text)).collect();
        let surface = Array2::from_shape_vec((texts.len(), SURFACE), numbers).expect("as many numbers for each text");
        Views { words, directions, surface, embedding: None }
    }

    fn words(&self, texts: &[String]) -> Sparse {
        let mut all = features(&self.rules, texts);
        all.par_iter_mut().for_each(|features| {
            let mut length = 0.0;
            for (row, weight) in features.rows.iter().zip(&mut features.weights) {
                *weight *= self.rarity[*row as usize];
                length += *weight * *weight;
            }
            let scale = 1.0 / length.sqrt().max(1e-9);
            features.weights.iter_mut().for_each(|weight| *weight *= scale);
        });
        Sparse::from_rows(self.rarity.len(), all.iter().map(|features| (&features.rows[..], &features.weights[..])))
    }
}

impl Views {
    /// Some of the rows.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            words: self.words.select(rows),
            directions: self.directions.select(Axis(0), rows),
            surface: self.surface.select(Axis(0), rows),
            embedding: self.embedding.as_ref().map(|embedding| embedding.select(Axis(0), rows)),
        }
    }

    /// How many texts.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.surface.nrows()
    }
}

fn features(rules: &HashRules, texts: &[String]) -> Vec<Features> {
    let lexicon = Lexicon::new(rules);
    texts
        .par_iter()
        .map(|text| {
            let mut features = Features::default();
            lexicon.features(text, &mut features);
            features
        })
        .collect()
}

/// To the nearest 16-bit floats: what is trained on is what is served.
#[must_use]
pub fn rounded(matrix: Array2<f32>) -> Array2<f32> {
    matrix.mapv_into(|value| half::f16::from_f32(value).to_f32())
}

#[cfg(test)]
mod tests {
    use super::{WordOptions, WordSpace};

    fn texts() -> Vec<String> {
        ["the cat sat", "the cat ran", "a dog ran home", "a dog sat", "lonely"].map(str::to_owned).to_vec()
    }

    #[test]
    fn words_of_one_text_only_have_no_row_and_rows_have_length_one() {
        let space = WordSpace::fit(&texts(), &WordOptions { rank: 3, ..WordOptions::default() });
        // the, cat, a, dog, ran, sat; the cat, a dog.
        assert_eq!(space.rarity.len(), 8);
        let views = space.views(&texts());
        let length = |row: usize| views.words.row(row).1.iter().map(|value| value * value).sum::<f32>();
        assert!((length(0) - 1.0).abs() < 1e-5 && length(4) == 0.0);
        let close = |one: usize, other: usize| views.directions.row(one).dot(&views.directions.row(other));
        assert!(close(0, 1) > close(0, 2));
    }

    #[test]
    fn the_most_common_rows_are_kept_and_texts_without_common_words_are_no_trouble() {
        let space = WordSpace::fit(&texts(), &WordOptions { rank: 2, max_rows: 2, ..WordOptions::default() });
        assert_eq!(space.rarity.len(), 2);
        let space = WordSpace::fit(&["x".into(), "y".into()], &WordOptions::default());
        assert_eq!(space.views(&["x".into()]).directions.dim(), (1, space.projection.ncols()));
    }
}
