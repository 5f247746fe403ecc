//! Builds programs from Go modules that `parts` pins, once, into the user's cache folder.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parts::control_plane::Program;

use crate::fetch::lock;

/// What these modules were seen to work with: Kubernetes 1.36 compiles with 1.27, but then serves a broken OpenAPI document.
pub(crate) const GO_RELEASE: &str = "1.26";
/// Where another Go is at hand, it is told to bring this one.
const GO_TOOLCHAIN: &str = "go1.26.8";
/// How often a person who waits is told that work goes on.
const REPORT_EVERY: Duration = Duration::from_secs(20);

/// Pinned modules and where their programs go.
pub(crate) struct Modules {
    /// What they are, and how long they take.
    pub(crate) about: &'static str,
    /// `go.mod` and `go.sum`, and what else the module is made of: names and contents.
    pub(crate) files: &'static [(&'static str, &'static str)],
    pub(crate) folder: PathBuf,
    pub(crate) link_flags: String,
    /// Who wants them, and where else they may come from: said where there is no Go.
    pub(crate) without_go: String,
    /// What is missing still.
    pub(crate) missing: fn() -> Vec<Program>,
}

impl Modules {
    /// Builds what is missing.
    pub(crate) fn build(&self) -> Result<()> {
        if (self.missing)().is_empty() {
            return Ok(());
        }
        let go = Go::find(&self.without_go)?;
        let folder = &self.folder;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let _lock = lock(folder)?;
        // Another process may have built them while this one waited.
        let programs = (self.missing)();
        let module = folder.join("module");
        fs::create_dir_all(&module).with_context(|| format!("making {}", module.display()))?;
        for (name, content) in self.files {
            fs::write(module.join(name), content).with_context(|| format!("writing {name}"))?;
        }
        if !programs.is_empty() {
            println!("building {}, once: {} programs", self.about, programs.len());
        }
        for (index, program) in programs.iter().enumerate() {
            let which = format!("{} ({} of {})", program.name, index + 1, programs.len());
            go.build(program, &module, folder, &self.link_flags, &which)?;
        }
        Ok(())
    }
}

/// The Go that builds.
struct Go {
    /// Set where the Go at hand is of another release.
    toolchain: Option<&'static str>,
}

impl Go {
    fn find(without: &str) -> Result<Self> {
        let output = Command::new("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output();
        let version = match output {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            _ => bail!("{without}"),
        };
        let fits =
            version.strip_prefix("go").is_some_and(|version| version == GO_RELEASE || version.starts_with(&format!("{GO_RELEASE}.")));
        Ok(Self { toolchain: (!fits).then_some(GO_TOOLCHAIN) })
    }

    /// Builds one program; it appears whole or not at all.
    fn build(&self, program: &Program, module: &Path, folder: &Path, link_flags: &str, which: &str) -> Result<()> {
        let unfinished = folder.join(format!(".unfinished-{}", program.name));
        let mut command = Command::new("go");
        command.args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", link_flags, "-o"]).arg(&unfinished);
        command.arg(program.package).current_dir(module).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly").env("GOWORK", "off");
        if let Some(toolchain) = self.toolchain {
            command.env("GOTOOLCHAIN", toolchain);
        }
        let said = watched(&mut command, which)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_fails_says_what_the_compiler_said() {
        let said = watched(Command::new("sh").args(["-c", "echo a/package >&2; echo 'x.go:1: no' >&2; exit 1"]), "x").unwrap();
        assert_eq!(said.as_deref(), Some("a/package\nx.go:1: no"));
        assert_eq!(watched(Command::new("sh").args(["-c", "echo a/package >&2"]), "x").unwrap(), None);
    }
}
