//! The `expert-router` binary, built from the very sources under test.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::workspace;

/// Where it lies. Cargo gives a package the path of its own binaries only, so cargo is asked to build this one, and where it put it;
/// that costs a moment where it is built already. `EXPERT_ROUTER_BINARY` names another, as of a release.
pub(crate) fn expert_router() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| find().map_err(|error| format!("{error:#}"))).clone().map_err(|error| anyhow!(error))
}

fn find() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("EXPERT_ROUTER_BINARY").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--package", "sidecar", "--bin", "expert-router", "--message-format", "json-render-diagnostics"]);
    // What cargo tells a test about itself is not for this cargo: build scripts that look at it would run again each time, and all that
    // depends on them would be compiled again.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_about_this_package(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    // Errors of the compiler go where the test's own would.
    let output = command.current_dir(workspace()).stderr(Stdio::inherit()).output().context("running cargo")?;
    if !output.status.success() {
        bail!("expert-router does not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let executable = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == "expert-router";
        message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
    });
    executable.context("cargo did not say where expert-router is")
}

fn is_about_this_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "OUT_DIR"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
