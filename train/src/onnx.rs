//! Writes ONNX graphs: a builder over the few messages of the format.
//!
//! In: operators by name, constants, and the values between them. Out: the bytes of `router.onnx`. A router made of parts (encoder,
//! lexical features, heads) is one builder that each part adds its nodes to; names never clash. Deliberately absent: running a graph
//! (`model::session`), checking operators against their definitions (ONNX Runtime does), and control flow.

pub mod attribute;
pub mod messages;

use std::collections::{BTreeMap, HashMap};

use prost::Message;

pub use attribute::{Attribute, float, floats, int, ints, string, strings, tensor};

/// Version of the standard operators: the last before types that older runtimes refuse.
const STANDARD_OPERATORS: i64 = 17;
/// Version of `ai.onnx.ml`, the one with tree ensembles as parallel arrays.
const ML_OPERATORS: i64 = 3;
/// Version of the file format that goes with them.
const IR_VERSION: i64 = 8;

/// A value in the graph: an input, a constant, or what a node makes. Only a builder gives them out, so none can be misspelt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// An optional input that is left out.
    #[must_use]
    pub fn absent() -> Self {
        Self(String::new())
    }

    /// Its name in the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// What a tensor is made of, numbered as in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Element {
    /// 32-bit float.
    F32 = 1,
    /// 8 bits without sign.
    U8 = 2,
    /// 8 bits with sign.
    I8 = 3,
    /// 32 bits with sign.
    I32 = 6,
    /// 64 bits with sign.
    I64 = 7,
    /// 16-bit float.
    F16 = 10,
}

/// Size of one dimension of an input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension<'a> {
    /// Always that.
    Fixed(usize),
    /// Callers choose; equal names are equal sizes.
    Named(&'a str),
}

