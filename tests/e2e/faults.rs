//! What breaks, and what is lost by it.

use anyhow::Result;

use crate::{cluster::Cluster, report::Report, whole_loop::Installed};

/// Breaks one thing after another under constant load.
pub(crate) async fn run(_cluster: &Cluster, _installed: &Installed, _report: &mut Report) -> Result<()> {
    Ok(())
}
