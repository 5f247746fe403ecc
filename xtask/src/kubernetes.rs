//! `xtask kubernetes`: builds the programs of Kubernetes' control plane from the Go modules that `parts` pins, once, into the user's
//! cache folder; only those that neither `KUBEBUILDER_ASSETS` nor `PATH` has. A quarter of an hour of one core, so it can go on beside
//! another command: `xtask kubernetes -- cargo test --no-run`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parts::control_plane::{GO_MODULE, GO_SUMS, KUBERNETES, Program, built_folder, to_build};

use crate::fetch::lock;

/// What these modules were seen to work with: Kubernetes 1.36 compiles with 1.27, but then serves a broken OpenAPI document.
const GO_RELEASE: &str = "1.26";
/// Where another Go is at hand, it is told to bring this one.
const GO_TOOLCHAIN: &str = "go1.26.8";
/// How often a person who waits is told that work goes on.
const REPORT_EVERY: Duration = Duration::from_secs(20);

/// Examples: `xtask kubernetes`, `xtask kubernetes -- cargo test --no-run --workspace`
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A command to run meanwhile
    #[arg(last = true, value_name = "COMMAND")]
    beside: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut beside = None;
    if let [program, rest @ ..] = arguments.beside.as_slice() {
        let child = Command::new(program).args(rest).spawn().with_context(|| format!("starting {program}"))?;
        beside = Some((program, child));
    }
    let built = build();
    if let Some((program, mut child)) = beside {
        let status = child.wait().with_context(|| format!("waiting for {program}"))?;
        if !status.success() {
            bail!("{} failed: {status}", arguments.beside.join(" "));
        }
    }
    built
}

fn build() -> Result<()> {
    if to_build().is_empty() {
        return Ok(());
    }
    let go = Go::find()?;
    let folder = built_folder();
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let _lock = lock(&folder)?;
    // Another process may have built them while this one waited.
    let programs = to_build();
    let module = folder.join("module");
    fs::create_dir_all(&module).with_context(|| format!("making {}", module.display()))?;
    for (name, content) in [("go.mod", GO_MODULE), ("go.sum", GO_SUMS)] {
        fs::write(module.join(name), content).with_context(|| format!("writing {name}"))?;
    }
    if !programs.is_empty() {
        println!("building Kubernetes' control plane, once: {} programs, about 15 minutes of one core", programs.len());
    }
    for (index, program) in programs.iter().enumerate() {
        go.build(program, &module, &folder, &format!("{} of {}", index + 1, programs.len()))?;
    }
    Ok(())
}

/// The Go that builds.
struct Go {
    /// Set where the Go at hand is of another release.
    toolchain: Option<&'static str>,
}

impl Go {
    fn find() -> Result<Self> {
        let output = Command::new("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output();
        let version = match output {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            _ => bail!(
                "the tests run against a real Kubernetes API server, and its programs are not here: install Go {GO_RELEASE} \
                 (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a folder that has {}",
                KUBERNETES.map(|program| program.name).join(", ")
            ),
        };
        let fits =
            version.strip_prefix("go").is_some_and(|version| version == GO_RELEASE || version.starts_with(&format!("{GO_RELEASE}.")));
        Ok(Self { toolchain: (!fits).then_some(GO_TOOLCHAIN) })
    }

    /// Builds one program; it appears whole or not at all.
    fn build(&self, program: &Program, module: &Path, folder: &Path, which: &str) -> Result<()> {
        let unfinished = folder.join(format!(".unfinished-{}", program.name));
        let mut command = Command::new("go");
        command.args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", &link_flags(GO_MODULE)?, "-o"]).arg(&unfinished);
        command.arg(program.package).current_dir(module).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly").env("GOWORK", "off");
        if let Some(toolchain) = self.toolchain {
            command.env("GOTOOLCHAIN", toolchain);
        }
        let said = watched(&mut command, &format!("{} ({which})", program.name))?;
        if let Some(said) = said {
            bail!("building {} failed:\n{said}", program.name);
        }
        let target: PathBuf = folder.join(program.name);
        fs::rename(&unfinished, &target).with_context(|| format!("moving {} to {}", unfinished.display(), target.display()))
    }
}

/// Runs a `go build -v` to its end and says now and then how far it is; what it said last, where it failed.
fn watched(command: &mut Command, what: &str) -> Result<Option<String>> {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("starting go")?;
    let (mut packages, mut reported, mut last) = (0, started, Vec::new());
    println!("  {what} ...");
    let lines = BufReader::new(child.stderr.take().context("go has a standard error")?).lines();
    for line in lines {
        let line = line.context("reading what go says")?;
        packages += usize::from(!line.contains(' '));
        last.push(line);
        if last.len() > 40 {
            last.remove(0);
        }
        if reported.elapsed() > REPORT_EVERY {
            println!("  {what}: {packages} packages compiled, {} s", started.elapsed().as_secs());
            reported = Instant::now();
        }
    }
    let status = child.wait().context("waiting for go")?;
    if status.success() {
        println!("  {what}: done in {} s", started.elapsed().as_secs());
    }
    Ok((!status.success()).then(|| last.join("\n")))
}

/// No debug information, and the version that the servers report: it is set when they are linked.
fn link_flags(go_module: &str) -> Result<String> {
    let version = go_module.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v")?.split(' ').next());
    let version = version.context("go.mod names no version of k8s.io/kubernetes")?;
    let (major, rest) = version.split_once('.').context("a version of Kubernetes has dots")?;
    let minor = rest.split('.').next().unwrap_or_default();
    let set = |name: &str, value: &str| format!(" -X k8s.io/component-base/version.{name}={value}");
    Ok(format!("-s -w{}{}{}", set("gitVersion", &format!("v{version}")), set("gitMajor", major), set("gitMinor", minor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_report_the_version_that_is_pinned() {
        let flags = link_flags("require (\n\tk8s.io/kubernetes v1.36.3 // indirect\n)").unwrap();
        let version = "k8s.io/component-base/version";
        assert_eq!(flags, format!("-s -w -X {version}.gitVersion=v1.36.3 -X {version}.gitMajor=1 -X {version}.gitMinor=36"));
        assert!(link_flags(GO_MODULE).is_ok());
        assert!(link_flags("module x").is_err());
    }

    #[test]
    fn a_build_that_fails_says_what_the_compiler_said() {
        let said = watched(Command::new("sh").args(["-c", "echo a/package >&2; echo 'x.go:1: no' >&2; exit 1"]), "x").unwrap();
        assert_eq!(said.as_deref(), Some("a/package\nx.go:1: no"));
        assert_eq!(watched(Command::new("sh").args(["-c", "echo a/package >&2"]), "x").unwrap(), None);
    }
}
