//! The outside of a run: checks what it needs, makes the namespaces, passes on that it shall end, and sees that nothing is left.

use std::{
    env,
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    nodes::{groups, needs},
    options::{Kind, Options},
    work,
};

/// A check failed.
pub(crate) const FAILED: u8 = 1;
/// It cannot run here: what is missing was said.
pub(crate) const CANNOT: u8 = 3;
/// Somebody asked it to end. As a shell has it: 128 and the number of SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// Two signals within this time are one wish: a shell, `timeout` or a terminal tell a process and its group.
const TWICE: Duration = Duration::from_secs(1);

/// Runs everything that is asked for, in the cluster that is asked for.
pub(crate) fn run(options: &Options) -> ExitCode {
    let ended = prepare(options).and_then(|lock| match options.cluster {
        Kind::Existing => Ok(work::run(options)),
        Kind::Own => own(options).map(|code| {
            drop(lock);
            ExitCode::from(code)
        }),
    });
    ended.unwrap_or_else(|error| {
        eprintln!("e2e: {error:#}");
        ExitCode::from(FAILED)
    })
}

/// An empty folder for what the run writes, and the lock that keeps a second run from it.
fn prepare(options: &Options) -> Result<File> {
    let output = &options.output;
    fs::create_dir_all(output).with_context(|| format!("making {}", output.display()))?;
    let path = output.join(".lock");
    let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    lock.try_lock().with_context(|| format!("another run writes to {}", output.display()))?;
    for old in ["work", "logs", "state", "files", "report.md"] {
        remove(&output.join(old))?;
    }
    Ok(lock)
}

fn own(options: &Options) -> Result<u8> {
    let missing = needs::missing(&options.output);
    if !missing.is_empty() {
        eprintln!("e2e: a cluster cannot be brought up here. What is missing:");
        missing.iter().for_each(|what| eprintln!("  {what}"));
        eprintln!("With E2E_CLUSTER=existing the cluster of KUBECONFIG is used instead.");
        return Ok(CANNOT);
    }
    groups::sweep()?;
    let group = groups::name(std::process::id());
    let work = options.output.join("work");
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let code = start(&group, &work).and_then(watch);
    // The first process did this, unless it was killed.
    groups::remove(&group)?;
    remove(&work)?;
    code
}

/// This program once more, as the first process of new namespaces. Of a process group of its own: an interrupt from the terminal is for
/// the supervisor alone, who passes it on by closing the pipe.
fn start(group: &str, work: &Path) -> Result<Child> {
    let itself = env::current_exe().context("finding this program")?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--propagation=private", "--kill-child", "--"]);
    command.arg(&itself).args(["first", "--group", group]).arg("--work").arg(work).arg("--");
    command.arg(&itself).args(["work", "--group", group]).args(env::args_os().skip(1));
    command.stdin(Stdio::piped()).process_group(0).spawn().context("starting unshare")
}

/// Waits until it ends; its exit code.
fn watch(mut child: Child) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(async move {
        let number = Pid::from_raw(i32::try_from(child.id()).context("a process number")?);
        let mut pipe = child.stdin.take();
        let mut told: Option<Instant> = None;
        let mut ended = tokio::task::spawn_blocking(move || child.wait());
        let [mut interrupt, mut terminate, mut hangup] = signals()?;
        loop {
            tokio::select! {
                ended = &mut ended => {
                    let status = ended.context("waiting for the run")?.context("waiting for the run")?;
                    return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED));
                }
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if pipe.take().is_some() {
                eprintln!("e2e: ending (once more to end at once)");
                told = Some(Instant::now());
            } else if told.is_some_and(|told| told.elapsed() > TWICE) {
                // It takes the first process with it, and that one all others.
                let _ = kill(number, Signal::SIGKILL);
            }
        }
    })
}

fn signals() -> Result<[tokio::signal::unix::Signal; 3]> {
    let listen = |kind| signal(kind).context("listening for signals");
    Ok([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?])
}

fn remove(path: &PathBuf) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| format!("removing {}", path.display())),
        _ => Ok(()),
    }
}
