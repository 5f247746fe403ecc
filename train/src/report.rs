//! The report: an evaluation as one HTML file with plots, which opens without a network and is readable in light and dark.
//!
//! In: an [`Evaluation`]. Out: `report.html`. The figures are those of the paper: score and NLL by data set; quality, cost and throughput
//! of every expert and router; score against cost; edge against cloud. A figure whose data is missing is left out.

mod colour;
mod page;
mod plots;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{evaluate::write_whole, evaluation::Evaluation};

/// The report's name in its folder.
pub const REPORT: &str = "report.html";

/// Writes the report into a folder; returns the file.
///
/// # Errors
/// The disk's, or a plot's.
pub fn write(evaluation: &Evaluation, folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(REPORT);
    write_whole(&path, html(evaluation)?.as_bytes())?;
    Ok(path)
}

/// The report's text.
///
/// # Errors
/// A plot's.
pub fn html(evaluation: &Evaluation) -> Result<String> {
    let figures = [
        plots::score_by_dataset(evaluation)?,
        plots::nll_by_dataset(evaluation)?,
        plots::quality_cost_throughput(evaluation)?,
        plots::score_against_cost(evaluation)?,
        plots::edge_against_cloud(evaluation)?,
    ];
    Ok(page::page(evaluation, &figures.into_iter().flatten().collect::<Vec<_>>()))
}
