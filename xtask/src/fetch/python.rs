//! The machine's Python: found, judged, run. What it prints is kept for the error message; on a terminal its progress is shown.

use std::io::{IsTerminal, Read};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

/// The oldest Python for which all pinned packages have wheels.
const OLDEST: (u32, u32) = (3, 10);

/// The Python of the machine, seen to be new enough and to have pip and venv. `PYTHON` in the environment names another.
pub(crate) fn find() -> Result<String> {
    let python = std::env::var("PYTHON").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "python3".to_owned());
    let version = output(&python, &["-c", "import sys; print(*sys.version_info[:2])"]).with_context(|| {
        format!("running {python}: Python {}.{} or newer is needed (Debian, Ubuntu: apt-get install python3)", OLDEST.0, OLDEST.1)
    })?;
    let mut numbers = version.split_whitespace().filter_map(|number| number.parse().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        bail!("{python} is Python {}.{}; {}.{} or newer is needed (PYTHON=... names another)", found.0, found.1, OLDEST.0, OLDEST.1);
    }
    output(&python, &["-m", "pip", "--version"])
        .with_context(|| format!("{python} has no pip (Debian, Ubuntu: apt-get install python3-pip)"))?;
    output(&python, &["-c", "import venv, ensurepip"])
        .with_context(|| format!("{python} cannot make virtual environments (Debian, Ubuntu: apt-get install python3-venv)"))?;
    Ok(python)
}

/// Runs a short command and returns what it printed.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), last_lines(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs pip. Its progress goes to the terminal if there is one.
pub(crate) fn pip(python: &str, arguments: &[&str]) -> Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let mut command = Command::new(python);
    command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]).args(arguments);
    // A user who keeps pip to virtual environments means installs; ours goes into one, and a download installs nothing.
    command.env("PIP_REQUIRE_VIRTUALENV", "false").stdin(Stdio::null()).stderr(Stdio::piped());
    command.stdout(if terminal { Stdio::inherit() } else { Stdio::null() });
    let mut child = command.spawn().with_context(|| format!("starting {python} -m pip"))?;
    let pipe = child.stderr.take();
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        pipe.map(|mut pipe| pipe.read_to_end(&mut said));
        String::from_utf8_lossy(&said).into_owned()
    });
    let status = child.wait()?;
    let said = reader.join().unwrap_or_default();
    if !status.success() {
        bail!(
            "pip {}: {}\n(is PyPI reachable? pip's own settings, such as PIP_INDEX_URL and PIP_PROXY, count here too)",
            arguments.join(" "),
            last_lines(&said)
        );
    }
    Ok(())
}

/// The end of what a program said: where the cause stands.
fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = format!("{:#}", output("no-such-program-here", &[]).unwrap_err());
        assert!(error.contains("no-such-program-here"), "{error}");
    }

    #[test]
    fn the_end_of_an_error_is_kept() {
        let text: String = (0..20).map(|number| format!("line {number}\n")).collect();
        let kept = last_lines(&text);
        assert!(kept.contains("line 19") && !kept.contains("line 13"), "{kept}");
    }
}
