//! `xtask prometheus`: builds Prometheus and promtool from the Go modules that `parts` pins, once, into the user's cache folder; only what
//! `PATH` lacks. Ten minutes of one core, so where a distribution has a package (Debian's `prometheus`), that is quicker.

use anyhow::Result;
use parts::control_plane::Program;
use parts::prometheus::{GO_MODULE, GO_SUMS, PROGRAMS, built_folder, to_build};

use crate::go::{GO_RELEASE, Modules};

/// Examples: `xtask prometheus`, `xtask prometheus --own`
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Build it whatever PATH has: Debian's does not find Pods
    #[arg(long)]
    own: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let modules = Modules {
        about: "Prometheus (about 10 minutes of one core)",
        files: &[("go.mod", GO_MODULE), ("go.sum", GO_SUMS)],
        folder: built_folder(),
        link_flags: "-s -w".to_owned(),
        without_go: format!(
            "the tests run against a real Prometheus, and it is not here: install prometheus and promtool (Debian: apt-get install \
             prometheus), or Go {GO_RELEASE} (https://go.dev/dl) to build them"
        ),
        missing: if arguments.own { own_to_build } else { to_build },
    };
    modules.build()
}

fn own_to_build() -> Vec<Program> {
    PROGRAMS.into_iter().filter(|program| !built_folder().join(program.name).is_file()).collect()
}
