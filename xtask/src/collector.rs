//! `xtask collector`: builds OpenTelemetry's Collector from the Go modules that `parts` pins, once, into the user's cache folder; only where
//! `PATH` has no `otelcol`. Less than a minute of one core.

use anyhow::Result;
use parts::collector::{GO_MAIN, GO_MODULE, GO_SUMS, built_folder, to_build};

use crate::go::{GO_RELEASE, Modules};

pub(crate) fn run() -> Result<()> {
    let modules = Modules {
        about: "OpenTelemetry's Collector (about a minute of one core)",
        files: &[("go.mod", GO_MODULE), ("go.sum", GO_SUMS), ("main.go", GO_MAIN)],
        folder: built_folder(),
        link_flags: "-s -w".to_owned(),
        without_go: format!(
            "the tests send traces to a real OpenTelemetry Collector, and it is not here: install otelcol, or Go {GO_RELEASE} \
             (https://go.dev/dl) to build it"
        ),
        missing: to_build,
    };
    modules.build()
}
