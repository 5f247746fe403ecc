//! Writing, whole or not at all.

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{OutcomesError, Row};

/// Writes rows to a temporary sibling; [`Writer::finish`] puts it in place. Dropped before that, it leaves nothing behind.
pub struct Writer {
    path: PathBuf,
    file: NamedTempFile,
    encoder: Encoder,
}

/// Compression by the file's ending.
enum Encoder {
    Plain(BufWriter<std::fs::File>),
    Gzip(Box<flate2::write::GzEncoder<BufWriter<std::fs::File>>>),
    Zstd(Box<zstd::Encoder<'static, BufWriter<std::fs::File>>>),
}

impl Writer {
    /// Starts a file. `.gz` and `.zst` are compressed.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn create(path: &Path) -> Result<Self, OutcomesError> {
        let failed = |source| OutcomesError::Write { path: path.into(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(folder).map_err(failed)?;
        let bytes = BufWriter::new(file.reopen().map_err(failed)?);
        let encoder = match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => Encoder::Gzip(Box::new(flate2::write::GzEncoder::new(bytes, flate2::Compression::default()))),
            Some("zst") => Encoder::Zstd(Box::new(zstd::Encoder::new(bytes, 0).map_err(failed)?)),
            _ => Encoder::Plain(bytes),
        };
        Ok(Self { path: path.into(), file, encoder })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// The row cannot be written.
    pub fn write(&mut self, row: &Row) -> Result<(), OutcomesError> {
        let failed = |source| OutcomesError::Write { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(row).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        match &mut self.encoder {
            Encoder::Plain(bytes) => bytes.write_all(&line),
            Encoder::Gzip(bytes) => bytes.write_all(&line),
            Encoder::Zstd(bytes) => bytes.write_all(&line),
        }
        .map_err(failed)
    }

    /// Ends the compression, makes sure of the disk, and puts the file in place of an earlier one.
    ///
    /// # Errors
    /// The earlier file is untouched then.
    pub fn finish(self) -> Result<(), OutcomesError> {
        let Self { path, file, encoder } = self;
        let failed = |source| OutcomesError::Write { path: path.clone(), source };
        let mut bytes = match encoder {
            Encoder::Plain(bytes) => bytes,
            Encoder::Gzip(bytes) => bytes.finish().map_err(failed)?,
            Encoder::Zstd(bytes) => bytes.finish().map_err(failed)?,
        };
        bytes.flush().and_then(|()| bytes.get_ref().sync_all()).map_err(failed)?;
        set_mode(file.as_file()).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// Temporary files are private; a finished one is as any other.
fn set_mode(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}
