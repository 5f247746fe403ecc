//! Kinds of router: what a person asks for, and the parts each is made of.

use clap::ValueEnum;
use serde::Serialize;

use crate::{
    mlp::MlpOptions,
    neural,
    parts::{PartKind, PartOptions, PartSpec},
    router::Meaning,
};

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RouterKind {
    /// The nearest training queries by embedding
    Knn,
    /// A small network on frozen embeddings
    Mlp,
    /// The encoder, fine-tuned
    Bert,
    /// Words, word pairs and surface: no encoder, microseconds
    Lexical,
    /// Trains them all, compares them by cross-validation, keeps or mixes what wins
    Auto,
}

/// What training brings near to what was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LossChoice {
    /// Who is best: softmax(T * score), as in the paper
    SoftLabel,
    /// How good each expert is
    Score,
    /// Whichever wins in cross-validation
    Auto,
}

/// A router that can be tried: parts, and what their sum means.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// As in `bundle.json`: `knn`, `mlp`, `lexical`, `mixture`.
    pub name: &'static str,
    /// What the parts' sum means; decides which targets they learn.
    pub meaning: Meaning,
    /// Its parts.
    pub specs: Vec<PartSpec>,
    /// The sum takes each part as it is, rather than with weights from cross-validation: a router of a single part that is its own.
    pub as_it_is: bool,
}

/// Numbers of neighbours that are tried.
pub const NEIGHBOURS: [usize; 5] = [20, 40, 80, 120, 160];

/// What recipes depend on.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// What was asked for.
    pub loss: LossChoice,
    /// Of soft labels.
    pub temperature: f32,
    /// The data has labels.
    pub labels: bool,
    /// There is an encoder.
    pub encoder: bool,
    /// `Auto` fine-tunes it too.
    pub tune: bool,
    /// Repeats all of it.
    pub seed: u64,
}

impl RouterKind {
    /// For people and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Knn => "knn",
            Self::Mlp => "mlp",
            Self::Bert => "bert",
            Self::Lexical => "lexical",
            Self::Auto => "auto",
        }
    }

    /// Whether it reads embeddings for sure.
    #[must_use]
    pub fn needs_encoder(self) -> bool {
        matches!(self, Self::Knn | Self::Mlp | Self::Bert)
    }

    /// What is tried for it.
    #[must_use]
    pub fn recipes(self, setting: &Setting) -> Vec<Recipe> {
        match self {
            Self::Lexical => losses(setting).into_iter().map(|meaning| lexical(meaning, setting)).collect(),
            Self::Knn => losses(setting).into_iter().flat_map(|meaning| neighbours(meaning, setting)).collect(),
            Self::Mlp => losses(setting).into_iter().map(|meaning| network(meaning, setting)).collect(),
            Self::Bert => vec![tuned(setting)],
            Self::Auto => {
                let mut all = Self::Lexical.recipes(setting);
                if setting.encoder {
                    all.extend(Self::Knn.recipes(setting));
                    all.extend(Self::Mlp.recipes(setting));
                    all.push(mixture(setting));
                    if setting.tune {
                        all.push(tuned(setting));
                        all.push(tuned_mixture(setting));
                    }
                }
                all
            }
        }
    }
}

fn losses(setting: &Setting) -> Vec<Meaning> {
    let shares = Meaning::Shares { temperature: setting.temperature };
    match setting.loss {
        LossChoice::Score => vec![Meaning::Scores],
        LossChoice::SoftLabel => vec![shares],
        LossChoice::Auto => vec![Meaning::Scores, shares],
    }
}

fn options(setting: &Setting) -> PartOptions {
    PartOptions { seed: setting.seed, ..PartOptions::default() }
}

fn lexical_kinds(setting: &Setting) -> Vec<PartKind> {
    if setting.labels { vec![PartKind::Trees, PartKind::Labels, PartKind::Words] } else { vec![PartKind::Trees, PartKind::Words] }
}

fn lexical(meaning: Meaning, setting: &Setting) -> Recipe {
    let specs = lexical_kinds(setting).into_iter().map(|kind| kind.with(options(setting))).collect();
    Recipe { name: "lexical", meaning, specs, as_it_is: false }
}

