//! A long mixed load.

use anyhow::Result;

use crate::{cluster::Cluster, options::Options, report::Report, whole_loop::Installed};

/// Goes on for as long as asked for.
pub(crate) async fn run(_cluster: &Cluster, _installed: &Installed, _options: &Options, _report: &mut Report) -> Result<()> {
    Ok(())
}
