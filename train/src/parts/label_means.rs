//! The probability of each label by the text, times the experts' means under the label, drawn towards no deviation by empirical Bayes.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};

use super::{GraphViews, Part, PartOptions};
use crate::{
    linear::{self, Scale},
    logistic::Logistic,
    onnx::{Constant, GraphBuilder, Value, int},
    targets::Targets,
    views::Views,
};

/// A fitted part.
pub struct LabelMeansPart {
    scale: Scale,
    logistic: Logistic,
    /// `labels x experts`.
    means: Array2<f32>,
    embedding: bool,
}

impl LabelMeansPart {
    /// Fits both factors.
    #[must_use]
    pub fn fit(views: &Views, targets: &Targets, options: &PartOptions, embedding: bool) -> Self {
        let embedding = embedding && views.embedding.is_some();
        let columns = columns(views, embedding);
        let scale = Scale::of(columns.view());
        let logistic = Logistic::fit(scale.apply(columns.view()).view(), targets.labels.view(), options.label_penalty);
        Self { scale, logistic, means: shrunk_means(targets.labels.view(), targets.deviation.view()), embedding }
    }
}

fn columns(views: &Views, embedding: bool) -> Array2<f32> {
    let mut all = vec![views.surface.view(), views.directions.view()];
    if let (true, Some(embedding)) = (embedding, &views.embedding) {
        all.push(embedding.view());
    }
    concatenate(Axis(1), &all).expect("views have as many rows")
}

/// Means of the deviations under each label, each drawn to 0 the more, the less its rows say against what labels differ by at all.
fn shrunk_means(labels: ArrayView2<'_, f32>, deviation: ArrayView2<'_, f32>) -> Array2<f32> {
    let mask = deviation.mapv(|value| if value.is_nan() { 0.0 } else { 1.0 });
    let filled = deviation.mapv(|value| if value.is_nan() { 0.0 } else { value });
    let counts = linear::product(labels.t(), mask.view()).mapv(|count| count + 1e-6);
    let means = linear::product(labels.t(), filled.view()) / &counts;
    let observed = mask.sum_axis(Axis(0)).mapv(|count| count.max(1.0));
    let variance: Array1<f32> = filled.mapv(|value| value * value).sum_axis(Axis(0)) / &observed;
    // Method of moments for the variance between labels, one figure for all experts: each by itself is too noisy.
    let shares = &counts / &counts.sum_axis(Axis(0));
    let between = (&shares * &means.mapv(|mean| mean * mean)).sum_axis(Axis(0));
    let noise = (&shares * &(&variance / &counts)).sum_axis(Axis(0));
    let spread = (&between - &noise).mapv(|value| value.max(1e-5)).mean().unwrap_or(1e-5);
    let strength = variance / spread;
    &means * &(&counts / &(&counts + &strength))
}

impl Part for LabelMeansPart {
    fn predict(&self, views: &Views) -> Array2<f32> {
        let columns = self.scale.apply(columns(views, self.embedding).view());
        linear::product(self.logistic.predict(columns.view()).view(), self.means.view())
    }

    fn export(&self, graph: &mut GraphBuilder, inputs: &GraphViews) -> (Value, Option<Value>) {
        let mut all: Vec<&Value> = [&inputs.surface, &inputs.directions].into_iter().flatten().collect();
        all.extend(inputs.embedding.as_ref().filter(|_| self.embedding));
        let columns = graph.add_with("Concat", &all, vec![int("axis", 1)]);
        // Scaling is folded into the regression: (x - mean) / deviation * w + b.
        let weights = &self.logistic.weights / &self.scale.deviation.view().insert_axis(Axis(1));
        let bias = &self.logistic.intercept - &self.scale.mean.dot(&weights);
        let weights = constant(graph, "label_weights", &weights);
        let bias = graph.constant("label_bias", Constant::f32(&[bias.len()], &bias.to_vec()));
        let scores = graph.linear(&columns, &weights, &bias);
        let shares = graph.add_with("Softmax", &[&scores], vec![int("axis", 1)]);
        let means = constant(graph, "label_means", &self.means);
        (graph.add("MatMul", &[&shares, &means]), None)
    }
}

fn constant(graph: &mut GraphBuilder, name: &str, matrix: &Array2<f32>) -> Value {
    let values: Vec<f32> = matrix.iter().copied().collect();
    graph.constant(name, Constant::f32(&[matrix.nrows(), matrix.ncols()], &values))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::shrunk_means;

    #[test]
    fn means_of_many_rows_stay_and_those_of_few_are_drawn_in() {
        let labels = Array2::from_shape_fn((203, 3), |(row, label)| {
            f32::from(u8::from(
                label
                    == if row < 100 {
                        0
                    } else if row < 200 {
                        1
                    } else {
                        2
                    },
            ))
        });
        let mut deviation = Array2::from_shape_fn((203, 1), |(row, _)| {
            let noise = if row % 2 == 0 { 0.5 } else { -0.5 };
            noise
                + if row < 100 {
                    0.3
                } else if row < 200 {
                    -0.3
                } else {
                    0.3
                }
        });
        let full = shrunk_means(labels.view(), deviation.view());
        assert!((full[[0, 0]] - 0.3).abs() < 0.02 && full[[2, 0]] < 0.8 * full[[0, 0]], "{full}");
        (0..203).filter(|row| row % 7 == 0).for_each(|row| deviation[[row, 0]] = f32::NAN);
        let masked = shrunk_means(labels.view(), deviation.view());
        assert!((masked[[0, 0]] - 0.3).abs() < 0.05, "{masked}");
        assert_eq!(shrunk_means(array![[1.0_f32]].view(), array![[f32::NAN]].view())[[0, 0]], 0.0);
    }
}
