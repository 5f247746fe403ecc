//! `publish`: a bundle, with its evaluation and report, to where serving finds it.
//!
//! In: a bundle that was read and checked. Out: below the output a folder called after the bundle's digest, never changed again, with
//! `bundle/` and what was found about it; then `current.json`, which says which of these is in force. So a reader sees the old one or the
//! new one, whole. Published twice it is the same.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use model::{
    Bundle,
    bundle::{GRAPH, LEXICAL_ROWS, MANIFEST, TOKENIZER},
};
use serde::{Deserialize, Serialize};

use crate::store::{Store, join, readable_by_all, shown};

/// Says which bundle is in force.
pub const CURRENT: &str = "current.json";

/// The folder of a bundle's files below its digest's.
const BUNDLE: &str = "bundle";
const MOST: u64 = 1 << 31;

/// Examples:
///   expert-router-train publish --bundle bundle/ --output /models/chat
///   AWS_REGION=eu-central-1 expert-router-train publish --bundle bundle/ --with evaluation.json --with report/report.html --output s3://models/chat
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct PublishArgs {
    /// The bundle: a folder or a tar
    #[arg(long)]
    pub bundle: PathBuf,
    /// A file to put beside it, such as an evaluation or a report
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// Where to: a path, or an s3, gs or az URI
    #[arg(long)]
    pub output: String,
    /// A folder with the store's options as files, such as AWS_ACCESS_KEY_ID: a mounted Secret. They go before the environment's
    #[arg(long, value_name = "FOLDER")]
    pub credentials: Option<PathBuf>,
}

/// `current.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// SHA-256 in hex of the bundle's `bundle.json`.
    pub sha256: String,
    /// The bundle's folder, from that of `current.json`.
    pub bundle: String,
}

impl Current {
    /// The bundle's folder, as long as it is below this one.
    ///
    /// # Errors
    /// It leads elsewhere.
    pub fn path(&self) -> Result<&str> {
        let leads_below =
            self.bundle.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains(['?', '#', '\\']));
        if leads_below { Ok(&self.bundle) } else { bail!("bundle: {:?} is not a folder below", self.bundle) }
    }
}

impl PublishArgs {
    /// Does the step.
    ///
    /// # Errors
    /// The bundle is none, or cannot be written there; what was in force still is.
    pub fn run(self) -> Result<()> {
        let store = Store::open(self.credentials.as_deref())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a thread")?;
        let digest = runtime.block_on(publish(&store, &self.bundle, &self.with, &self.output))?;
        println!("{}", shown(&join(&self.output, &format!("{digest}/{BUNDLE}"))));
        Ok(())
    }
}

/// Publishes; returns the digest.
///
/// # Errors
/// See [`PublishArgs::run`].
pub async fn publish(store: &Store, bundle: &Path, with: &[PathBuf], output: &str) -> Result<String> {
    let read = Bundle::read(bundle).with_context(|| bundle.display().to_string())?;
    let digest = read.digest.clone();
    let mut files = files_of(bundle, &read)?;
    for path in with {
        let name = path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{}: not a file", path.display()))?;
        files.push((name.to_owned(), std::fs::read(path).with_context(|| path.display().to_string())?));
    }
    match local(output)? {
        Some(folder) => on_disk(&folder, &digest, &files)?,
        None => in_store(store, output, &digest, files).await?,
    }
    let current = Current { sha256: digest.clone(), bundle: format!("{digest}/{BUNDLE}") };
    let mut json = serde_json::to_vec_pretty(&current).context("writing JSON")?;
    json.push(b'\n');
    store.write(&join(output, CURRENT), json).await?;
    Ok(digest)
}

fn local(output: &str) -> Result<Option<PathBuf>> {
    match output.split_once("://") {
        None | Some(("file", _)) => Ok(Some(model::bundle::local_path(output)?)),
        Some(_) => Ok(None),
    }
}

/// A bundle's files by their path below the digest's folder, `bundle.json` last: who sees it finds the others there.
fn files_of(path: &Path, bundle: &Bundle) -> Result<Vec<(String, Vec<u8>)>> {
    let unpacked;
    let folder = if path.is_dir() {
        path
    } else {
        unpacked = tempfile::tempdir().context("making a temporary folder")?;
        let folder = unpacked.path().join(BUNDLE);
        bundle.write(&folder)?;
        &folder.clone()
    };
    let mut files = Vec::new();
    for name in [GRAPH, TOKENIZER, LEXICAL_ROWS, MANIFEST] {
        if name == MANIFEST || bundle.manifest.files.contains_key(name) {
            let file = folder.join(name);
            files.push((format!("{BUNDLE}/{name}"), std::fs::read(&file).with_context(|| file.display().to_string())?));
        }
    }
    Ok(files)
}

fn on_disk(output: &Path, digest: &str, files: &[(String, Vec<u8>)]) -> Result<()> {
    let target = output.join(digest);
    if Bundle::read(&target.join(BUNDLE)).is_ok_and(|there| there.digest == digest) {
        return Ok(());
    }
    let failed = || format!("writing {}", target.display());
    std::fs::create_dir_all(output).with_context(failed)?;
    let fresh = tempfile::Builder::new().prefix(".publish-").tempdir_in(output).with_context(failed)?;
    let folder = fresh.path().join(digest);
    for (name, bytes) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(failed)?;
        }
        std::fs::write(&path, bytes).and_then(|()| readable_by_all(&path)).with_context(failed)?;
        std::fs::File::open(&path).and_then(|file| file.sync_all()).with_context(failed)?;
    }
    for folder in [folder.clone(), folder.join(BUNDLE)] {
        readable_by_all(&folder).with_context(failed)?;
    }
    if target.exists() {
        // Something is there that is not the bundle its name says.
        std::fs::rename(&target, fresh.path().join("old")).with_context(failed)?;
    }
    std::fs::rename(&folder, &target).with_context(failed)
}

async fn in_store(store: &Store, output: &str, digest: &str, files: Vec<(String, Vec<u8>)>) -> Result<()> {
    let manifest = join(output, &format!("{digest}/{BUNDLE}/{MANIFEST}"));
    let (last, first): (Vec<_>, Vec<_>) = files.into_iter().partition(|(name, _)| name.ends_with(MANIFEST));
    for (name, bytes) in first.into_iter().chain(last) {
        store.write(&join(output, &format!("{digest}/{name}")), bytes).await?;
    }
    let written = store.read(&manifest, MOST).await?;
    let found = crate::job::sha256(&written);
    if found != digest {
        bail!("{}: expected SHA-256 {digest}, found {found} after writing it", shown(&manifest));
    }
    Ok(())
}
