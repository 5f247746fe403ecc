//! The ExpertRouter controller: `dereference -> validate -> plan -> apply -> status`.

pub mod spend;

use std::sync::Arc;

use api::ExpertRouter;
use kube::{core::DeserializeGuard, runtime::controller::Action};

use crate::{
    context::{Context, Error},
    owner::Owner,
};

/// Kept from one visit to the next, of all routers.
#[derive(Debug, Default)]
pub struct Routers {}

impl Routers {
    /// A router is no more.
    pub fn forget(&self, _: &Owner) {}
}

/// One visit.
///
/// # Errors
/// What the API server refused; it is tried again.
pub async fn reconcile(_router: Arc<DeserializeGuard<ExpertRouter>>, _context: Arc<Context>) -> Result<Action, Error> {
    Ok(Action::await_change())
}
