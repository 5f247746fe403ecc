//! Reading, one row at a time.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use super::Row;

/// A line may be this long (64 MiB): long enough for any prompt, short enough not to fill memory with a file that is something else.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// What is wrong with an outcomes file.
#[derive(Debug, thiserror::Error)]
pub enum OutcomesError {
    /// The file could not be opened, or its compression not be recognised.
    #[error("cannot open {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Reading broke off: a truncated or damaged archive, or bytes that are not UTF-8.
    #[error("{}:{line}: cannot read on", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The line that could not be read.
        line: usize,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not a row, or a row that cannot be.
    #[error("{}:{line}: {problem}", path.display())]
    Row {
        /// Which file.
        path: PathBuf,
        /// Which line.
        line: usize,
        /// What is wrong, with the field's name.
        problem: String,
    },
    /// The file as a whole cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A row could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// An iterator over the checked rows of a file, with their line numbers.
pub struct Reader {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    line: usize,
    seen: HashMap<String, usize>,
    buffer: Vec<u8>,
    failed: bool,
}

/// Reads a whole file.
///
/// # Errors
/// The first thing wrong, by file and line; also a file without rows.
pub fn read(path: &Path) -> Result<Vec<Row>, OutcomesError> {
    let rows: Vec<Row> = Reader::open(path)?.map(|row| row.map(|(_, row)| row)).collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Err(OutcomesError::File { path: path.into(), problem: "has no rows".into() });
    }
    Ok(rows)
}

/// SHA-256 of a file's bytes, in hex: names the data a bundle was trained on.
///
/// # Errors
/// The file could not be read.
pub fn file_sha256(path: &Path) -> Result<String, OutcomesError> {
    use sha2::Digest;
    let mut hasher = sha2::Sha256::new();
    for file in files(path).map_err(|source| OutcomesError::Open { path: path.into(), source })? {
        File::open(&file)
            .and_then(|mut content| std::io::copy(&mut content, &mut hasher))
            .map_err(|source| OutcomesError::Open { path: file.clone(), source })?;
    }
    Ok(hex::encode(hasher.finalize()))
}

/// The file; or those of a folder, less what is still being written.
fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let is_one = |name: &str| !name.starts_with('.') && [".jsonl", ".jsonl.gz", ".jsonl.zst"].iter().any(|ending| name.ends_with(ending));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_one) {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn open(path: &Path) -> std::io::Result<Box<dyn BufRead>> {
    let mut raw = BufReader::with_capacity(1 << 16, File::open(path)?);
    Ok(match raw.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(raw))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(BufReader::new(zstd::Decoder::with_buffer(raw)?)),
        _ => Box::new(raw),
    })
}

impl Reader {
    /// Opens a file; gzip and zstd are told by their first bytes, whatever the name. Of a folder, its files `*.jsonl` one after the other,
    /// by name: so a router keeps requests.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, OutcomesError> {
        let failed = |path: &Path, source| OutcomesError::Open { path: path.into(), source };
        let mut lines: Box<dyn BufRead> = Box::new(std::io::empty());
        for (at, file) in files(path).map_err(|source| failed(path, source))?.iter().enumerate() {
            let next = open(file).map_err(|source| failed(file, source))?;
            // A last line may lack its end.
            lines = if at == 0 { next } else { Box::new(lines.chain(&b"\n"[..]).chain(next)) };
        }
        Ok(Self { path: path.into(), lines, line: 0, seen: HashMap::new(), buffer: Vec::new(), failed: false })
    }

    /// The next line that is not blank; `None` at the end.
    fn next_line(&mut self) -> Result<bool, OutcomesError> {
        loop {
            self.line += 1;
            self.buffer.clear();
            let broken = |source| OutcomesError::Read { path: self.path.clone(), line: self.line, source };
            let mut limited = (&mut self.lines).take(MAX_LINE_BYTES as u64 + 1);
            let bytes = limited.read_until(b'\n', &mut self.buffer).map_err(broken)?;
            if bytes > MAX_LINE_BYTES {
                return Err(self.problem(format!("the line is longer than {} MiB", MAX_LINE_BYTES >> 20)));
            }
            if bytes == 0 {
                return Ok(false);
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn problem(&self, problem: String) -> OutcomesError {
        OutcomesError::Row { path: self.path.clone(), line: self.line, problem }
    }

    fn parse(&mut self) -> Result<Row, OutcomesError> {
        let mut json = serde_json::Deserializer::from_slice(self.buffer.trim_ascii_end());
        let row: Row = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = error.path().to_string();
            let inner = error.into_inner();
            // The line within the line says nothing.
            let text = inner.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            let column = inner.column();
            self.problem(if field == "." || field == "?" {
                format!("{text} (column {column})")
            } else {
                format!("{field}: {text} (column {column})")
            })
        })?;
        json.end().map_err(|_| self.problem("more than one JSON value on the line".into()))?;
        row.check().map_err(|problem| self.problem(problem))?;
        if let Some(earlier) = self.seen.insert(row.id.clone(), self.line) {
            return Err(self.problem(format!("id: `{}` is on line {earlier} already", row.id)));
        }
        Ok(row)
    }
}

impl Iterator for Reader {
    type Item = Result<(usize, Row), OutcomesError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.next_line().and_then(|more| if more { self.parse().map(|row| Some((self.line, row))) } else { Ok(None) });
        self.failed = item.is_err();
        item.transpose()
    }
}
