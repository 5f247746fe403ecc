//! `xtask prometheus`: builds Prometheus and promtool from the Go modules that `parts` pins, once, into the user's cache folder; only what
//! `PATH` lacks. Ten minutes of one core, so where a distribution has a package (Debian's `prometheus`), that is quicker.

use anyhow::Result;
use parts::prometheus::{GO_MODULE, GO_SUMS, built_folder, to_build};

use crate::go::{GO_RELEASE, Modules};

pub(crate) fn run() -> Result<()> {
    let modules = Modules {
        about: "Prometheus (about 10 minutes of one core)",
        files: &[("go.mod", GO_MODULE), ("go.sum", GO_SUMS)],
        folder: built_folder(),
        link_flags: "-s -w".to_owned(),
        without_go: format!(
            "the tests run against a real Prometheus, and it is not here: install prometheus and promtool (Debian: apt-get install \
             prometheus), or Go {GO_RELEASE} (https://go.dev/dl) to build them"
        ),
        missing: to_build,
    };
    modules.build()
}
