//! Trees over surface and directions. Labels and experts outside the choice guide the splits in training and are not there at serving.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate, s};

use super::{GraphViews, Part, PartOptions};
use crate::{
    onnx::{Constant, Element, GraphBuilder, Value, floats, ints, string, strings},
    targets::Targets,
    trees::{Forest, Node, TreeOptions, TreeTargets},
    views::{Views, rounded},
};

/// A fitted forest.
pub struct ForestPart {
    forest: Forest,
    experts: usize,
    directions: usize,
    embedding: bool,
    tokens: bool,
}

/// Surface, the first directions, and the embedding if asked for.
#[must_use]
pub fn forest_columns(views: &Views, directions: usize, embedding: bool) -> Array2<f32> {
    let first = views.directions.slice(s![.., ..directions.min(views.directions.ncols())]);
    let mut columns: Vec<ArrayView2<'_, f32>> = vec![views.surface.view(), first];
    if let (true, Some(embedding)) = (embedding, &views.embedding) {
        columns.push(embedding.view());
    }
    concatenate(Axis(1), &columns).expect("views have as many rows")
}

impl ForestPart {
    /// Grows the forest.
    #[must_use]
    pub fn fit(views: &Views, targets: &Targets, options: &PartOptions, embedding: bool) -> Self {
        let columns = forest_columns(views, options.tree_directions, embedding);
        let labels = &targets.labels * options.label_weight;
        // Many experts outside the choice must not drown the few inside.
        let many = (targets.others.ncols() as f32 / targets.deviation.ncols() as f32).max(1.0).sqrt();
        let others = &targets.others * (options.others_weight / many);
        let filled = targets.filled();
        let guide = concatenate![Axis(1), filled, labels, others];
        let tokens = targets.output_tokens.iter().any(|value| !value.is_nan());
        let report = if tokens { concatenate![Axis(1), targets.deviation, targets.output_tokens] } else { targets.deviation.clone() };
        let experts = targets.deviation.ncols();
        let fallback = fallback(&report, experts);
        let mut forest = Forest::fit(
            columns.view(),
            &TreeTargets { guide: guide.view(), report: report.view(), fallback: fallback.view() },
            &TreeOptions { trees: options.trees, min_leaf: options.min_leaf, try_share: options.try_share, seed: options.seed },
        );
        for tree in &mut forest.trees {
            tree.leaves = rounded(std::mem::take(&mut tree.leaves));
        }
        let directions = options.tree_directions.min(views.directions.ncols());
        Self { forest, experts, directions, embedding: embedding && views.embedding.is_some(), tokens }
    }

    fn predict_all(&self, views: &Views) -> Array2<f32> {
        self.forest.predict(forest_columns(views, self.directions, self.embedding).view())
    }

    fn export_all(&self, graph: &mut GraphBuilder, inputs: &GraphViews) -> Option<Value> {
        let (surface, directions) = (inputs.surface.as_ref()?, inputs.directions.as_ref()?);
        let (start, end, axis) = (graph.integers(&[0]), graph.integers(&[self.directions as i64]), graph.integers(&[1]));
        let first = graph.add("Slice", &[directions, &start, &end, &axis]);
        let columns = if self.embedding {
            graph.add_with("Concat", &[surface, &first, inputs.embedding.as_ref()?], vec![crate::onnx::int("axis", 1)])
        } else {
            graph.add_with("Concat", &[surface, &first], vec![crate::onnx::int("axis", 1)])
        };
        Some(export_forest(graph, &self.forest, &columns))
    }
}

/// 0 for deviations, the mean for token counts.
fn fallback(report: &Array2<f32>, experts: usize) -> Array1<f32> {
    Array1::from_iter(report.columns().into_iter().enumerate().map(|(at, column)| {
        let present = column.iter().filter(|value| !value.is_nan());
        let count = present.clone().count();
        if at < experts || count == 0 { 0.0 } else { present.sum::<f32>() / count as f32 }
    }))
}

impl Part for ForestPart {
    fn predict(&self, views: &Views) -> Array2<f32> {
        self.predict_all(views).slice(s![.., ..self.experts]).to_owned()
    }

    fn output_tokens(&self, views: &Views) -> Option<Array2<f32>> {
        self.tokens.then(|| self.predict_all(views).slice(s![.., self.experts..]).to_owned())
    }