/// A constant's shape and content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Constant {
    element: Element,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Constant {
    /// 32-bit floats. An empty shape is a scalar.
    ///
    /// # Panics
    /// Where the shape has another size than the values: a bug of the caller. So do the other constructors.
    #[must_use]
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        Self::new(Element::F32, shape, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// 16-bit floats, rounded.
    #[must_use]
    pub fn f16(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect();
        Self::new(Element::F16, shape, values.len(), bytes)
    }

    /// 8 bits with sign.
    #[must_use]
    pub fn i8(shape: &[usize], values: &[i8]) -> Self {
        Self::new(Element::I8, shape, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// 8 bits without sign.
    #[must_use]
    pub fn u8(shape: &[usize], values: &[u8]) -> Self {
        Self::new(Element::U8, shape, values.len(), values.to_vec())
    }

    /// 32 bits with sign.
    #[must_use]
    pub fn i32(shape: &[usize], values: &[i32]) -> Self {
        Self::new(Element::I32, shape, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// 64 bits with sign.
    #[must_use]
    pub fn i64(shape: &[usize], values: &[i64]) -> Self {
        Self::new(Element::I64, shape, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn new(element: Element, shape: &[usize], count: usize, bytes: Vec<u8>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), count, "shape {shape:?} and number of values");
        Self { element, shape: shape.to_vec(), bytes }
    }

    fn into_message(self, name: String) -> messages::Tensor {
        let dims = self.shape.iter().map(|size| *size as i64).collect();
        messages::Tensor { dims, data_type: self.element as i32, name, raw_data: self.bytes }
    }
}

/// A graph in the making.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    graph: messages::Graph,
    /// How often a name was asked for.
    names: HashMap<String, usize>,
    /// Scalars and short shapes, which every layer needs again.
    small: HashMap<Constant, Value>,
    domains: BTreeMap<String, i64>,
}

impl GraphBuilder {
    /// An empty graph.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { graph: messages::Graph { name: name.into(), ..messages::Graph::default() }, ..Self::default() }
    }

    /// An input of the graph. Parts that read the same input share it.
    ///
    /// # Panics
    /// Where another part declared it with another type.
    pub fn input(&mut self, name: &str, element: Element, shape: &[Dimension<'_>]) -> Value {
        let info = value_info(name, element, shape);
        match self.graph.input.iter().find(|input| input.name == name) {
            Some(declared) => assert_eq!(*declared, info, "input {name} declared twice, differently"),
            None => {
                let unique = self.unique(name);
                assert_eq!(unique, name, "an inner value has the name of the input {name}");
                self.graph.input.push(info);
            }
        }
        Value(name.into())
    }

    /// Makes a value an output of the graph under that name.
    ///
    /// # Panics
    /// Where the name is taken.
    pub fn output(&mut self, name: &str, value: &Value, element: Element, shape: &[Dimension<'_>]) {
        let unique = self.unique(name);
        assert_eq!(unique, name, "another value has the name of the output {name}");
        self.graph.output.push(value_info(name, element, shape));
        self.push("Identity", &[value], Vec::new(), vec![unique]);
    }

    /// A constant; `name` is for people and becomes unique.
    pub fn constant(&mut self, name: &str, constant: Constant) -> Value {
        let name = self.unique(name);
        self.graph.initializer.push(constant.into_message(name.clone()));
        Value(name)
    }

    /// One float, without dimensions.
    pub fn scalar(&mut self, value: f32) -> Value {
        self.small("scalar", Constant::f32(&[], &[value]))
    }

    /// One integer, without dimensions.
    pub fn integer(&mut self, value: i64) -> Value {
        self.small("integer", Constant::i64(&[], &[value]))
    }

    /// A row of integers: a shape, axes, starts and ends.
    pub fn integers(&mut self, values: &[i64]) -> Value {
        self.small("integers", Constant::i64(&[values.len()], values))
    }

    fn small(&mut self, name: &str, constant: Constant) -> Value {
        if let Some(value) = self.small.get(&constant) {
            return value.clone();
        }
        let value = self.constant(name, constant.clone());
        self.small.insert(constant, value.clone());
        value
    }

    /// A node with one output and no parameters. The operator is its name, with the domain before it where that is not the standard
    /// one: `ai.onnx.ml.TreeEnsembleRegressor`.
    pub fn add(&mut self, operator: &str, inputs: &[&Value]) -> Value {
        self.add_with(operator, inputs, Vec::new())
    }

    /// A node with one output and parameters.
    pub fn add_with(&mut self, operator: &str, inputs: &[&Value], attributes: Vec<Attribute>) -> Value {
        self.add_many(operator, inputs, attributes, 1).swap_remove(0)
    }

    /// A node with several outputs.
    pub fn add_many(&mut self, operator: &str, inputs: &[&Value], attributes: Vec<Attribute>, outputs: usize) -> Vec<Value> {
        let (_, short) = split_operator(operator);
        let names: Vec<String> = (0..outputs).map(|_| self.unique(&short.to_lowercase())).collect();
        self.push(operator, inputs, attributes, names.clone());
        names.into_iter().map(Value).collect()
    }

    /// `value` as another element.
    pub fn cast(&mut self, value: &Value, element: Element) -> Value {
        self.add_with("Cast", &[value], vec![int("to", element as i64)])
    }

    /// `x * weight + bias`; the weight is `[in, out]`, as the operator wants it.
    pub fn linear(&mut self, x: &Value, weight: &Value, bias: &Value) -> Value {
        let product = self.add("MatMul", &[x, weight]);
        self.add("Add", &[&product, bias])
    }

    /// How many bytes the constants take, which is nearly the size of the file.
    #[must_use]
    pub fn constant_bytes(&self) -> usize {
        self.graph.initializer.iter().map(|tensor| tensor.raw_data.len()).sum()
    }

    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let standard = messages::OperatorSet { domain: String::new(), version: STANDARD_OPERATORS };
        let others = self.domains.iter().map(|(domain, version)| messages::OperatorSet { domain: domain.clone(), version: *version });
        let model = messages::Model {
            ir_version: IR_VERSION,
            producer_name: "expert-router-train".into(),
            graph: Some(self.graph.clone()),
            opset_import: std::iter::once(standard).chain(others).collect(),
        };
        model.encode_to_vec()
    }

    fn push(&mut self, operator: &str, inputs: &[&Value], attribute: Vec<Attribute>, output: Vec<String>) {
        let (domain, op_type) = split_operator(operator);
        if !domain.is_empty() {
            // Contributed operators have one version only.
            let version = if domain == "ai.onnx.ml" { ML_OPERATORS } else { 1 };
            self.domains.insert(domain.into(), version);
        }
        let input = inputs.iter().map(|value| value.0.clone()).collect();
        let name = format!("{op_type}_{}", self.graph.node.len());
        let node = messages::Node { input, output, name, op_type: op_type.into(), attribute, domain: domain.into() };
        self.graph.node.push(node);
    }

    fn unique(&mut self, name: &str) -> String {
        let mut candidate = name.to_owned();
        loop {
            let asked = self.names.entry(name.into()).or_default();
            if *asked > 0 {
                candidate = format!("{name}_{asked}");
            }
            *asked += 1;
            // `x_1` may have been asked for by that very name.
            if candidate == name || self.names.insert(candidate.clone(), 1).is_none() {
                return candidate;
            }
        }
    }
}

/// `ai.onnx.ml.Scaler` is `Scaler` of the domain `ai.onnx.ml`.
fn split_operator(operator: &str) -> (&str, &str) {
    operator.rsplit_once('.').unwrap_or(("", operator))
}

fn value_info(name: &str, element: Element, shape: &[Dimension<'_>]) -> messages::ValueInfo {
    let dim = shape
        .iter()
        .map(|dimension| match dimension {
            Dimension::Fixed(size) => messages::ShapeDimension { dim_value: Some(*size as i64), dim_param: None },
            Dimension::Named(name) => messages::ShapeDimension { dim_value: None, dim_param: Some((*name).into()) },
        })
        .collect();
    let tensor_type = messages::TensorType { elem_type: element as i32, shape: Some(messages::Shape { dim }) };
    messages::ValueInfo { name: name.into(), r#type: Some(messages::Type { tensor_type: Some(tensor_type) }) }
}

#[cfg(test)]
mod tests;
