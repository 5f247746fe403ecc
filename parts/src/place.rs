//! Where the parts lie: `${XDG_CACHE_HOME:-~/.cache}/expert-router/parts/<name>-<version>/`. Looks at the disk, writes nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::table::{Part, REQUIREMENTS, by_name};

/// The task that brings most parts.
const FETCH: &str = "fetch";

/// A part that has not been fetched or built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The part's name.
    pub name: String,
    /// Where it should be.
    pub path: PathBuf,
    /// The task of `xtask` that brings it.
    pub task: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, path, task } = self;
        match *task {
            FETCH => write!(f, "{name} is not at {}: fetch it with `make fetch` or `cargo run -p xtask -- fetch {name}`", path.display()),
            task => write!(f, "{name} is not at {}: bring it with `cargo run -p xtask -- {task}`", path.display()),
        }
    }
}

impl std::error::Error for Missing {}

/// The project's folder in the user's cache.
pub fn cache_folder() -> PathBuf {
    users_cache().unwrap_or_else(std::env::temp_dir).join("expert-router")
}

fn users_cache() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(|| set("HOME").map(|home| home.join(".cache")))
}

/// The folder of a part in its pinned version, fetched or not.
pub fn part_folder(part: &Part) -> PathBuf {
    cache_folder().join("parts").join(format!("{}-{}", part.name, part.version))
}

/// A file of a part, by the part's name and the file's.
pub fn file(part: &str, name: &str) -> Result<PathBuf, Missing> {
    let path = match by_name(part) {
        Some(found) => part_folder(found).join(name),
        None => cache_folder().join("parts").join(part).join(name),
    };
    existing(part, path)
}

/// ONNX Runtime's shared library as it was fetched.
pub fn onnx_runtime() -> Result<PathBuf, Missing> {
    file("onnxruntime", "libonnxruntime.so")
}

/// The same, to be loaded where nobody names another: only out of a cache of the user's own, and not from a folder that anybody may write
/// to.
pub fn own_onnx_runtime() -> Option<PathBuf> {
    users_cache().and_then(|_| onnx_runtime().ok())
}

/// The Python that has OpenAI's SDK and llama.cpp's server.
pub fn python() -> Result<PathBuf, Missing> {
    existing("python", python_folder().join("bin").join("python"))
}

/// The folder of that Python's virtual environment. A change of the requirements makes it another one.
pub fn python_folder() -> PathBuf {
    cache_folder().join("parts").join(format!("python-{}", requirements_id()))
}

/// A short name for the very text of the requirements.
pub fn requirements_id() -> String {
    short_hash(&[REQUIREMENTS])
}

/// A short name for the very text of a list of versions (FNV-1a). It tells lists apart; it does not guard against forgery, for pip and
/// go check the hashes inside.
pub(crate) fn short_hash(texts: &[&str]) -> String {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = texts.iter().flat_map(|text| text.as_bytes()).fold(0xcbf2_9ce4_8422_2325, mix);
    format!("{hash:016x}")
}

fn existing(name: &str, path: PathBuf) -> Result<PathBuf, Missing> {
    if Path::new(&path).exists() { Ok(path) } else { Err(Missing { name: name.to_owned(), path, task: FETCH }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_nobody_knows_is_missing_and_the_message_names_the_command() {
        let missing = file("no-such-part", "x").unwrap_err();
        assert!(missing.to_string().contains("cargo run -p xtask -- fetch no-such-part"), "{missing}");
    }

    #[test]
    fn a_part_lies_in_a_folder_of_its_name_and_version() {
        let part = by_name("encoder").unwrap();
        assert!(part_folder(part).ends_with("expert-router/parts/encoder-0.1.0"));
        assert!(python_folder().ends_with(format!("parts/python-{}", requirements_id())));
    }
}
