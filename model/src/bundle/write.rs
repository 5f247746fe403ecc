//! A bundle to disk, whole or not at all: written beside its place, flushed, then renamed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use flate2::{Compression, write::GzEncoder};

use super::{Bundle, BundleError, GRAPH, Input, LEXICAL_ROWS, MANIFEST, Manifest, TOKENIZER, check, files};

/// The bytes of a bundle's files.
pub(super) struct Packed<'a> {
    /// `bundle.json`.
    pub(super) manifest: Vec<u8>,
    others: Vec<(&'static str, std::borrow::Cow<'a, [u8]>)>,
}

impl Packed<'_> {
    /// `bundle.json` last: who watches for it finds the others there.
    fn files(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.others.iter().map(|(name, bytes)| (*name, &**bytes)).chain([(MANIFEST, self.manifest.as_slice())])
    }
}

/// The files as they will be, with the hashes put into the manifest.
pub(super) fn pack<'a>(manifest: &mut Manifest, graph: &'a [u8], tokenizer: Option<&'a [u8]>) -> Result<Packed<'a>, BundleError> {
    check::graph(graph)?;
    let mut others = vec![(GRAPH, graph.into())];
    others.extend(tokenizer.map(|bytes| (TOKENIZER, bytes.into())));
    others.extend(rows(manifest).map(|bytes| (LEXICAL_ROWS, bytes.into())));
    manifest.format_version = super::FORMAT_VERSION;
    manifest.files =
        others.iter().map(|(name, bytes): &(&str, std::borrow::Cow<'_, [u8]>)| ((*name).to_owned(), files::sha256(bytes))).collect();
    let mut json = serde_json::to_vec_pretty(manifest).map_err(|error| BundleError::invalid(MANIFEST, error.to_string()))?;
    json.push(b'\n');
    Ok(Packed { manifest: json, others })
}

fn rows(manifest: &Manifest) -> Option<Vec<u8>> {
    manifest.inputs.iter().find_map(|input| match input {
        Input::LexicalIds { hash, .. } if !hash.rows.is_empty() => Some(hash.rows.iter().flat_map(|row| row.to_le_bytes()).collect()),
        _ => None,
    })
}

/// See [`Bundle::write`].
pub(super) fn directory(bundle: &Bundle, target: &Path) -> Result<(), BundleError> {
    let mut manifest = bundle.manifest.clone();
    let packed = pack(&mut manifest, &bundle.graph, bundle.tokenizer.as_deref())?;
    check::manifest(&manifest, bundle.tokenizer.is_some())?;
    refuse_to_clobber(target)?;
    let fresh = sibling(target)?;
    let written = write_files(&packed, &fresh).and_then(|()| replace(&fresh, target));
    if written.is_err() {
        // Best effort: the error to tell is the one that came first.
        let _ = fs::remove_dir_all(&fresh);
    }
    written
}

/// See [`Bundle::write_tar`].
pub(super) fn tar(bundle: &Bundle, target: &Path) -> Result<(), BundleError> {
    let mut manifest = bundle.manifest.clone();
    let packed = pack(&mut manifest, &bundle.graph, bundle.tokenizer.as_deref())?;
    check::manifest(&manifest, bundle.tokenizer.is_some())?;
    let fresh = sibling(target)?;
    let gzip = target.extension().is_some_and(|extension| extension == "gz" || extension == "tgz");
    let written = write_tar(&packed, &fresh, gzip).and_then(|()| fs::rename(&fresh, target));
    written.map_err(|source| {
        let _ = fs::remove_file(&fresh);
        failed(target, source)
    })
}

/// Only nothing, an empty folder, or a bundle may be replaced: never somebody's home.
fn refuse_to_clobber(target: &Path) -> Result<(), BundleError> {
    let problem = |problem: &str| Err(BundleError::invalid(target.display().to_string(), problem));
    match fs::read_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => problem("a file is there; a bundle is a folder"),
        Err(source) => Err(BundleError::Read { file: target.display().to_string(), source }),
        Ok(mut entries) => match entries.next().is_none() || target.join(MANIFEST).is_file() {
            true => Ok(()),
            false => problem("the folder is not empty and no bundle; it is left as it is"),
        },
    }
}

/// A name beside the target, of no use to anybody else.
fn sibling(target: &Path) -> Result<PathBuf, BundleError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = target.file_name() else {
        return Err(BundleError::invalid(target.display().to_string(), "not a path with a name"));
    };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let fresh = target.with_file_name(format!(".{}.{}.{count}.new", name.to_string_lossy(), process::id()));
    if let Some(parent) = fresh.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|source| failed(parent, source))?;
    }
    Ok(fresh)
}

fn write_files(packed: &Packed<'_>, folder: &Path) -> Result<(), BundleError> {
    fs::create_dir(folder).map_err(|source| failed(folder, source))?;
    for (name, bytes) in packed.files() {
        let path = folder.join(name);
        let written = File::create(&path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        written.map_err(|source| failed(&path, source))?;
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| failed(folder, source))
}

/// Puts the new folder in the old one's place. A folder that is not empty cannot be renamed over: the old one steps aside first, and
/// comes back if the new one cannot take its place.
fn replace(fresh: &Path, target: &Path) -> Result<(), BundleError> {
    let old = fresh.with_extension("old");
    match fs::rename(target, &old) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fs::rename(fresh, target).map_err(|source| failed(target, source)),
        Err(source) => return Err(failed(target, source)),
    }
    if let Err(source) = fs::rename(fresh, target) {
        let _ = fs::rename(&old, target);
        return Err(failed(target, source));
    }
    fs::remove_dir_all(&old).map_err(|source| failed(&old, source))
}

fn write_tar(packed: &Packed<'_>, path: &Path, gzip: bool) -> io::Result<()> {
    let file = io::BufWriter::new(File::create(path)?);
    let file = match gzip {
        true => append(packed, GzEncoder::new(file, Compression::default()))?.finish()?,
        false => append(packed, file)?,
    };
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn append<W: Write>(packed: &Packed<'_>, writer: W) -> io::Result<W> {
    let mut builder = tar::Builder::new(writer);
    for (name, bytes) in packed.files() {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        builder.append_data(&mut header, name, bytes)?;
    }
    builder.into_inner()
}

fn failed(path: &Path, source: io::Error) -> BundleError {
    BundleError::Write { file: path.display().to_string(), source }
}
