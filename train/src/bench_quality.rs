//! Arguments of the step.

use clap::Args;

/// Arguments of the step.
#[derive(Debug, Args)]
pub struct BenchQualityArgs {}

impl BenchQualityArgs {
    /// Does the step.
    ///
    /// # Errors
    /// What went wrong.
    pub fn run(self) -> anyhow::Result<()> {
        anyhow::bail!("this step is not built yet")
    }
}
