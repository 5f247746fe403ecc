//! ONNX Runtime: sessions made from bytes, a batch of rows to a matrix of outputs.
//!
//! In: a bundle's graph and table of inputs; rows. Out: scores. Deliberately absent: threads (a [`Network`] runs on whichever thread
//! calls, and ONNX Runtime has none of its own here) and queues.

mod feed;
mod runtime;
mod shared;

use std::path::Path;

use ort::{
    ep,
    session::{Session, builder::GraphOptimizationLevel},
    value::{Outlet, TensorElementType},
};

use crate::{
    Bundle, BundleError,
    bundle::{GRAPH, Output},
    features::Row,
    scorer::{RowScores, Scorer},
};
use feed::{Feed, Feeds};
use shared::SharedSession;

pub use runtime::{LIBRARY_VARIABLE, load as load_runtime};

/// A graph in ONNX Runtime. One serves all threads: the weights are there once.
#[derive(Debug)]
pub struct Network {
    session: SharedSession,
    feeds: Vec<Feed>,
    experts: usize,
    /// What log-probabilities are divided by; 1 for scores.
    temperature: f32,
    output_tokens: bool,
}

/// The output every router that knows lengths has.
const OUTPUT_TOKENS: &str = "output_tokens";

impl Network {
    /// Loads ONNX Runtime where no one has, and the graph; checks the graph's inputs and outputs against the bundle.
    ///
    /// # Errors
    /// What is wrong with the library or the graph.
    pub fn load(bundle: &Bundle, onnxruntime: Option<&Path>) -> Result<Self, BundleError> {
        let session = session(bundle, onnxruntime)?;
        let manifest = &bundle.manifest;
        let invalid = |problem: String| BundleError::invalid(GRAPH, problem);
        let feeds: Vec<Feed> = manifest.inputs.iter().map(Feed::new).collect();
        feed::check(&feeds, session.inputs()).map_err(invalid)?;
        let (name, temperature) = match manifest.output {
            Output::LogProbs { temperature } => ("log_probs", temperature as f32),
            Output::Scores => ("scores", 1.0),
        };
        let experts = manifest.experts.len();
        check_output(session.outputs(), name, experts).map_err(invalid)?;
        let output_tokens = session.outputs().iter().any(|output| output.name() == OUTPUT_TOKENS);
        let mut outputs = vec![name];
        if output_tokens {
            check_output(session.outputs(), OUTPUT_TOKENS, experts).map_err(invalid)?;
            outputs.push(OUTPUT_TOKENS);
        }
        let inputs: Vec<&str> = manifest.inputs.iter().map(crate::bundle::Input::name).collect();
        let session = SharedSession::new(&session, &inputs, &outputs).map_err(invalid)?;
        Ok(Self { session, feeds, experts, temperature, output_tokens })
    }

    fn run(&self, rows: &[&Row]) -> Result<Vec<RowScores>, String> {
        let feeds = Feeds::of(&self.feeds, rows);
        let cells = rows.len() * self.experts;
        // NaN: an output that is not written is an error, not a score of 0.
        let mut outputs = vec![vec![f32::NAN; cells]; 1 + usize::from(self.output_tokens)];
        self.session.run(&feeds, &mut outputs, [rows.len(), self.experts])?;
        let mut outputs = outputs.into_iter();
        let quality = outputs.next().unwrap_or_default();
        let output_tokens = outputs.next();
        let row = |index: usize| index * self.experts..(index + 1) * self.experts;
        let scores = (0..rows.len()).map(|index| RowScores {
            quality: quality[row(index)].iter().map(|value| value / self.temperature).collect(),
            output_tokens: output_tokens.as_ref().map(|tokens| tokens[row(index)].to_vec()),
        });
        Ok(scores.collect())
    }
}

impl Scorer for Network {
    fn score(&self, rows: &[&Row]) -> Result<Vec<RowScores>, String> {
        if rows.is_empty() { Ok(Vec::new()) } else { self.run(rows) }
    }
}

/// One thread, all optimisations. Shapes change with every batch, so patterns of memory are not planned; and no arena, which would keep
/// the largest batch's memory for ever: the allocator gives it back.
#[expect(clippy::result_large_err, reason = "ort's own errors carry the builder back")]
fn session(bundle: &Bundle, onnxruntime: Option<&Path>) -> Result<Session, BundleError> {
    let environment = load_runtime(onnxruntime).map_err(BundleError::Runtime)?;
    let invalid = |error: ort::Error| BundleError::invalid(GRAPH, error.message().to_owned());
    let builder = Session::builder(&environment).map_err(invalid)?;
    let configured = builder
        .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])
        .and_then(|builder| builder.with_optimization_level(GraphOptimizationLevel::All))
        .and_then(|builder| builder.with_intra_threads(1))
        .and_then(|builder| builder.with_inter_threads(1))
        .and_then(|builder| builder.with_memory_pattern(false));
    let mut builder = configured.map_err(|error| BundleError::Runtime(error.to_string()))?;
    builder.commit_from_memory(&bundle.graph).map_err(invalid)
}

fn check_output(outputs: &[Outlet], name: &str, experts: usize) -> Result<(), String> {
    let names = || outputs.iter().map(Outlet::name).collect::<Vec<_>>().join(", ");
    let output = outputs.iter().find(|output| output.name() == name);
    let output = output.ok_or_else(|| format!("the graph has no output {name}, only {}", names()))?;
    if output.dtype().tensor_type() != Some(TensorElementType::Float32) {
        return Err(format!("output {name} is {}, not a tensor of float32", output.dtype()));
    }
    match output.dtype().tensor_shape().map(|shape| shape.to_vec()).as_deref() {
        // A dimension below 0 is one that only a run will tell.
        Some([_, width]) if *width < 0 || *width == experts as i64 => Ok(()),
        Some(shape) => Err(format!("output {name} has shape {shape:?}, but the bundle names {experts} experts")),
        None => Err(format!("output {name} has no shape")),
    }
}
