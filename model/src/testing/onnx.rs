//! As much of ONNX's format as three small graphs need, declared by hand. (The real writer is training's, which stands on this crate.)

use prost::Message;

use super::TABLE;
use crate::lexical::SURFACE;

const FLOAT: i32 = 1;
const INT64: i32 = 7;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<Operators>,
}

#[derive(Clone, PartialEq, Message)]
struct Operators {
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<ShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct ShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
}

/// Sizes of a matrix as the graph declares them; -1 is whatever comes.
type Shape = [i64; 2];

/// Free in both dimensions.
const FREE: Shape = [-1, -1];

/// A graph in the making; public calls change what a test is about.
#[derive(Default)]
pub(crate) struct Graph(GraphProto);

impl Graph {
    /// For each token its row of the table, where the mask says so; summed.
    pub(crate) fn of_tokens(output: &str) -> Self {
        let mut graph = Self::default();
        graph.input("input_ids", INT64, FREE);
        graph.input("attention_mask", INT64, FREE);
        graph.floats("table", &[8, 2], TABLE.as_flattened());
        graph.node("Gather", &["table", "input_ids"], "rows", &[]);
        graph.node("Cast", &["attention_mask"], "mask", &[("to", i64::from(FLOAT))]);
        graph.sum_weighted("rows", "mask", output);
        graph
    }

    /// For each word its row of a table, times its weight; summed. Row `n` of the table is row `n % 8` of the tests' table.
    pub(crate) fn of_words(rows: usize) -> Self {
        let mut graph = Self::default();
        graph.input("lexical_ids", INT64, FREE);
        graph.input("lexical_weights", FLOAT, FREE);
        let table: Vec<f32> = (0..rows).flat_map(|row| TABLE[row % 8]).collect();
        graph.floats("table", &[rows as i64, 2], &table);
        graph.node("Gather", &["table", "lexical_ids"], "rows", &[]);
        graph.sum_weighted("rows", "lexical_weights", "scores");
        graph
    }

    /// The sum of the surface's numbers for one expert, its negative for the other.
    pub(crate) fn of_surface() -> Self {
        let mut graph = Self::default();
        graph.input("surface", FLOAT, [-1, SURFACE as i64]);
        graph.floats("signs", &[SURFACE as i64, 2], &[1.0, -1.0].repeat(SURFACE));
        graph.node("MatMul", &["surface", "signs"], "scores", &[]);
        graph.output("scores", [-1, 2]);
        graph
    }

    /// Twice the scores as a second output, NaN for the second expert.
    pub(crate) fn with_output_tokens(mut self) -> Self {
        self.floats("factors", &[1, 2], &[2.0, f32::NAN]);
        self.node("Mul", &["scores", "factors"], "output_tokens", &[]);
        self.output("output_tokens", [-1, 2]);
        self
    }

    /// One more input, which nobody names.
    pub(crate) fn with_stray_input(mut self) -> Self {
        self.input("stray", FLOAT, FREE);
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let graph = GraphProto { name: "test".into(), ..self.0 };
        Model { ir_version: 8, graph: Some(graph), opset_import: vec![Operators { version: 17 }] }.encode_to_vec()
    }

    fn sum_weighted(&mut self, rows: &str, weights: &str, output: &str) {
        self.whole("last", &[2]);
        self.whole("middle", &[1]);
        self.node("Unsqueeze", &[weights, "last"], "column", &[]);
        self.node("Mul", &[rows, "column"], "weighted", &[]);
        self.node("ReduceSum", &["weighted", "middle"], output, &[("keepdims", 0)]);
        self.output(output, [-1, 2]);
    }

    fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) {
        const INT: i32 = 2;
        let attribute = attributes.iter().map(|(name, i)| Attribute { name: (*name).into(), i: Some(*i), kind: INT }).collect();
        let input = inputs.iter().map(|name| (*name).into()).collect();
        self.0.node.push(Node { input, output: vec![output.into()], op_type: operator.into(), attribute });
    }

    fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.initializer.push(Tensor { dims: dims.to_vec(), data_type: FLOAT, name: name.into(), raw_data });
    }

    fn whole(&mut self, name: &str, values: &[i64]) {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.initializer.push(Tensor { dims: vec![values.len() as i64], data_type: INT64, name: name.into(), raw_data });
    }

    fn input(&mut self, name: &str, element: i32, shape: Shape) {
        self.0.input.push(value(name, element, shape));
    }

    fn output(&mut self, name: &str, shape: Shape) {
        self.0.output.push(value(name, FLOAT, shape));
    }
}

fn value(name: &str, element: i32, shape: Shape) -> Value {
    let dim = |(index, size): (usize, i64)| match size {
        -1 => Dimension { value: None, name: Some(format!("{name}-{index}")) },
        size => Dimension { value: Some(size), name: None },
    };
    let shape = ShapeProto { dim: shape.into_iter().enumerate().map(dim).collect() };
    Value { name: name.into(), r#type: Some(Type { tensor: Some(TensorType { element, shape: Some(shape) }) }) }
}
