//! The images of a run: what they are called, and the archives that `xtask images --e2e` packs.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::options::Options;

/// What keeps a Pod's namespaces: never asked for by a Pod, so it is called the same everywhere.
pub(crate) const PAUSE: &str = "localhost/expert-router-pause:1";

/// Archives, by the names of their files.
const ARCHIVES: [&str; 8] = [
    "expert-router-pause",
    "expert-router",
    "expert-router-operator",
    "expert-router-train",
    "expert-router-replay",
    "expert-router-llm",
    "expert-router-prometheus",
    "expert-router-e2e",
];

/// The images that Pods of the run use, besides the chart's three. All of them run as nobody in particular, with a read-only root.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    /// `/usr/bin/e2e` (this program; `e2e load ...` is the load client), nothing else.
    pub(crate) e2e: String,
    /// `/usr/bin/expert-router-replay`.
    pub(crate) replay: String,
    /// llama.cpp's server with SmolLM2 inside, on port 8080 at `/v1`.
    pub(crate) llm: String,
    /// `/usr/bin/prometheus`.
    pub(crate) prometheus: String,
}

impl Images {
    /// What they are called.
    pub(crate) fn of(options: &Options) -> Self {
        let name = |image: &str| format!("{}/{image}:{}", options.repository, env!("CARGO_PKG_VERSION"));
        Self {
            e2e: name("expert-router-e2e"),
            replay: name("expert-router-replay"),
            llm: name("expert-router-llm"),
            prometheus: name("expert-router-prometheus"),
        }
    }
}

/// A packed image.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    pub(crate) path: PathBuf,
}

impl Archive {
    /// All that a run needs.
    pub(crate) fn all(options: &Options) -> Result<Vec<Self>> {
        let archive = |name: &str| Self { path: options.images.join(format!("{name}.tar")) };
        let archives: Vec<Self> = ARCHIVES.into_iter().map(archive).collect();
        for archive in &archives {
            ensure!(archive.path.is_file(), "{} is not there: pack it with `make e2e-images`", archive.path.display());
        }
        Ok(archives)
    }
}
