//! Networks trained by gradient descent: what `mlp.rs` and `bert.rs` share.

pub mod head;
pub mod loss;
pub(crate) mod objective;
pub(crate) mod ops;
pub(crate) mod optimiser;

pub use head::Head;
pub use loss::Loss;
