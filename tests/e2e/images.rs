//! The images of a run, and putting them into the nodes.

use crate::options::Options;

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