fn neighbours(meaning: Meaning, setting: &Setting) -> Vec<Recipe> {
    let with = |neighbours| {
        let spec = PartKind::EmbeddingNeighbours.with(PartOptions { neighbours, ..options(setting) });
        Recipe { name: "knn", meaning, specs: vec![spec], as_it_is: true }
    };
    NEIGHBOURS.into_iter().map(with).collect()
}

fn network(meaning: Meaning, setting: &Setting) -> Recipe {
    // A network learns scores behind the soft label, not its shares.
    let (meaning, loss) = match meaning {
        Meaning::Scores => (Meaning::Scores, neural::Loss::Score),
        Meaning::Shares { temperature } | Meaning::Logits { temperature } => {
            (Meaning::Logits { temperature }, neural::Loss::SoftLabel { temperature })
        }
    };
    let mlp = MlpOptions { loss, seed: setting.seed, ..MlpOptions::default() };
    Recipe { name: "mlp", meaning, specs: vec![PartKind::Mlp.with(PartOptions { mlp, ..options(setting) })], as_it_is: true }
}

/// All that helps, with what the encoder adds.
fn mixture(setting: &Setting) -> Recipe {
    let mut kinds = lexical_kinds(setting);
    kinds.extend([PartKind::EmbeddingTrees, PartKind::EmbeddingNeighbours]);
    if setting.labels {
        kinds.push(PartKind::EmbeddingLabels);
    }
    let specs = kinds.into_iter().map(|kind| kind.with(options(setting))).collect();
    Recipe { name: "mixture", meaning: Meaning::Scores, specs, as_it_is: false }
}

/// The encoder fine-tuned. One loss alone, for time; where none was asked for, that which does better with scores of 0 and 1.
fn tuned(setting: &Setting) -> Recipe {
    let meaning = match setting.loss {
        LossChoice::SoftLabel => Meaning::Logits { temperature: setting.temperature },
        LossChoice::Score | LossChoice::Auto => Meaning::Scores,
    };
    Recipe { name: "bert", meaning, specs: vec![PartKind::Bert.with(options(setting))], as_it_is: true }
}

/// What needs no encoder, with the fine-tuned one and trees that stand on it.
fn tuned_mixture(setting: &Setting) -> Recipe {
    let kinds = lexical_kinds(setting).into_iter().chain([PartKind::EmbeddingTrees, PartKind::Bert]);
    let specs = kinds.map(|kind| kind.with(options(setting))).collect();
    Recipe { name: "mixture", meaning: Meaning::Scores, specs, as_it_is: false }
}

/// Parts that stand on a fine-tuned encoder, in any of these recipes.
#[must_use]
pub fn on_tuned(recipes: &[Recipe]) -> Vec<PartSpec> {
    let mut specs = Vec::new();
    for spec in recipes.iter().filter(|recipe| recipe.is_tuned()).flat_map(|recipe| &recipe.specs) {
        if spec.needs_embedding() && !specs.contains(spec) {
            specs.push(*spec);
        }
    }
    specs
}

impl Recipe {
    /// Whether the encoder is fine-tuned for it. All its embeddings are then of that encoder.
    #[must_use]
    pub fn is_tuned(&self) -> bool {
        self.specs.iter().any(|spec| spec.kind.is_tuned())
    }

    /// Whether it reads embeddings as the published encoder makes them.
    #[must_use]
    pub fn reads_published(&self) -> bool {
        !self.is_tuned() && self.specs.iter().any(PartSpec::needs_embedding)
    }

    /// The parts by name, with what tells recipes of one kind apart.
    #[must_use]
    pub fn describe(&self) -> String {
        let loss = match self.meaning {
            Meaning::Scores => "score loss".to_owned(),
            Meaning::Shares { temperature } | Meaning::Logits { temperature } => format!("soft labels, T = {temperature}"),
        };
        match self.specs.as_slice() {
            [spec] if spec.kind == PartKind::EmbeddingNeighbours => {
                format!("{} of {} neighbours, {loss}", self.name, spec.options.neighbours)
            }
            specs if self.is_tuned() && specs.len() > 1 => format!("{} with the fine-tuned encoder, {loss}", self.name),
            _ => format!("{}, {loss}", self.name),
        }
    }
}
