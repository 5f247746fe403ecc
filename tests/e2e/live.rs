//! How soon a change decides requests.

use anyhow::Result;

use crate::{cluster::Cluster, report::Report, whole_loop::Installed};

/// Measures it.
pub(crate) async fn run(_cluster: &Cluster, _installed: &Installed, _report: &mut Report) -> Result<()> {
    Ok(())
}
