//! The mean of the nearest training texts by embedding: the paper's kNN, and a part of mixtures.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::{GraphViews, Part, PartOptions};
use crate::{
    linear,
    onnx::{Constant, Element, GraphBuilder, Value, int, ints},
    targets::Targets,
    views::{Views, rounded},
};

/// Similarities that one task holds at once: 64 MiB. All queries by all texts would be gigabytes.
const MOST_SIMILARITIES: usize = 1 << 24;

/// Training texts with their values; the answer for a text is the mean over the nearest by cosine.
#[derive(Debug, Clone)]
pub struct Neighbours {
    /// `texts x dimensions`, rows of length 1, rounded to 16 bits.
    keys: Array2<f32>,
    /// `texts x outputs`.
    values: Array2<f32>,
    count: usize,
}

impl Neighbours {
    /// Keeps texts and values. `count` is cut to the number of texts.
    #[must_use]
    pub fn new(keys: ArrayView2<'_, f32>, values: Array2<f32>, count: usize) -> Self {
        Self { keys: rounded(keys.to_owned()), values: rounded(values), count: count.clamp(1, keys.nrows().max(1)) }
    }

    /// `rows x outputs`.
    #[must_use]
    pub fn predict(&self, queries: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut out = Array2::zeros((queries.nrows(), self.values.ncols()));
        let at_once = at_once(self.keys.nrows());
        let tasks: Vec<_> = out.axis_chunks_iter_mut(Axis(0), at_once).zip(queries.axis_chunks_iter(Axis(0), at_once)).collect();
        tasks.into_par_iter().for_each(|(mut out, queries)| {
            let similarity = linear::product(queries, self.keys.t());
            for (mut sum, similarity) in out.rows_mut().into_iter().zip(similarity.rows()) {
                for at in nearest(similarity.as_slice().unwrap_or_default(), self.count) {
                    sum += &self.values.row(at);
                }
                sum /= self.count as f32;
            }
        });
        out
    }

    /// `[batch, outputs]`.
    pub fn export(&self, graph: &mut GraphBuilder, embedding: &Value) -> Value {
        // Kept as dimensions x texts, as the product wants it.
        let keys: Vec<f32> = self.keys.t().iter().copied().collect();
        let keys = graph.constant("neighbour_keys", Constant::f16(&[self.keys.ncols(), self.keys.nrows()], &keys));
        let keys = graph.cast(&keys, Element::F32);
        let similarity = graph.add("MatMul", &[embedding, &keys]);
        let count = graph.integers(&[self.count as i64]);
        let nearest = graph.add_many("TopK", &[&similarity, &count], vec![int("axis", 1), int("sorted", 0)], 2).swap_remove(1);
        let values: Vec<f32> = self.values.iter().copied().collect();
        let table = graph.constant("neighbour_values", Constant::f16(&[self.values.nrows(), self.values.ncols()], &values));
        let gathered = graph.add("Gather", &[&table, &nearest]);
        let gathered = graph.cast(&gathered, Element::F32);
        graph.add_with("ReduceMean", &[&gathered], vec![ints("axes", &[1]), int("keepdims", 0)])
    }
}

/// Queries that one task compares with so many texts: as many as keep the product busy, unless their similarities take too much memory.
fn at_once(texts: usize) -> usize {
    (MOST_SIMILARITIES / texts.max(1)).clamp(1, linear::ROWS_PER_TASK)
}

/// Places of the `count` largest values; of equal ones the first.
fn nearest(similarity: &[f32], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..similarity.len()).collect();
    let order = |one: &usize, other: &usize| similarity[*other].total_cmp(&similarity[*one]).then(one.cmp(other));
    if count < places.len() {
        places.select_nth_unstable_by(count, order);
        places.truncate(count);
    }
    places.sort_unstable();
    places
}

/// Deviations of the nearest texts.
pub struct NeighboursPart {
    neighbours: Neighbours,
}

impl NeighboursPart {
    /// A missing outcome counts as no deviation.
    #[must_use]
    pub fn fit(views: &Views, targets: &Targets, options: &PartOptions) -> Self {
        let keys = views.embedding.as_ref().expect("the caller gives an embedding to parts that need one");
        Self { neighbours: Neighbours::new(keys.view(), targets.filled(), options.neighbours) }
    }
}

impl Part for NeighboursPart {
    fn predict(&self, views: &Views) -> Array2<f32> {
        self.neighbours.predict(views.embedding.as_ref().expect("as in training").view())
    }

    fn export(&self, graph: &mut GraphBuilder, inputs: &GraphViews) -> (Value, Option<Value>) {
        (self.neighbours.export(graph, inputs.embedding.as_ref().expect("as in training")), None)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis};

    use super::{MOST_SIMILARITIES, Neighbours, at_once};
    use crate::{linear, random::Random, views::rounded};

    #[test]
    fn the_answer_is_that_of_a_search_through_all_texts() {
        let mut random = Random::new(8, 0);
        let mut keys = Array2::from_shape_simple_fn((120, 6), || random.normal());
        linear::normalise_rows(&mut keys);
        let keys = rounded(keys);
        let values = rounded(Array2::from_shape_simple_fn((120, 3), || random.uniform()));
        let queries = Array2::from_shape_simple_fn((10, 6), || random.normal());
        let found = Neighbours::new(keys.view(), values.clone(), 7).predict(queries.view());
        for (query, found) in queries.rows().into_iter().zip(found.rows()) {
            let mut order: Vec<usize> = (0..120).collect();
            order.sort_by(|one, other| keys.row(*other).dot(&query).total_cmp(&keys.row(*one).dot(&query)));
            let mean = values.select(Axis(0), &order[..7]).mean_axis(Axis(0)).unwrap();
            assert!((&mean - &found).iter().all(|error| error.abs() < 1e-5));
        }
    }

    #[test]
    fn of_many_queries_each_is_answered_as_if_it_were_alone() {
        let mut random = Random::new(9, 0);
        let mut keys = Array2::from_shape_simple_fn((90, 6), || random.normal());
        linear::normalise_rows(&mut keys);
        let values = Array2::from_shape_simple_fn((90, 3), || random.uniform());
        let neighbours = Neighbours::new(keys.view(), values, 7);
        let queries = Array2::from_shape_simple_fn((2 * linear::ROWS_PER_TASK + 9, 6), || random.normal());
        let found = neighbours.predict(queries.view());
        for (query, found) in queries.axis_chunks_iter(Axis(0), 1).zip(found.rows()) {
            let alone = neighbours.predict(query);
            assert!((&alone.row(0) - &found).iter().all(|error| error.abs() < 1e-6));
        }
    }

    #[test]
    fn similarities_to_ever_more_texts_take_no_more_memory() {
        assert_eq!((at_once(0), at_once(20_000)), (linear::ROWS_PER_TASK, linear::ROWS_PER_TASK));
        assert_eq!((at_once(200_000), at_once(10 * MOST_SIMILARITIES)), (83, 1));
    }

    #[test]
    fn more_neighbours_than_texts_are_all_texts() {
        let values = ndarray::array![[0.0], [1.0]];
        let found = Neighbours::new(ndarray::array![[1.0, 0.0], [0.0, 1.0]].view(), values, 9).predict(ndarray::array![[1.0, 0.0]].view());
        assert_eq!(found[[0, 0]], 0.5);
    }
}
