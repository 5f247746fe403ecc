//! What a run found, as `report.md`.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::options::Options;

/// Sections in the order they came.
pub(crate) struct Report {
    path: PathBuf,
    sections: Vec<(String, String)>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        Self { path: options.output.join("report.md"), sections: Vec::new() }
    }

    /// Adds a section of Markdown.
    pub(crate) fn section(&mut self, title: &str, text: &str) {
        self.sections.push((title.to_owned(), text.to_owned()));
    }

    pub(crate) fn write(&self) -> Result<()> {
        let text: String = self.sections.iter().map(|(title, text)| format!("## {title}\n\n{text}\n\n")).collect();
        fs::write(&self.path, text).with_context(|| format!("writing {}", self.path.display()))
    }
}
