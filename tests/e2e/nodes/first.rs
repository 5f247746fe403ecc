//! The first process of the run's namespaces. Every process of the run is below it, however it was started, and so none outlives it: it
//! ends them all when the run has ended, when it is told to (its standard input closes, which the operating system sees to if the
//! supervisor was killed), and removes what they leave in control groups.

use std::{
    io::Read as _,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{groups, namespaces};
use crate::{options::First, supervise::CANNOT};

/// How long the run has to write down how things stand when it is told to end.
const GRACE: Duration = Duration::from_secs(25);
/// As a shell has it: 128 and the signal.
const INTERRUPTED: u8 = 130;

pub(crate) fn first(command: &First) -> ExitCode {
    let ended = namespaces::enter(&command.work).and_then(|made| {
        let code = run(command);
        end_all();
        namespaces::leave(&made);
        code
    });
    if let Err(error) = groups::remove(&command.group) {
        eprintln!("e2e: {error:#}");
    }
    ended.map_or_else(
        |error| {
            eprintln!("e2e: cannot run here: {error:#}");
            ExitCode::from(CANNOT)
        },
        ExitCode::from,
    )
}

/// Runs the command to its end, and takes in every process whose parent is gone.
fn run(command: &First) -> Result<u8> {
    let (program, arguments) = command.command.split_first().context("a command is named")?;
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn().context("starting the run")?;
    let main = Pid::from_raw(i32::try_from(child.id()).context("a process number")?);
    thread::spawn(move || end_when_told(child));
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => return Ok(u8::try_from(code).unwrap_or(1)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => {
                return Ok(if signal == Signal::SIGTERM { INTERRUPTED } else { 1 });
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for processes"),
        }
    }
}

/// The child is only named here: the loop above is told when it ends.
fn end_when_told(mut child: Child) {
    let mut nothing = Vec::new();
    // However reading ends, nobody supervises any more.
    let _ = std::io::stdin().read_to_end(&mut nothing);
    if let Ok(number) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(number), Signal::SIGTERM);
    }
    thread::sleep(GRACE);
    let _ = child.kill();
}

/// Every process of the namespace but this one.
fn end_all() {
    while kill(Pid::from_raw(-1), Signal::SIGKILL).is_ok() {
        while !matches!(waitpid(None, None), Err(Errno::ECHILD)) {}
    }
}
