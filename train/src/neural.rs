//! Networks trained by gradient descent, on candle.

pub(crate) mod ops;
pub(crate) mod optimiser;
