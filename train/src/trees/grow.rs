//! One tree grown: at each node the best of a few random splits.

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::{Node, Tree, TreeOptions, TreeTargets};
use crate::random::Random;

/// Lanes the sums are padded to, so that the inner loop has no remainder.
const LANES: usize = 8;

pub(super) fn padded(matrix: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut out = Array2::zeros((matrix.nrows(), matrix.ncols().next_multiple_of(LANES).max(LANES)));
    out.slice_mut(ndarray::s![.., ..matrix.ncols()]).assign(&matrix);
    out
}

/// Grows one tree.
pub(super) struct Grower<'a> {
    /// `columns x rows`.
    columns: &'a Array2<f32>,
    guide: &'a Array2<f32>,
    min_leaf: usize,
    tries: usize,
    random: Random,
    /// Column numbers in an order that changes with every node.
    order: Vec<usize>,
    left_sum: Vec<f32>,
}

/// A split worth making.
struct Best {
    gain: f64,
    column: usize,
    threshold: f32,
}

impl<'a> Grower<'a> {
    pub(super) fn new(columns: &'a Array2<f32>, guide: &'a Array2<f32>, options: &TreeOptions, stream: u64) -> Self {
        let tries = ((columns.nrows() as f32 * options.try_share).ceil() as usize).max(1);
        Self {
            columns,
            guide,
            min_leaf: options.min_leaf.max(1),
            tries,
            random: Random::new(options.seed, stream),
            order: (0..columns.nrows()).collect(),
            left_sum: vec![0.0; guide.ncols()],
        }
    }

    pub(super) fn grow(mut self, targets: &TreeTargets<'_>) -> Tree {
        let mut rows: Vec<u32> = (0..self.columns.ncols() as u32).collect();
        let mut nodes = vec![Node::Leaf(0)];
        let mut leaves = Vec::new();
        // Depth first, by hand: a degenerate tree must not overflow the stack.
        let mut open = vec![(0, 0, rows.len())];
        while let Some((node, start, end)) = open.pop() {
            let Some(best) = self.best_split(&rows[start..end]) else {
                nodes[node] = Node::Leaf(leaves.len() as u32);
                leaves.push(leaf_values(targets, &rows[start..end], self.min_leaf));
                continue;
            };
            let middle = start + partition(&mut rows[start..end], self.columns.row(best.column), best.threshold);
            let (left, right) = (nodes.len(), nodes.len() + 1);
            nodes[node] = Node::Split { column: best.column as u32, threshold: best.threshold, left: left as u32, right: right as u32 };
            nodes.extend([Node::Leaf(0), Node::Leaf(0)]);
            open.extend([(right, middle, end), (left, start, middle)]);
        }
        let outputs = targets.report.ncols();
        let values = leaves.into_iter().flatten().collect();
        let leaves = Array2::from_shape_vec((count_leaves(&nodes), outputs), values).expect("each leaf has a value for each output");
        Tree { nodes, leaves }
    }

    fn best_split(&mut self, rows: &[u32]) -> Option<Best> {
        if rows.len() < 2 * self.min_leaf {
            return None;
        }
        let mut total = vec![0.0_f32; self.guide.ncols()];
        for row in rows {
            add(&mut total, self.guide, *row);
        }
        let base: f64 = squares(&total) / rows.len() as f64;
        let mut best: Option<Best> = None;
        let (mut tried, mut at) = (0, 0);
        while tried < self.tries && at < self.order.len() {
            let other = at + self.random.below(self.order.len() - at);
            self.order.swap(at, other);
            let column = self.order[at];
            at += 1;
            let Some(threshold) = self.random_threshold(rows, column) else { continue };
            tried += 1;
            let Some(value) = self.value(rows, column, threshold, &total) else { continue };
            let gain = value - base;
            if gain > best.as_ref().map_or(1e-9, |best| best.gain) {
                best = Some(Best { gain, column, threshold });
            }
        }
        best
    }

    /// Between the least and the largest value; none where they are one.
    fn random_threshold(&mut self, rows: &[u32], column: usize) -> Option<f32> {
        let values = self.columns.row(column);
        let values = values.as_slice()?;
        let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
        for row in rows {
            let value = values[*row as usize];
            least = least.min(value);
            most = most.max(value);
        }
        if most - least <= 1e-7 {
            return None;
        }
        let threshold = least + (most - least) * self.random.uniform();
        // Rounding may land on the largest value, which would leave nothing on the right.
        Some(if threshold < most { threshold } else { least })
    }

    /// Sum over sides of `|sum|^2 / rows`: the variance explained, but for a constant. None where a side is too small.
    fn value(&mut self, rows: &[u32], column: usize, threshold: f32, total: &[f32]) -> Option<f64> {
        let values = self.columns.row(column);
        let values = values.as_slice()?;
        let left = rows.iter().filter(|row| values[**row as usize] <= threshold).count();
        let right = rows.len() - left;
        if left < self.min_leaf || right < self.min_leaf {
            return None;
        }
        self.left_sum.fill(0.0);
        // The smaller side is summed, the other is what remains.
        let take_left = left <= right;
        for row in rows {
            if (values[*row as usize] <= threshold) == take_left {
                add(&mut self.left_sum, self.guide, *row);
            }
        }
        let (summed, rest) = if take_left { (left, right) } else { (right, left) };
        let other: f64 = total.iter().zip(&self.left_sum).map(|(all, part)| f64::from(all - part).powi(2)).sum();
        Some(squares(&self.left_sum) / summed as f64 + other / rest as f64)
    }
}

fn add(sum: &mut [f32], guide: &Array2<f32>, row: u32) {
    let width = sum.len();
    if let Some(values) = guide.as_slice().and_then(|all| all.get(row as usize * width..(row as usize + 1) * width)) {
        for (sums, values) in sum.chunks_exact_mut(LANES).zip(values.chunks_exact(LANES)) {
            for lane in 0..LANES {
                sums[lane] += values[lane];
            }
        }
    }
}

fn squares(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum()
}

/// Puts rows that go left before the others; returns how many.
fn partition(rows: &mut [u32], values: ArrayView1<'_, f32>, threshold: f32) -> usize {
    let mut left = 0;
    for at in 0..rows.len() {
        if values[rows[at] as usize] <= threshold {
            rows.swap(left, at);
            left += 1;
        }
    }
    left
}

/// Means over the rows that have a value. A leaf with fewer of them than a leaf has rows is drawn to the fallback by as many as it lacks.
fn leaf_values(targets: &TreeTargets<'_>, rows: &[u32], min_leaf: usize) -> Vec<f32> {
    (0..targets.report.ncols())
        .map(|output| {
            let (mut sum, mut count) = (0.0_f32, 0_usize);
            for row in rows {
                let value = targets.report[[*row as usize, output]];
                if !value.is_nan() {
                    sum += value;
                    count += 1;
                }
            }
            let lacking = min_leaf.min(rows.len()).saturating_sub(count);
            (sum + lacking as f32 * targets.fallback[output]) / (count + lacking).max(1) as f32
        })
        .collect()
}

fn count_leaves(nodes: &[Node]) -> usize {
    nodes.iter().filter(|node| matches!(node, Node::Leaf(_))).count()
}
