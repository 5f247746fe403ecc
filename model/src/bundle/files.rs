//! The files of a bundle, from a directory or a tar, each no longer than its kind may be.
//!
//! In: bytes nobody vouches for. Out: the files we know, by name. Others are passed over unread. No length in a header is believed: a
//! buffer grows with what really comes, up to the cap.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    path::{Component, Path},
};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::{BundleError, GRAPH, LEXICAL_ROWS, MANIFEST, TOKENIZER};

type Files = BTreeMap<&'static str, Vec<u8>>;

const MIB: u64 = 1 << 20;

/// The files a bundle may have, and how long each may be. An ONNX file cannot pass 2 GiB; a router's has no reason to come near.
const KNOWN: [(&str, u64); 4] = [(MANIFEST, 16 * MIB), (GRAPH, 1024 * MIB), (TOKENIZER, 64 * MIB), (LEXICAL_ROWS, 64 * MIB)];

/// All of a tar, other people's files in it included. More than this after gunzip is a bomb.
const MAX_TAR: u64 = 1536 * MIB;
const MAX_ENTRIES: usize = 1000;

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Reads a directory's files.
pub(super) fn directory(path: &Path) -> Result<Files, BundleError> {
    let mut files = Files::new();
    for (name, cap) in KNOWN {
        let file = path.join(name);
        match File::open(&file) {
            Ok(opened) => {
                files.insert(name, capped(name, opened, cap).map_err(|error| named(&file.display().to_string(), error))?);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BundleError::Read { file: file.display().to_string(), source }),
        }
    }
    Ok(files)
}

/// Reads a tar on disk.
pub(super) fn tar(path: &Path) -> Result<Files, BundleError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => tar_from(&name, file),
        Err(source) => Err(BundleError::Read { file: name, source }),
    }
}

/// Reads a tar, gunzipped if it begins as gzip does: names lie.
pub(super) fn tar_from(name: &str, reader: impl Read) -> Result<Files, BundleError> {
    let failed = |source| BundleError::Read { file: name.to_owned(), source };
    let mut reader = BufReader::new(reader);
    let mut magic = [0; 2];
    let mut filled = 0;
    while filled < magic.len() {
        match reader.read(&mut magic[filled..]).map_err(failed)? {
            0 => break,
            more => filled += more,
        }
    }
    let whole = io::Cursor::new(magic).take(filled as u64).chain(reader);
    match magic {
        [0x1f, 0x8b] => entries(name, GzDecoder::new(whole)),
        _ => entries(name, whole),
    }
}

fn entries(tar: &str, reader: impl Read) -> Result<Files, BundleError> {
    let failed = |source| BundleError::Read { file: tar.to_owned(), source };
    let mut archive = tar::Archive::new(reader.take(MAX_TAR));
    let mut found = Files::new();
    let mut folder = None;
    // Raw: else the library would read long names and extended headers into memory itself, as long as they say they are.
    for (index, entry) in archive.entries().map_err(failed)?.raw(true).enumerate() {
        let entry = entry.map_err(failed)?;
        if index >= MAX_ENTRIES {
            return Err(BundleError::invalid(tar, format!("more than {MAX_ENTRIES} entries")));
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = name_of(tar, &path, entry.header().entry_type(), &mut folder)? else { continue };
        let Some((name, cap)) = KNOWN.into_iter().find(|(known, _)| *known == name) else { continue };
        let bytes = capped(name, entry, cap).map_err(|error| named(&format!("{tar}: {path}"), error))?;
        if found.insert(name, bytes).is_some() {
            return Err(BundleError::invalid(tar, format!("{name} is there twice")));
        }
    }
    match found.is_empty() {
        true => Err(BundleError::invalid(tar, "no bundle: neither a directory nor a tar with bundle.json")),
        false => Ok(found),
    }
}

/// A regular file's name. Files may lie at the top or all in one folder, as `tar czf x.tar.gz folder` puts them.
fn name_of(tar: &str, path: &str, kind: EntryType, folder: &mut Option<String>) -> Result<Option<String>, BundleError> {
    let refused = |why: &str| Err(BundleError::invalid(tar, format!("{path:?}: {why}")));
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {}
        // What some tars write for each file (times to the nanosecond); our names and lengths need none of it.
        EntryType::XHeader | EntryType::XGlobalHeader | EntryType::Directory => return Ok(None),
        EntryType::GNULongName | EntryType::GNULongLink => return refused("a name longer than any file of a bundle has"),
        _ => return refused("neither a file nor a folder"),
    }
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return refused("a path that leads out of the bundle"),
        }
    }
    let Some(name) = parts.pop() else { return refused("an empty path") };
    if !KNOWN.iter().any(|(known, _)| *known == name) {
        return Ok(None);
    }
    let here = parts.join("/");
    match folder {
        Some(folder) if *folder != here => refused("files of one bundle in several folders"),
        _ if parts.len() > 1 => refused("deeper than one folder"),
        _ => {
            *folder = Some(here);
            Ok(Some(name))
        }
    }
}

enum Problem {
    Io(io::Error),
    TooLong(String),
}

fn capped(name: &str, reader: impl Read, cap: u64) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    reader.take(cap + 1).read_to_end(&mut bytes).map_err(Problem::Io)?;
    if bytes.len() as u64 > cap {
        return Err(Problem::TooLong(format!("{name} is longer than {} MiB", cap / MIB)));
    }
    Ok(bytes)
}

fn named(file: &str, problem: Problem) -> BundleError {
    match problem {
        Problem::Io(source) => BundleError::Read { file: file.to_owned(), source },
        Problem::TooLong(problem) => BundleError::invalid(file, problem),
    }
}
