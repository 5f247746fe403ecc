//! What stands on a fine-tuned encoder.

use std::sync::Arc;

use ndarray::Array2;

use super::memory::Memory;
use crate::{
    neural::Head,
    onnx::{GraphBuilder, Value},
    parts::{GraphViews, Part},
    views::Views,
};

/// The layer behind a fine-tuned encoder, and the neighbours beside it.
#[derive(Debug, Clone)]
pub struct BertPart {
    pub(super) head: Head,
    pub(super) memory: Option<Arc<Memory>>,
}

impl BertPart {
    pub(super) fn deviation(&self, embeddings: &Array2<f32>) -> Array2<f32> {
        let layer = self.head.deviation(embeddings.view());
        match &self.memory {
            Some(memory) => memory.mixed(layer, embeddings),
            None => layer,
        }
    }

    pub(super) fn nodes(&self, graph: &mut GraphBuilder, embedding: &Value) -> (Value, Option<Value>) {
        let (layer, tokens) = self.head.export(graph, embedding);
        match &self.memory {
            Some(memory) => (memory.export(graph, &layer, embedding), tokens),
            None => (layer, tokens),
        }
    }
}

impl Part for BertPart {
    fn predict(&self, views: &Views) -> Array2<f32> {
        self.deviation(views.embedding.as_ref().expect("the fine-tuned encoder's embeddings"))
    }

    fn output_tokens(&self, views: &Views) -> Option<Array2<f32>> {
        self.head.output_tokens(views.embedding.as_ref().expect("as in predict").view())
    }

    fn export(&self, graph: &mut GraphBuilder, inputs: &GraphViews) -> (Value, Option<Value>) {
        self.nodes(graph, inputs.embedding.as_ref().expect("the fine-tuned encoder's embedding"))
    }
}
