//! Rows to the tensors of a batch, by the bundle's table of inputs.

use ort::value::{Outlet, TensorElementType};

use crate::{bundle::Input, features::Row, lexical::SURFACE};

/// One input of the graph, and how a row fills it.
#[derive(Debug)]
pub(super) struct Feed {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    TokenIds,
    TokenMask,
    TokenTypes,
    LexicalIds,
    LexicalWeights,
    Surface,
}

/// The inputs of one batch.
#[derive(Debug)]
pub(super) struct Feeds {
    pub(super) tensors: Vec<Tensor>,
}

/// `[batch, width]`, row by row.
#[derive(Debug)]
pub(super) enum Tensor {
    Whole([usize; 2], Vec<i64>),
    Real([usize; 2], Vec<f32>),
}

impl Feed {
    pub(super) fn new(input: &Input) -> Self {
        let kind = match input {
            Input::InputIds { .. } => Kind::TokenIds,
            Input::AttentionMask { .. } => Kind::TokenMask,
            Input::TokenTypeIds { .. } => Kind::TokenTypes,
            Input::LexicalIds { .. } => Kind::LexicalIds,
            Input::LexicalWeights { .. } => Kind::LexicalWeights,
            Input::Surface { .. } => Kind::Surface,
        };
        Self { name: input.name().to_owned(), kind }
    }

    fn element(&self) -> TensorElementType {
        match self.kind {
            Kind::TokenIds | Kind::TokenMask | Kind::TokenTypes | Kind::LexicalIds => TensorElementType::Int64,
            Kind::LexicalWeights | Kind::Surface => TensorElementType::Float32,
        }
    }

    fn tensor(&self, rows: &[&Row]) -> Tensor {
        match self.kind {
            Kind::TokenIds => whole(rows, |row| row.tokens.len(), |row, out| out.copy_from_slice(&row.tokens)),
            Kind::TokenMask => whole(rows, |row| row.tokens.len(), |_, out| out.fill(1)),
            Kind::TokenTypes => whole(rows, |row| row.tokens.len(), |_, _| {}),
            Kind::LexicalIds => whole(rows, lexical_len, |row, out| {
                out.iter_mut().zip(&row.lexical.rows).for_each(|(out, id)| *out = i64::from(*id));
            }),
            Kind::LexicalWeights => real(rows, lexical_len, |row, out| out.copy_from_slice(&row.lexical.weights)),
            Kind::Surface => real(rows, |row| row.surface.len(), |row, out| out.copy_from_slice(&row.surface)),
        }
    }
}

impl Feeds {
    pub(super) fn of(feeds: &[Feed], rows: &[&Row]) -> Self {
        Self { tensors: feeds.iter().map(|feed| feed.tensor(rows)).collect() }
    }
}

/// Ids and weights must be of one length whatever made the row.
fn lexical_len(row: &Row) -> usize {
    row.lexical.rows.len().min(row.lexical.weights.len())
}

fn whole(rows: &[&Row], len: impl Fn(&Row) -> usize, fill: impl Fn(&Row, &mut [i64])) -> Tensor {
    let (shape, values) = padded(rows, len, fill);
    Tensor::Whole(shape, values)
}

fn real(rows: &[&Row], len: impl Fn(&Row) -> usize, fill: impl Fn(&Row, &mut [f32])) -> Tensor {
    let (shape, values) = padded(rows, len, fill);
    Tensor::Real(shape, values)
}

/// At least one wide: not every operator takes an empty tensor, and a text may have no word at all.
fn padded<T: Clone + Default>(rows: &[&Row], len: impl Fn(&Row) -> usize, fill: impl Fn(&Row, &mut [T])) -> ([usize; 2], Vec<T>) {
    let width = rows.iter().map(|row| len(row)).max().unwrap_or_default().max(1);
    let mut values = vec![T::default(); rows.len() * width];
    for (row, out) in rows.iter().zip(values.chunks_exact_mut(width)) {
        fill(row, &mut out[..len(row)]);
    }
    ([rows.len(), width], values)
}

/// That the graph reads what the bundle says, no more and no less.
pub(super) fn check(feeds: &[Feed], inputs: &[Outlet]) -> Result<(), String> {
    if let Some(input) = inputs.iter().find(|input| !feeds.iter().any(|feed| feed.name == input.name())) {
        return Err(format!("the graph reads {}, which bundle.json does not name", input.name()));
    }
    for feed in feeds {
        let name = &feed.name;
        let Some(input) = inputs.iter().find(|input| input.name() == name) else {
            return Err(format!("bundle.json names the input {name}, which the graph does not read"));
        };
        if input.dtype().tensor_type() != Some(feed.element()) {
            return Err(format!("input {name} is {}, not a tensor of {}", input.dtype(), feed.element()));
        }
        let width = match input.dtype().tensor_shape().map(|shape| shape.to_vec()).as_deref() {
            Some([batch, width]) if *batch < 0 => *width,
            Some(shape) => return Err(format!("input {name} has shape {shape:?}, not [batch, width] with a free batch")),
            None => return Err(format!("input {name} has no shape")),
        };
        let fits = width < 0 || (matches!(feed.kind, Kind::Surface) && width == SURFACE as i64);
        if !fits {
            return Err(format!("input {name} is {width} wide, which is not what the bundle's table gives"));
        }
    }
    Ok(())
}
