//! OpenTelemetry's Collector for the tests. There is no module of a finished one, so `otel-collector/main.go` puts one together from its
//! parts, which `go.mod` and `go.sum` beside it pin; it is built once (`xtask collector`). An `otelcol` that `PATH` has is used instead.

use std::env;
use std::path::PathBuf;

use crate::control_plane::Program;
use crate::place::{Missing, cache_folder, short_hash};

/// The pinned modules.
pub const GO_MODULE: &str = include_str!("../otel-collector/go.mod");
/// Their hashes.
pub const GO_SUMS: &str = include_str!("../otel-collector/go.sum");
/// The program itself.
pub const GO_MAIN: &str = include_str!("../otel-collector/main.go");

/// With an OTLP receiver, and an `otlp_http` exporter that can write JSON: any from 0.140 on.
pub const PROGRAM: Program = Program { name: "otelcol", package: "." };

/// Where what was built from these very files lies. A change of them makes it another folder.
pub fn built_folder() -> PathBuf {
    cache_folder().join("go").join(format!("otel-collector-{}", short_hash(&[GO_MODULE, GO_SUMS, GO_MAIN])))
}

/// The collector.
pub fn collector() -> Result<PathBuf, Missing> {
    let built = built_folder().join(PROGRAM.name);
    outside().unwrap_or_else(|| built.clone()).canonicalize().map_err(|_| Missing {
        name: PROGRAM.name.to_owned(),
        path: built,
        task: "collector",
    })
}

/// What has to be built, because nobody brought it and it was not built before.
pub fn to_build() -> Vec<Program> {
    if collector().is_err() { vec![PROGRAM] } else { Vec::new() }
}

/// One that was there before us.
fn outside() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(PROGRAM.name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_says_the_version_it_is_made_of() {
        let core = GO_MODULE.lines().find_map(|line| line.trim().strip_prefix("go.opentelemetry.io/collector/otelcol v")).unwrap();
        assert!(GO_MAIN.contains(&format!("Version: \"{core}\"")), "{core}");
    }

    #[test]
    fn what_is_not_there_names_the_command_that_builds_it() {
        let missing = Missing { name: PROGRAM.name.to_owned(), path: built_folder(), task: "collector" }.to_string();
        assert!(missing.contains("cargo run -p xtask -- collector"), "{missing}");
    }
}