    /// Both from one walk through the trees.
    fn export(&self, graph: &mut GraphBuilder, inputs: &GraphViews) -> (Value, Option<Value>) {
        let all = self.export_all(graph, inputs).expect("the caller gives what the part was fitted on");
        if !self.tokens {
            return (all, None);
        }
        let axis = graph.integers(&[1]);
        let (start, middle, end) =
            (graph.integers(&[0]), graph.integers(&[self.experts as i64]), graph.integers(&[2 * self.experts as i64]));
        let scores = graph.add("Slice", &[&all, &start, &middle, &axis]);
        let tokens = graph.add("Slice", &[&all, &middle, &end, &axis]);
        (scores, Some(tokens))
    }
}

/// The forest as one `TreeEnsembleRegressor` whose targets are the trees and whose leaves say which row of a table of leaves each tree
/// ends in; the rows are then gathered and averaged. With all outputs in the leaves of the operator itself, each leaf would hold sixteen
/// bytes for each output instead of two, and the walk would touch them all.
fn export_forest(graph: &mut GraphBuilder, forest: &Forest, columns: &Value) -> Value {
    let outputs = forest.trees.first().map_or(0, |tree| tree.leaves.ncols());
    let ensemble = Ensemble::of(forest);
    let found = graph.add_with("ai.onnx.ml.TreeEnsembleRegressor", &[columns], ensemble.attributes(forest.trees.len()));
    let rows = graph.cast(&found, Element::I64);
    let leaves: Vec<f32> = forest.trees.iter().flat_map(|tree| tree.leaves.iter().copied()).collect();
    let table = graph.constant("leaves", Constant::f16(&[leaves.len() / outputs.max(1), outputs], &leaves));
    let gathered = graph.add("Gather", &[&table, &rows]);
    let gathered = graph.cast(&gathered, Element::F32);
    graph.add_with("ReduceMean", &[&gathered], vec![ints("axes", &[1]), crate::onnx::int("keepdims", 0)])
}

/// The operator's parallel arrays.
#[derive(Default)]
struct Ensemble {
    tree_ids: Vec<i64>,
    node_ids: Vec<i64>,
    columns: Vec<i64>,
    thresholds: Vec<f32>,
    is_split: Vec<bool>,
    left: Vec<i64>,
    right: Vec<i64>,
    leaf_tree_ids: Vec<i64>,
    leaf_node_ids: Vec<i64>,
    leaf_rows: Vec<f32>,
}

impl Ensemble {
    fn of(forest: &Forest) -> Self {
        let mut all = Self::default();
        let mut first_leaf = 0;
        for (tree_id, tree) in forest.trees.iter().enumerate() {
            for (node_id, node) in tree.nodes.iter().enumerate() {
                all.tree_ids.push(tree_id as i64);
                all.node_ids.push(node_id as i64);
                let (column, threshold, left, right) = match *node {
                    Node::Split { column, threshold, left, right } => (column, threshold, left, right),
                    Node::Leaf(leaf) => {
                        all.leaf_tree_ids.push(tree_id as i64);
                        all.leaf_node_ids.push(node_id as i64);
                        // Exact in 32 bits up to 16 million leaves.
                        all.leaf_rows.push((first_leaf + leaf as usize) as f32);
                        (0, 0.0, 0, 0)
                    }
                };
                all.is_split.push(matches!(node, Node::Split { .. }));
                all.columns.push(i64::from(column));
                all.thresholds.push(threshold);
                all.left.push(i64::from(left));
                all.right.push(i64::from(right));
            }
            first_leaf += tree.leaves.nrows();
        }
        all
    }

    fn attributes(&self, trees: usize) -> Vec<crate::onnx::Attribute> {
        let modes: Vec<&str> = self.is_split.iter().map(|split| if *split { "BRANCH_LEQ" } else { "LEAF" }).collect();
        vec![
            crate::onnx::int("n_targets", trees as i64),
            string("aggregate_function", "SUM"),
            string("post_transform", "NONE"),
            ints("nodes_treeids", &self.tree_ids),
            ints("nodes_nodeids", &self.node_ids),
            ints("nodes_featureids", &self.columns),
            floats("nodes_values", &self.thresholds),
            strings("nodes_modes", &modes),
            ints("nodes_truenodeids", &self.left),
            ints("nodes_falsenodeids", &self.right),
            ints("target_treeids", &self.leaf_tree_ids),
            ints("target_nodeids", &self.leaf_node_ids),
            ints("target_ids", &self.leaf_tree_ids),
            floats("target_weights", &self.leaf_rows),
        ]
    }
}
