//! The RouterModel controller: `dereference -> validate -> plan -> apply -> status`.

use std::sync::Arc;

use api::RouterModel;
use kube::{core::DeserializeGuard, runtime::controller::Action};

use crate::context::{Context, Error};

/// One visit.
///
/// # Errors
/// What the API server refused; it is tried again.
pub async fn reconcile(_model: Arc<DeserializeGuard<RouterModel>>, _context: Arc<Context>) -> Result<Action, Error> {
    Ok(Action::await_change())
}
