//! Parts of a router: each predicts, from what it sees of a text, how far every expert's score deviates (see `targets.rs`). A router is
//! a weighted sum of parts (`mix.rs`); each part can put itself into an ONNX graph.

mod forest;
mod label_means;
mod neighbours;
mod words;

use ndarray::Array2;

use crate::{
    mlp::{MlpOptions, MlpPart},
    onnx::{GraphBuilder, Value},
    targets::Targets,
    views::Views,
};

pub use forest::{ForestPart, forest_columns};
pub use label_means::LabelMeansPart;
pub use neighbours::{Neighbours, NeighboursPart};
pub use words::WordsPart;
pub(crate) use words::export_rows;

/// The kinds of parts, and what each looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PartKind {
    /// Trees on surface and directions of words.
    Trees,
    /// The probability of each label by surface and directions, times the experts' means under the label.
    Labels,
    /// Linear in words.
    Words,
    /// The mean of the nearest texts by embedding.
    EmbeddingNeighbours,
    /// As `Labels`, by embedding.
    EmbeddingLabels,
    /// Trees on surface, directions of words and of embeddings.
    EmbeddingTrees,
    /// A network with one hidden layer; what it reads is among its options.
    Mlp,
    /// The layer behind an encoder that was fine-tuned with it.
    Bert,
}

/// A fitted part.
pub trait Part: Send + Sync {
    /// `rows x experts`.
    fn predict(&self, views: &Views) -> Array2<f32>;

    /// Adds its nodes: deviations, `[batch, experts]`, and expected output tokens where the part was trained on them.
    fn export(&self, graph: &mut GraphBuilder, inputs: &GraphViews) -> (Value, Option<Value>);

    /// Expected output tokens, where the part was trained on them: `rows x experts`.
    fn output_tokens(&self, _views: &Views) -> Option<Array2<f32>> {
        None
    }
}

/// What parts see of a text, inside a graph.
#[derive(Debug, Clone)]
pub struct GraphViews {
    /// Row numbers, `[batch, features]`.
    pub ids: Option<Value>,
    /// Weights of length 1, `[batch, 1, features]`.
    pub words: Option<Value>,
    /// `[batch, rank]`, of length 1.
    pub directions: Option<Value>,
    /// `[batch, surface]`.
    pub surface: Option<Value>,
    /// `[batch, dimensions]`, of length 1.
    pub embedding: Option<Value>,
}

impl PartKind {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trees => "trees",
            Self::Labels => "labels",
            Self::Words => "words",
            Self::EmbeddingNeighbours => "embedding neighbours",
            Self::EmbeddingLabels => "embedding labels",
            Self::EmbeddingTrees => "embedding trees",
            Self::Mlp => "mlp",
            Self::Bert => "bert",
        }
    }

    /// Whether it needs labels in training.
    #[must_use]
    pub fn needs_labels(self) -> bool {
        matches!(self, Self::Labels | Self::EmbeddingLabels)
    }

    /// Whether it comes with an encoder that was fine-tuned for it.
    #[must_use]
    pub fn is_tuned(self) -> bool {
        self == Self::Bert
    }

    /// A part of this kind, with its hyper-parameters.
    #[must_use]
    pub fn with(self, options: PartOptions) -> PartSpec {
        PartSpec { kind: self, options }
    }
}

/// What a part is before it is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartSpec {
    /// What it looks at.
    pub kind: PartKind,
    /// How it learns.
    pub options: PartOptions,
}

impl PartSpec {
    /// Whether it needs an encoder.
    #[must_use]
    pub fn needs_embedding(&self) -> bool {
        match self.kind {
            PartKind::EmbeddingNeighbours | PartKind::EmbeddingLabels | PartKind::EmbeddingTrees | PartKind::Bert => true,
            PartKind::Trees | PartKind::Labels | PartKind::Words => false,
            PartKind::Mlp => self.options.mlp.inputs.embedding,
        }
    }

    /// Whether it needs hashed words or the surface.
    #[must_use]
    pub fn needs_words(&self) -> bool {
        match self.kind {
            PartKind::EmbeddingNeighbours | PartKind::Bert => false,
            PartKind::Mlp => self.options.mlp.inputs.surface || self.options.mlp.inputs.directions,
            _ => true,
        }
    }

    /// Fits the part. `groups`: rows that a part may hold out only together.
    ///
    /// # Panics
    /// For a fine-tuned encoder, which is no part until `learn` has fitted both.
    #[must_use]
    pub fn fit(&self, views: &Views, targets: &Targets, groups: &[String]) -> Box<dyn Part> {
        let options = &self.options;
        match self.kind {
            PartKind::Trees => Box::new(ForestPart::fit(views, targets, options, false)),
            PartKind::EmbeddingTrees => Box::new(ForestPart::fit(views, targets, options, true)),
            PartKind::Labels => Box::new(LabelMeansPart::fit(views, targets, options, false)),
            PartKind::EmbeddingLabels => Box::new(LabelMeansPart::fit(views, targets, options, true)),
            PartKind::Words => Box::new(WordsPart::fit(views, targets, options)),
            PartKind::EmbeddingNeighbours => Box::new(NeighboursPart::fit(views, targets, options)),
            PartKind::Bert => unreachable!("fitted with its encoder"),
            PartKind::Mlp => Box::new(MlpPart::fit(views, targets, groups, &options.mlp)),
        }
    }
}

/// Hyper-parameters of all kinds; the defaults were found by cross-validation over six sets of outcomes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct PartOptions {
    /// How many trees.
    pub trees: usize,
    /// Rows a leaf has at least.
    pub min_leaf: usize,
    /// Share of the columns a node tries.
    pub try_share: f32,
    /// Directions of words that trees see.
    pub tree_directions: usize,
    /// How much labels guide splits, against scores.
    pub label_weight: f32,
    /// How much experts that are not to be chosen guide splits.
    pub others_weight: f32,
    /// Of the logistic regression.
    pub label_penalty: f32,
    /// Of the linear part.
    pub words_penalty: f32,
    /// How many nearest texts.
    pub neighbours: usize,
    /// Of the network.
    pub mlp: MlpOptions,
    /// Repeats all of it.
    pub seed: u64,
}

impl Default for PartOptions {
    fn default() -> Self {
        Self {
            trees: 200,
            min_leaf: 10,
            try_share: 0.3,
            tree_directions: 64,
            label_weight: 1.0,
            others_weight: 1.0,
            label_penalty: 50.0,
            words_penalty: 4.0,
            neighbours: 80,
            mlp: MlpOptions::default(),
            seed: 0,
        }
    }
}
