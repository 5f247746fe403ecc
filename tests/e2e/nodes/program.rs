//! A program of the cluster: started, stopped, and what it says kept in a file.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// A running program. It does not end with this value: the first process of the namespaces sees to that.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it; what it says goes to `<logs>/<name>.log`, after what an earlier one of the name said.
    pub(crate) fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let open = || OpenOptions::new().create(true).append(true).open(&log).with_context(|| format!("writing {}", log.display()));
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// An error if it ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("asking for {}", self.name))? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}): {}", self.name, self.last_lines()),
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).with_context(|| format!("ending {}", self.name))
    }

    fn last_lines(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}
