//! Prometheus for the tests: the server, and promtool, which checks rules and metrics. What `PATH` has is used (a distribution's package
//! does); else they are built once from the Go modules that `prometheus/go.mod` and `go.sum` pin (`xtask prometheus`).

use std::env;
use std::path::PathBuf;

use crate::control_plane::Program;
use crate::place::{Missing, cache_folder, short_hash};

/// The pinned modules.
pub const GO_MODULE: &str = include_str!("../prometheus/go.mod");
/// Their hashes.
pub const GO_SUMS: &str = include_str!("../prometheus/go.sum");

/// Any recent version of either does.
pub const PROGRAMS: [Program; 2] = [
    Program { name: "prometheus", package: "github.com/prometheus/prometheus/cmd/prometheus" },
    Program { name: "promtool", package: "github.com/prometheus/prometheus/cmd/promtool" },
];

/// Where what was built from these very modules lies. A change of the modules makes it another folder.
pub fn built_folder() -> PathBuf {
    cache_folder().join("go").join(format!("prometheus-{}", short_hash(&[GO_MODULE, GO_SUMS])))
}

/// The server or `promtool`.
pub fn prometheus(name: &str) -> Result<PathBuf, Missing> {
    let built = built_folder().join(name);
    outside(name).unwrap_or_else(|| built.clone()).canonicalize().map_err(|_| Missing {
        name: name.to_owned(),
        path: built,
        task: "prometheus",
    })
}

/// What has to be built, because nobody brought it and it was not built before.
pub fn to_build() -> Vec<Program> {
    PROGRAMS.into_iter().filter(|program| prometheus(program.name).is_err()).collect()
}

/// A program that was there before us.
fn outside(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_are_tools_of_the_pinned_module_and_no_other_is() {
        for program in PROGRAMS {
            assert!(GO_MODULE.lines().any(|line| line.trim() == program.package), "{program:?}");
        }
        assert_eq!(GO_MODULE.lines().filter(|line| line.starts_with('\t') && !line.contains(" v")).count(), PROGRAMS.len());
    }

    #[test]
    fn what_is_not_there_names_the_command_that_builds_it() {
        let missing = prometheus("promnothing").unwrap_err().to_string();
        assert!(missing.contains("cargo run -p xtask -- prometheus"), "{missing}");
    }
}
