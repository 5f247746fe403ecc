//! A router as an ONNX graph, and the bundle round it.

use model::{
    Bundle, Manifest, TextRules,
    bundle::{FORMAT_VERSION, Input},
    lexical::{SURFACE, SURFACE_VERSION},
};

use super::{ExportError, LEAST_SHARE, Meaning, Router};
use crate::{
    encoder::Encoder,
    onnx::{Constant, Dimension, Element, GraphBuilder, Value, int, ints},
    parts::{GraphViews, export_rows},
};

/// Names of the graph's inputs.
const LEXICAL_IDS: &str = "lexical_ids";
const LEXICAL_WEIGHTS: &str = "lexical_weights";
const SURFACE_INPUT: &str = "surface";

impl Router {
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
        let (name, predicted) = self.predicted(graph, sum);
        graph.output(name, &predicted, Element::F32, &shape);
        if let Some(tokens) = output_tokens {
            let tokens = self.known_tokens(graph, tokens);
            graph.output("output_tokens", &tokens, Element::F32, &shape);
        }
    }

    /// NaN for experts whose answers nobody counted: what a part says of them means nothing, and 0 would make them free.
    fn known_tokens(&self, graph: &mut GraphBuilder, tokens: Value) -> Value {
        if self.experts.iter().all(|expert| expert.mean_output_tokens.is_some()) {
            return tokens;
        }
        let unknown: Vec<f32> =
            self.experts.iter().map(|expert| if expert.mean_output_tokens.is_some() { 0.0 } else { f32::NAN }).collect();
        let unknown = graph.constant("unknown_tokens", Constant::f32(&[1, unknown.len()], &unknown));
        graph.add("Add", &[&tokens, &unknown])
    }

    /// What the sum means, as the bundle tells it, with the name it tells it under.
    fn predicted(&self, graph: &mut GraphBuilder, sum: Value) -> (&'static str, Value) {
        match self.meaning {
            Meaning::Scores => ("scores", self.favoured(graph, sum, 1.0)),
            Meaning::Shares { temperature } => {
                let least = graph.scalar(LEAST_SHARE);
                let shares = graph.add("Max", &[&sum, &least]);
                let logs = graph.add("Log", &[&shares]);
                ("log_probs", self.favoured(graph, logs, temperature))
            }
            Meaning::Logits { temperature } => {
                let scale = graph.scalar(temperature);
                let logits = graph.add("Mul", &[&sum, &scale]);
                let logits = self.favoured(graph, logits, temperature);
                ("log_probs", graph.add_with("LogSoftmax", &[&logits], vec![int("axis", 1)]))
            }
        }
    }

    /// With what is added to each expert's score, in units of `scale`.
    fn favoured(&self, graph: &mut GraphBuilder, value: Value, scale: f32) -> Value {
        if self.favour.iter().all(|favour| *favour == 0.0) {
            return value;
        }
        let favour = Constant::f32(&[1, self.favour.len()], &(&self.favour * scale).to_vec());
        let favour = graph.constant("favour", favour);
        graph.add("Add", &[&value, &favour])
    }
}

/// `row`, `[1, columns]`, once for each row of `batch`.
fn for_each_row(graph: &mut GraphBuilder, batch: &Value, row: &Value) -> Value {
    let zero = graph.scalar(0.0);
    let nothing = graph.add("Mul", &[batch, &zero]);
    let nothing = graph.add_with("ReduceMax", &[&nothing], vec![ints("axes", &[1]), int("keepdims", 1)]);
    graph.add("Add", &[&nothing, row])
}

/// Rows scaled to length 1.
fn normalised(graph: &mut GraphBuilder, value: &Value) -> Value {
    let length = graph.add_with("ReduceL2", &[value], vec![ints("axes", &[1]), int("keepdims", 1)]);
    let least = graph.scalar(1e-9);
    let length = graph.add("Max", &[&length, &least]);
    graph.add("Div", &[value, &length])
}
