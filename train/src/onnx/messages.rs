//! The part of ONNX's protobuf format that we write, declared by hand so that no protoc is needed. Field numbers are those of onnx.proto;
//! comments here say only what the format leaves open. Absent: everything about functions, training, sparse and external data.

use prost::Message;

/// A whole file.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// Version of the file format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Who wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// The network.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// Which version of which set of operators the nodes mean.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

/// A set of operators: the standard one has the empty domain.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Empty, or such as `ai.onnx.ml`.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Its version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// Nodes in an order in which they can be computed.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// Each after those it reads from.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Must not be empty.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// What a caller gives.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What a caller gets.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// One operation.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of values; an empty one is an optional input left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of values, each made by one node only.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// For people and profilers.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Such as `MatMul`.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Parameters fixed in the file.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// The set of operators that `op_type` is of.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A parameter of a node. Numbers are optional fields, for a plain field of value 0 would not be written, which readers take for absent.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// As the operator calls it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// One float.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// One integer.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// One string.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    /// One tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<Tensor>,
    /// Floats.
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// Strings.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    /// Which of the fields is meant; readers refuse an attribute without.
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

/// A constant. A scalar has no dimensions at all: one dimension of size 1 is a different thing, which some fusions of ONNX Runtime
/// take for a scalar and then fail at run time.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Its shape.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// An [`super::Element`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// The value's name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Little-endian, row by row.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

/// Name and type of an input or output.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// The value's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
}

/// A type; only tensors are used here.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// The tensor's.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// Element and shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// An [`super::Element`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// Its shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// A shape.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    /// From the outermost.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<ShapeDimension>,
}

/// A size, or the name of one that callers choose.
#[derive(Clone, PartialEq, Message)]
pub struct ShapeDimension {
    /// Fixed.
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    /// Free, and the same wherever it has the same name.
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}
