//! Linear in hashed words and word pairs.

use ndarray::Array2;

use super::{GraphViews, Part, PartOptions};
use crate::{
    onnx::{Constant, Element, GraphBuilder, Value, int},
    ridge::Ridge,
    targets::Targets,
    views::{Views, rounded},
};

/// A fitted part.
pub struct WordsPart {
    ridge: Ridge,
}

impl WordsPart {
    /// Fits the weights; they are rounded to the 16 bits that the bundle has.
    #[must_use]
    pub fn fit(views: &Views, targets: &Targets, options: &PartOptions) -> Self {
        let mut ridge = Ridge::fit(&views.words, targets.deviation.view(), options.words_penalty);
        ridge.weights = rounded(ridge.weights);
        Self { ridge }
    }
}

impl Part for WordsPart {
    fn predict(&self, views: &Views) -> Array2<f32> {
        self.ridge.predict(&views.words)
    }

    fn export(&self, graph: &mut GraphBuilder, inputs: &GraphViews) -> (Value, Option<Value>) {
        let (ids, words) = (inputs.ids.as_ref().expect("lexical inputs"), inputs.words.as_ref().expect("lexical inputs"));
        let sum = export_rows(graph, "word_weights", &self.ridge.weights, ids, words);
        let Ridge { intercept, .. } = &self.ridge;
        let intercept = graph.constant("word_intercept", Constant::f32(&[intercept.len()], &intercept.to_vec()));
        (graph.add("Add", &[&sum, &intercept]), None)
    }
}

/// `[batch, columns]`: rows of a table, gathered by `ids` and summed with `weights` (`[batch, 1, features]`).
pub(crate) fn export_rows(graph: &mut GraphBuilder, name: &str, table: &Array2<f32>, ids: &Value, weights: &Value) -> Value {
    let values: Vec<f32> = table.iter().copied().collect();
    let table = graph.constant(name, Constant::f16(&[table.nrows(), table.ncols()], &values));
    let gathered = graph.add_with("Gather", &[&table, ids], vec![int("axis", 0)]);
    let gathered = graph.cast(&gathered, Element::F32);
    let product = graph.add("MatMul", &[weights, &gathered]);
    let axes = graph.integers(&[1]);
    graph.add("Squeeze", &[&product, &axes])
}
