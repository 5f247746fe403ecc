//! Parameters of nodes, by kind.

use super::{Constant, messages};

/// Kinds as the format numbers them.
mod kind {
    pub(super) const FLOAT: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const STRING: i32 = 3;
    pub(super) const TENSOR: i32 = 4;
    pub(super) const FLOATS: i32 = 6;
    pub(super) const INTS: i32 = 7;
    pub(super) const STRINGS: i32 = 8;
}

/// A parameter of a node.
pub type Attribute = messages::Attribute;

fn attribute(name: &str, kind: i32) -> Attribute {
    Attribute { name: name.into(), kind, ..Attribute::default() }
}

/// One integer.
#[must_use]
pub fn int(name: &str, value: i64) -> Attribute {
    Attribute { i: Some(value), ..attribute(name, kind::INT) }
}

/// One float.
#[must_use]
pub fn float(name: &str, value: f32) -> Attribute {
    Attribute { f: Some(value), ..attribute(name, kind::FLOAT) }
}

/// One string.
#[must_use]
pub fn string(name: &str, value: &str) -> Attribute {
    Attribute { s: Some(value.into()), ..attribute(name, kind::STRING) }
}

/// One tensor.
#[must_use]
pub fn tensor(name: &str, value: Constant) -> Attribute {
    Attribute { t: Some(value.into_message(String::new())), ..attribute(name, kind::TENSOR) }
}

/// Integers.
#[must_use]
pub fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute { ints: values.to_vec(), ..attribute(name, kind::INTS) }
}

/// Floats.
#[must_use]
pub fn floats(name: &str, values: &[f32]) -> Attribute {
    Attribute { floats: values.to_vec(), ..attribute(name, kind::FLOATS) }
}

/// Strings.
#[must_use]
pub fn strings(name: &str, values: &[&str]) -> Attribute {
    Attribute { strings: values.iter().map(|value| value.as_bytes().to_vec()).collect(), ..attribute(name, kind::STRINGS) }
}
