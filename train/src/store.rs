//! Files by address: a path, `file://`, `http(s)://`, or an object of `s3://`, `gs://`, `az://`.
//!
//! In: an address, and credentials as the stores' usual environment variables or as files of those names. Out: bytes, never more than
//! was allowed. Writing goes to folders and object stores only. Credentials are never part of an error, nor is a URL's query, which
//! may be a signature.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt, path::Path as ObjectPath};
use reqwest::{StatusCode, Url};

/// Environment variables that are options of a store.
const PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];
const CONNECT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer.
const IDLE: Duration = Duration::from_secs(60);

/// Reads and writes files by address.
#[derive(Debug, Clone)]
pub struct Store {
    options: BTreeMap<String, String>,
}

/// A file that is not there, as against one that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{0}: there is no such file")]
pub struct NotThere(String);

/// Where an address leads.
enum Place {
    Disk(PathBuf),
    Web(Url),
    Object(Box<dyn ObjectStore>, ObjectPath),
}

impl Store {
    /// With the options of the environment, and over them those of a folder: the Secret of a store, mounted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(credentials: Option<&Path>) -> Result<Self> {
        let is_option = |name: &str| PREFIXES.iter().any(|prefix| name.to_ascii_uppercase().starts_with(prefix));
        let mut options: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| is_option(name))
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        if let Some(folder) = credentials {
            let failed = || format!("reading {}", folder.display());
            for entry in std::fs::read_dir(folder).with_context(failed)? {
                let entry = entry.with_context(failed)?;
                // A mounted Secret has folders of its own beside its keys.
                let Some(name) = entry.file_name().to_str().filter(|name| is_option(name)).map(str::to_ascii_lowercase) else { continue };
                let value = std::fs::read_to_string(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?;
                options.insert(name, value.trim().to_owned());
            }
        }
        // Somebody in this process may have been first; then theirs serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self { options })
    }

    /// A whole file of at most so many bytes.
    ///
    /// # Errors
    /// It is not there ([`NotThere`]), too long, or cannot be had.
    pub async fn read(&self, address: &str, most: u64) -> Result<Vec<u8>> {
        let shown = shown(address);
        match self.place(address)? {
            Place::Disk(path) => read_disk(&path, most),
            Place::Web(url) => {
                // Made only where it is needed: without any certificate authority on the machine there is none.
                let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(IDLE).build();
                let client = client.context("building an HTTP client")?;
                let asked = client.get(url).send().await.map_err(reqwest::Error::without_url).with_context(|| shown.clone())?;
                match asked.status() {
                    StatusCode::NOT_FOUND | StatusCode::GONE => bail!(NotThere(shown)),
                    status if !status.is_success() => bail!("{shown}: the server answers {status}"),
                    _ => {}
                }
                collect(asked.bytes_stream().map(|piece| piece.map_err(|error| anyhow!(error.without_url()))), most).await.context(shown)
            }
            Place::Object(store, path) => {
                let found = match store.get(&path).await {
                    Err(object_store::Error::NotFound { .. }) => bail!(NotThere(shown)),
                    other => other.with_context(|| shown.clone())?,
                };
                collect(found.into_stream().map(|piece| piece.map_err(|error| anyhow!(error))), most).await.context(shown)
            }
        }
    }

    /// Writes a whole file. On a disk it is there whole or not at all; an object store keeps that promise by itself.
    ///
    /// # Errors
    /// It cannot be written, or the address is one of the web.
    pub async fn write(&self, address: &str, bytes: Vec<u8>) -> Result<()> {
        let shown = shown(address);
        match self.place(address)? {
            Place::Disk(path) => write_disk(&path, &bytes),
            Place::Web(_) => bail!("{shown}: nothing is written to the web; give a folder, s3://, gs:// or az://"),
            Place::Object(store, path) => store.put(&path, bytes.into()).await.map(drop).context(shown),
        }
    }

    fn place(&self, address: &str) -> Result<Place> {
        let Some((scheme, _)) = address.split_once("://") else { return Ok(Place::Disk(address.into())) };
        if scheme == "file" {
            return Ok(Place::Disk(model::bundle::local_path(address)?));
        }
        let url = Url::parse(address).map_err(|error| anyhow!("{}: {error}", shown(address)))?;
        match scheme {
            "http" | "https" => Ok(Place::Web(url)),
            "s3" | "gs" | "az" => {
                let (store, path) = object_store::parse_url_opts(&url, &self.options).with_context(|| shown(address))?;
                Ok(Place::Object(store, path))
            }
            other => bail!("{}: {other} is none of file, http, https, s3, gs, az", shown(address)),
        }
    }
}

/// A file below an address that is a folder. A query stays at the end.
#[must_use]
pub fn join(address: &str, name: &str) -> String {
    let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    let joined = format!("{}/{name}", path.trim_end_matches('/'));
    query.map_or(joined.clone(), |query| format!("{joined}?{query}"))
}

/// An address as it may be shown: without its query, and without user and password.
#[must_use]
pub fn shown(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    match address.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
            format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or_default())
        }
        None => address.to_owned(),
    }
}

async fn collect<B: AsRef<[u8]>>(pieces: impl futures_util::Stream<Item = Result<B>>, most: u64) -> Result<Vec<u8>> {
    let mut pieces = std::pin::pin!(pieces);
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(piece?.as_ref());
        if bytes.len() as u64 > most {
            bail!("longer than {most} bytes");
        }
    }
    Ok(bytes)
}

fn read_disk(path: &Path, most: u64) -> Result<Vec<u8>> {
    let shown = || path.display().to_string();
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(NotThere(shown())),
        other => other.with_context(shown)?,
    };
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).with_context(shown)?;
    if bytes.len() as u64 > most {
        bail!("{}: longer than {most} bytes", shown());
    }
    Ok(bytes)
}

fn write_disk(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("writing {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).with_context(failed)?;
    readable_by_all(file.path()).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

/// Whether something is there that only can be written into: a device, a pipe, a link to what this process has open. A file put in its
/// place would be the end of it.
pub(crate) fn is_special(path: &Path) -> bool {
    let is_neither = |found: std::fs::Metadata| !found.is_file() && !found.is_dir();
    let is_device = path.starts_with("/dev") && !path.starts_with("/dev/shm");
    is_device || path.starts_with("/proc") || std::fs::metadata(path).is_ok_and(is_neither)
}

/// Who serves may be somebody else than who trained; what is temporary begins as its writer's alone.
pub(crate) fn readable_by_all(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if path.is_dir() { 0o775 } else { 0o664 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::{join, shown};

    #[test]
    fn names_go_before_the_query_and_the_query_is_not_shown() {
        assert_eq!(join("https://a/b/?sig=1", "c.json"), "https://a/b/c.json?sig=1");
        assert_eq!(join("/models/chat", "c.json"), "/models/chat/c.json");
        assert_eq!(shown("https://user:secret@a/b?sig=1#x"), "https://a/b");
        assert_eq!(shown("s3://bucket/key@1"), "s3://bucket/key@1");
        assert_eq!(shown("models/x"), "models/x");
    }
}
