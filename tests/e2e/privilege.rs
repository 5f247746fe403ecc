//! Who may do what.

use anyhow::Result;

use crate::{cluster::Cluster, report::Report, whole_loop::Installed};

/// Checks it.
pub(crate) async fn run(_cluster: &Cluster, _installed: &Installed, _report: &mut Report) -> Result<()> {
    Ok(())
}
