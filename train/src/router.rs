//! A trained mixture made into a bundle: one graph, one `bundle.json`, checked against the trainer before anybody may have it.

use model::{
    Bundle, Engine, EngineOptions, Manifest, TextRules,
    bundle::{ExpertEntry, FORMAT_VERSION, Input, Output},
    lexical::{SURFACE, SURFACE_VERSION},
};
use ndarray::{Array1, Array2};

use crate::{
    data::Data,
    encoder::Encoder,
    mix::Mixture,
    onnx::{Constant, Dimension, Element, GraphBuilder, Value, int, ints},
    parts::{GraphViews, export_rows},
    views::{Views, WordSpace},
};

/// Names of the graph's inputs.
const LEXICAL_IDS: &str = "lexical_ids";
const LEXICAL_WEIGHTS: &str = "lexical_weights";
const SURFACE_INPUT: &str = "surface";
/// How far an exported score may lie from the trainer's. Sums in another order differ by some 1e-6; a text whose direction lies within
/// that of a tree's threshold may fall to the other side, which moves the score by a two-hundredth of a leaf.
pub const EXPORT_TOLERANCE: f32 = 0.01;
/// Sums of parts may pass below any share an expert can have; no logarithm is taken of less than this.
const LEAST_SHARE: f32 = 1e-3;
/// On average, where single trees that fell to the other side no longer matter.
pub const EXPORT_MEAN_TOLERANCE: f32 = 1e-4;

/// A router, fitted.
pub struct Router {
    /// `lexical`, `knn` or `mixture`.
    pub kind: String,
    /// In the order of the output's columns.
    pub experts: Vec<ExpertEntry>,
    /// Where a part sees words.
    pub space: WordSpace,
    /// What the sum of the mixture means.
    pub meaning: Meaning,
    /// Added to each expert's predicted score: less for dearer experts where that does better, more for the best single expert where nothing
    /// else gains.
    pub favour: Array1<f32>,
    /// What predicts.
    pub mixture: Mixture,
}

/// What the sum of a mixture's means and deviations is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning {
    /// Predicted scores.
    Scores,
    /// Predicted shares of the soft label, by parts that average shares.
    Shares {
        /// T of the soft label.
        temperature: f32,
    },
    /// In units of the score, by a network trained so that `softmax(T * sum)` is the soft label.
    Logits {
        /// T of the soft label.
        temperature: f32,
    },
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The bundle does not hold together, or cannot be run.
    #[error("the exported router cannot be used")]
    Bundle(#[from] model::BundleError),
    /// It could not be asked.
    #[error("the exported router does not answer")]
    Score(#[from] model::ScoreError),
    /// It says something else than the trainer.
    #[error("the exported router differs from the trainer by {most:.5} at most and {mean:.6} on average")]
    Differs {
        /// Largest difference of a score.
        most: f32,
        /// Mean difference.
        mean: f32,
    },
}

/// How near an exported router is to its trainer.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Agreement {
    /// Texts compared.
    pub texts: usize,
    /// Largest difference of a score.
    pub most: f32,
    /// Mean difference.
    pub mean: f32,
}

impl Router {
    /// Whether it reads tokens.
    #[must_use]
    pub fn needs_encoder(&self) -> bool {
        self.mixture.parts.iter().any(|(spec, _, _)| spec.needs_embedding())
    }

    /// A router without parts reads the surface, for the number of rows.
    fn needs_words(&self) -> bool {
        self.mixture.parts.is_empty() || self.mixture.parts.iter().any(|(spec, _, _)| spec.needs_words())
    }

    /// Predicted quality in units of the score, `rows x experts`; only differences within a row count.
    #[must_use]
    pub fn predict(&self, views: &Views) -> Array2<f32> {
        self.meaning.quality(self.mixture.predict(views)) + &self.favour
    }

