//! Reading, one row at a time.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
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

/// Where a row stands.
#[derive(Debug, Clone)]
pub struct Place {
    /// Which file.
    pub path: Arc<Path>,
    /// Which line, from 1.
    pub line: usize,
}

impl Place {
    /// What is wrong there.
    #[must_use]
    pub fn problem(&self, problem: String) -> OutcomesError {
        OutcomesError::Row { path: self.path.to_path_buf(), line: self.line, problem }
    }
}

/// An iterator over the checked rows of a file, with their places.
pub struct Reader {
    /// Still to be read, the next one last.
    files: Vec<PathBuf>,
    place: Place,
    lines: Box<dyn BufRead>,
    seen: HashMap<String, Place>,
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
        let mut files = files(path).map_err(|source| OutcomesError::Open { path: path.into(), source })?;
        files.reverse();
        let place = Place { path: path.into(), line: 0 };
        let mut reader = Self { files, place, lines: Box::new(std::io::empty()), seen: HashMap::new(), buffer: Vec::new(), failed: false };
        reader.next_file()?;
        Ok(reader)
    }

    fn next_file(&mut self) -> Result<bool, OutcomesError> {
        let Some(path) = self.files.pop() else { return Ok(false) };
        self.lines = open(&path).map_err(|source| OutcomesError::Open { path: path.clone(), source })?;
        self.place = Place { path: path.into(), line: 0 };
        Ok(true)
    }

    /// The next line that is not blank; false at the end.
    fn next_line(&mut self) -> Result<bool, OutcomesError> {
        loop {
            self.place.line += 1;
            self.buffer.clear();
            let place = &self.place;
            let broken = |source| OutcomesError::Read { path: place.path.to_path_buf(), line: place.line, source };
            let mut limited = (&mut self.lines).take(MAX_LINE_BYTES as u64 + 1);
            let bytes = limited.read_until(b'\n', &mut self.buffer).map_err(broken)?;
            if bytes > MAX_LINE_BYTES {
                return Err(self.place.problem(format!("the line is longer than {} MiB", MAX_LINE_BYTES >> 20)));
            }
            if bytes == 0 && !self.next_file()? {
                return Ok(false);
            }
            if self.place.line == 1 {
                self.byte_order_mark()?;
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// Windows puts one before a file's first line, and may write in two bytes a letter.
    fn byte_order_mark(&mut self) -> Result<(), OutcomesError> {
        if self.buffer.starts_with(&[0xff, 0xfe]) || self.buffer.starts_with(&[0xfe, 0xff]) {
            return Err(self.place.problem("the file is UTF-16, expected UTF-8".into()));
        }
        if self.buffer.starts_with(&[0xef, 0xbb, 0xbf]) {
            self.buffer.drain(..3);
        }
        Ok(())
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
            self.place.problem(if field == "." || field == "?" {
                format!("{text} (column {column})")
            } else {
                format!("{field}: {text} (column {column})")
            })
        })?;
        json.end().map_err(|_| self.place.problem("more than one JSON value on the line".into()))?;
        row.check().map_err(|problem| self.place.problem(problem))?;
        if let Some(earlier) = self.seen.insert(row.id.clone(), self.place.clone()) {
            let file = if earlier.path == self.place.path { String::new() } else { format!(" of {}", earlier.path.display()) };
            return Err(self.place.problem(format!("id: `{}` is on line {}{file} already", row.id, earlier.line)));
        }
        Ok(row)
    }
}

impl Iterator for Reader {
    type Item = Result<(Place, Row), OutcomesError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.next_line().and_then(|more| if more { self.parse().map(|row| Some((self.place.clone(), row))) } else { Ok(None) });
        self.failed = item.is_err();
        item.transpose()
    }
}
