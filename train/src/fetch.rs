//! `fetch`: a bundle from wherever it was published to a folder of this machine, checked, whole or not at all.
//!
//! In: an address (a folder with `bundle.json`, a tar of one, or a folder with `current.json`, which says where the bundle is), and the
//! digest it should have. Out: a folder that serving can read. A folder that is right already is left as it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use model::{
    Bundle,
    bundle::{GRAPH, LEXICAL_ROWS, MANIFEST, TOKENIZER},
};
use sha2::{Digest, Sha256};

use crate::{
    publish::{CURRENT, Current},
    store::{NotThere, Store, join, readable_by_all, shown},
};

const MIB: u64 = 1 << 20;
/// No file of a bundle is longer, nor a tar of one.
const MOST: u64 = 1536 * MIB;
const MOST_JSON: u64 = 16 * MIB;

/// Examples:
///   expert-router-train fetch --uri https://models.example.com/chat/bundle.tar.gz --sha256 3b0c... --out /models/chat
///   AWS_REGION=eu-central-1 expert-router-train fetch --uri s3://models/chat/3b0c.../bundle --sha256 3b0c... --out /models/chat
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct FetchArgs {
    /// Where the bundle is: a path, or a file, http, https, s3, gs or az URI, of its folder or of a tar (.tar, .tar.gz, .tgz)
    #[arg(long)]
    pub uri: String,
    /// SHA-256 in hex of a folder's bundle.json; of a tar, that or the tar's own. A bundle with another is refused
    #[arg(long, value_parser = sha256)]
    pub sha256: Option<String>,
    /// The folder to write. An older bundle there is replaced
    #[arg(long)]
    pub out: PathBuf,
    /// A folder with the store's options as files, such as AWS_ACCESS_KEY_ID: a mounted Secret. They go before the environment's
    #[arg(long, value_name = "FOLDER")]
    pub credentials: Option<PathBuf>,
}

fn sha256(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("expected 64 hexadecimal digits".to_owned()),
    }
}

impl FetchArgs {
    /// Does the step.
    ///
    /// # Errors
    /// The bundle cannot be had, or is not the one that was asked for; the folder is then as it was.
    pub fn run(self) -> Result<()> {
        let store = Store::open(self.credentials.as_deref())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a thread")?;
        let bundle = runtime.block_on(fetch(&store, &self.uri, self.sha256.as_deref(), &self.out))?;
        println!("{}: {} router, {} experts, {}", self.out.display(), bundle.manifest.router, bundle.manifest.experts.len(), bundle.digest);
        Ok(())
    }
}

/// A bundle's files as they came.
type Files = Vec<(&'static str, Vec<u8>)>;

/// Fetches, checks and puts in place.
///
/// # Errors
/// See [`FetchArgs::run`].
pub async fn fetch(store: &Store, uri: &str, sha256: Option<&str>, out: &Path) -> Result<Bundle> {
    if let (Some(wanted), Ok(bundle)) = (sha256, Bundle::read(out))
        && bundle.digest == wanted
    {
        return Ok(bundle);
    }
    refuse_to_clobber(out)?;
    let is_tar = [".tar", ".tar.gz", ".tgz"].iter().any(|ending| uri.split('?').next().unwrap_or_default().ends_with(ending));
    if is_tar {
        let bytes = store.read(uri, MOST).await?;
        let bundle = Bundle::read_tar(bytes.as_slice()).with_context(|| shown(uri))?;
        let of_tar = hex::encode(Sha256::digest(&bytes));
        if let Some(wanted) = sha256.filter(|wanted| **wanted != *of_tar && **wanted != *bundle.digest) {
            bail!("{}: expected SHA-256 {wanted}, found {of_tar} (and {} of its bundle.json)", shown(uri), bundle.digest);
        }
        bundle.write(out)?;
        return Ok(bundle);
    }
    let files = folder(store, uri, sha256).await?;
    put_in_place(&files, uri, out)
}

async fn folder(store: &Store, uri: &str, sha256: Option<&str>) -> Result<Files> {
    let (uri, manifest) = match store.read(&join(uri, MANIFEST), MOST_JSON).await {
        Err(error) if error.is::<NotThere>() => {
            let Ok(pointer) = store.read(&join(uri, CURRENT), MOST_JSON).await else { return Err(error) };
            let current: Current = serde_json::from_slice(&pointer).with_context(|| shown(&join(uri, CURRENT)))?;
            let uri = join(uri, current.path().with_context(|| shown(&join(uri, CURRENT)))?);
            let manifest = store.read(&join(&uri, MANIFEST), MOST_JSON).await?;
            (uri, manifest)
        }
        other => (uri.to_owned(), other?),
    };
    let found = hex::encode(Sha256::digest(&manifest));
    if let Some(wanted) = sha256.filter(|wanted| *wanted != found) {
        bail!("{}: expected SHA-256 {wanted}, found {found}", shown(&join(&uri, MANIFEST)));
    }
    // What else belongs to it, its own table says; the hashes are checked when it is read.
    let named: serde_json::Value = serde_json::from_slice(&manifest).with_context(|| shown(&join(&uri, MANIFEST)))?;
    let mut files = Vec::new();
    for name in [GRAPH, TOKENIZER, LEXICAL_ROWS] {
        if named["files"].get(name).is_some() {
            files.push((name, store.read(&join(&uri, name), MOST).await?));
        }
    }
    files.push((MANIFEST, manifest));
    Ok(files)
}

/// Written beside its place, read back, then renamed.
fn put_in_place(files: &Files, uri: &str, out: &Path) -> Result<Bundle> {
    let failed = || format!("writing {}", out.display());
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).with_context(failed)?;
    let fresh = tempfile::Builder::new().prefix(".fetch-").tempdir_in(parent).with_context(failed)?;
    let folder = fresh.path().join("bundle");
    std::fs::create_dir(&folder).with_context(failed)?;
    readable_by_all(&folder).with_context(failed)?;
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::write(&path, bytes).and_then(|()| readable_by_all(&path)).with_context(failed)?;
        std::fs::File::open(&path).and_then(|file| file.sync_all()).with_context(failed)?;
    }
    let bundle = Bundle::read(&folder).with_context(|| shown(uri))?;
    if out.exists() {
        // A folder that is not empty cannot be renamed over.
        std::fs::rename(out, fresh.path().join("old")).with_context(failed)?;
    }
    std::fs::rename(&folder, out).with_context(failed)?;
    Ok(bundle)
}

/// Only nothing, an empty folder, or a bundle may be replaced: never somebody's home.
pub(crate) fn refuse_to_clobber(out: &Path) -> Result<()> {
    match std::fs::read_dir(out) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| out.display().to_string()),
        Ok(mut entries) => match entries.next().is_none() || out.join(MANIFEST).is_file() {
            true => Ok(()),
            false => bail!("{}: the folder is not empty and no bundle; it is left as it is", out.display()),
        },
    }
}