    /// The bundle. `training` and `evaluation` are for people.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn bundle(
        &self,
        text: &TextRules,
        encoder: Option<&Encoder>,
        training: serde_json::Value,
        evaluation: serde_json::Value,
    ) -> Result<Bundle, ExportError> {
        let encoder = encoder.filter(|_| self.needs_encoder());
        let mut graph = GraphBuilder::new("router");
        let views = self.graph_views(&mut graph, encoder);
        self.export(&mut graph, &views);
        let mut inputs = encoder.map(Encoder::inputs).unwrap_or_default();
        if self.needs_words() {
            inputs.extend([
                Input::LexicalIds { name: LEXICAL_IDS.into(), hash: self.space.rules.clone() },
                Input::LexicalWeights { name: LEXICAL_WEIGHTS.into() },
                Input::Surface { name: SURFACE_INPUT.into(), version: SURFACE_VERSION },
            ]);
        }
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            router: self.kind.clone(),
            experts: self.experts.clone(),
            output: self.meaning.output(),
            text: text.clone(),
            inputs,
            encoder: encoder.map(Encoder::identity),
            files: Default::default(),
            training,
            evaluation,
        };
        Ok(Bundle::assemble(manifest, graph.to_bytes(), encoder.map(|encoder| encoder.tokenizer().to_vec()))?)
    }

    fn graph_views(&self, graph: &mut GraphBuilder, encoder: Option<&Encoder>) -> GraphViews {
        let embedding = encoder.map(|encoder| encoder.graph(graph));
        if !self.needs_words() {
            return GraphViews { ids: None, words: None, directions: None, surface: None, embedding };
        }
        let ids = graph.input(LEXICAL_IDS, Element::I64, &[Dimension::Named("batch"), Dimension::Named("features")]);
        let weights = graph.input(LEXICAL_WEIGHTS, Element::F32, &[Dimension::Named("batch"), Dimension::Named("features")]);
        let surface = graph.input(SURFACE_INPUT, Element::F32, &[Dimension::Named("batch"), Dimension::Fixed(SURFACE)]);
        let rarity = graph.constant("rarity", Constant::f32(&[self.space.rarity.len()], &self.space.rarity));
        let rarity = graph.add("Gather", &[&rarity, &ids]);
        let weighted = graph.add("Mul", &[&weights, &rarity]);
        let words = normalised(graph, &weighted);
        let axis = graph.integers(&[1]);
        let words = graph.add("Unsqueeze", &[&words, &axis]);
        let directions = export_rows(graph, "directions", &self.space.projection, &ids, &words);
        let directions = normalised(graph, &directions);
        GraphViews { ids: Some(ids), words: Some(words), directions: Some(directions), surface: Some(surface), embedding }
    }

    fn export(&self, graph: &mut GraphBuilder, views: &GraphViews) {
        let means = graph.constant("expert_means", Constant::f32(&[1, self.experts.len()], &self.mixture.expert_means.to_vec()));
        let mut sum = means;
        if let ([], Some(surface)) = (self.mixture.parts.as_slice(), &views.surface) {
            sum = for_each_row(graph, surface, &sum);
        }
        let mut output_tokens = None;
        for (_, weight, part) in &self.mixture.parts {
            let (deviation, tokens) = part.export(graph, views);
            output_tokens = output_tokens.or(tokens);
            let weight = graph.scalar(*weight);
            let weighted = graph.add("Mul", &[&deviation, &weight]);
            sum = graph.add("Add", &[&sum, &weighted]);
        }
        let shape = [Dimension::Named("batch"), Dimension::Fixed(self.experts.len())];
        let favour = |graph: &mut GraphBuilder, value: Value, scale: f32| {
            if self.favour.iter().all(|favour| *favour == 0.0) {
                return value;
            }
            let favour = Constant::f32(&[1, self.favour.len()], &(&self.favour * scale).to_vec());
            let favour = graph.constant("favour", favour);
            graph.add("Add", &[&value, &favour])
        };
        match self.meaning {
            Meaning::Scores => {
                let scores = favour(graph, sum, 1.0);
                graph.output("scores", &scores, Element::F32, &shape);
            }
            Meaning::Shares { temperature } => {
                let least = graph.scalar(LEAST_SHARE);
                let shares = graph.add("Max", &[&sum, &least]);
                let logs = graph.add("Log", &[&shares]);
                let logs = favour(graph, logs, temperature);
                graph.output("log_probs", &logs, Element::F32, &shape);
            }
            Meaning::Logits { temperature } => {
                let scale = graph.scalar(temperature);
                let logits = graph.add("Mul", &[&sum, &scale]);
                let logits = favour(graph, logits, temperature);
                let logs = graph.add_with("LogSoftmax", &[&logits], vec![int("axis", 1)]);
                graph.output("log_probs", &logs, Element::F32, &shape);
            }
        }
        if let Some(tokens) = output_tokens {
            graph.output("output_tokens", &tokens, Element::F32, &shape);
        }
    }

    /// Runs the bundle as a server would and compares.
    ///
    /// # Errors
    /// It cannot be run, or differs by more than the tolerance.
    pub fn agreement(&self, bundle: &Bundle, texts: &[String], views: &Views) -> Result<Agreement, ExportError> {
        agreement(bundle, texts, &self.predict(views))
    }
}

impl Meaning {
    /// A sum in units of the score: a share becomes `ln p / T`.
    #[must_use]
    pub fn quality(self, sum: Array2<f32>) -> Array2<f32> {
        match self {
            Self::Scores | Self::Logits { .. } => sum,
            Self::Shares { temperature } => sum.mapv_into(|share| share.max(LEAST_SHARE).ln() / temperature),
        }
    }

    /// For people and `bundle.json`.
    #[must_use]
    pub fn loss(self) -> String {
        match self {
            Self::Scores => "score".into(),
            Self::Shares { temperature } | Self::Logits { temperature } => format!("soft-label:{temperature}"),
        }
    }

    fn output(self) -> Output {
        match self {
            Self::Scores => Output::Scores,
            Self::Shares { temperature } | Self::Logits { temperature } => Output::LogProbs { temperature: f64::from(temperature) },
        }
    }
}

/// `row`, `[1, columns]`, once for each row of `batch`.
fn for_each_row(graph: &mut GraphBuilder, batch: &Value, row: &Value) -> Value {
    let zero = graph.scalar(0.0);
    let nothing = graph.add("Mul", &[batch, &zero]);
    let nothing = graph.add_with("ReduceMax", &[&nothing], vec![ints("axes", &[1]), int("keepdims", 1)]);
    graph.add("Add", &[&nothing, row])
}

/// Runs a bundle as a server would, and compares what it says with what the trainer said.
///
/// # Errors
/// It cannot be run, or differs by more than the tolerance.
pub fn agreement(bundle: &Bundle, texts: &[String], expected: &Array2<f32>) -> Result<Agreement, ExportError> {
    let engine = load(bundle.clone())?;
    let (mut most, mut total) = (0.0_f32, 0.0_f64);
    for (found, expected) in engine.score_all(texts)?.iter().zip(expected.rows()) {
        // Only differences between experts count.
        let shift = found.quality.iter().zip(expected).map(|(found, expected)| found - expected).sum::<f32>() / expected.len() as f32;
        for (found, expected) in found.quality.iter().zip(expected) {
            let error = (found - expected - shift).abs();
            most = if error.is_nan() { f32::INFINITY } else { most.max(error) };
            total += f64::from(error);
        }
    }
    let mean = (total / expected.len().max(1) as f64) as f32;
    if most <= EXPORT_TOLERANCE && mean <= EXPORT_MEAN_TOLERANCE {
        Ok(Agreement { texts: texts.len(), most, mean })
    } else {
        Err(ExportError::Differs { most, mean })
    }
}

/// A bundle ready to be asked, without a memory of prompts: every answer is computed.
///
/// # Errors
/// What is wrong with the library or the bundle.
pub fn load(bundle: Bundle) -> Result<Engine, ExportError> {
    let options = EngineOptions { onnxruntime: parts::onnx_runtime().ok(), cache_entries: 0, ..EngineOptions::default() };
    Ok(Engine::load(bundle, &options)?)
}

/// What training knows of the experts, for the bundle.
#[must_use]
pub fn expert_entries(data: &Data) -> Vec<ExpertEntry> {
    let mean = |matrix: &Array2<f32>, expert: usize| {
        let present: Vec<f64> = matrix.column(expert).iter().filter(|value| !value.is_nan()).map(|value| f64::from(*value)).collect();
        (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64)
    };
    let entry = |(at, name): (usize, &String)| ExpertEntry {
        name: name.clone(),
        mean_score: mean(&data.score, at),
        mean_output_tokens: mean(&data.output_tokens, at),
        mean_seconds: mean(&data.seconds, at),
    };
    data.experts.iter().enumerate().map(entry).collect()
}

/// Rows scaled to length 1.
fn normalised(graph: &mut GraphBuilder, value: &Value) -> Value {
    let length = graph.add_with("ReduceL2", &[value], vec![ints("axes", &[1]), int("keepdims", 1)]);
    let least = graph.scalar(1e-9);
    let length = graph.add("Max", &[&length, &least]);
    graph.add("Div", &[value, &length])
}
