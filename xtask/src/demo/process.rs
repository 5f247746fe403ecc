//! The demo's child processes: no server outlives the demo, however it ends.
//!
//! Servers are started with their standard input held open and end when it closes; so they also end where the demo is killed and cannot
//! end them. Signals only raise a flag, which every wait looks at: so values are dropped, and with them what they stand for.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How often a wait looks up.
const LOOK: Duration = Duration::from_millis(50);

/// Loading a model takes a second; a busy machine takes longer.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// What a server may take to end by itself.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Raised by Ctrl-C and whatever else ends processes politely.
#[derive(Clone)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(super) fn listen() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("listening for signals")?;
        }
        Ok(Self(flag))
    }

    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.is_raised() { bail!("interrupted") } else { Ok(()) }
    }

    /// Runs a command to its end; what it prints goes into `log`, or to the screen where there is none.
    pub(super) fn run(&self, command: &mut Command, log: Option<&Path>) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        if let Some(log) = log {
            let file = File::create(log).with_context(|| format!("making {}", log.display()))?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        let mut child = Guard(command.stdin(Stdio::null()).spawn().with_context(|| format!("starting {name}"))?);
        loop {
            if let Some(status) = child.0.try_wait()? {
                return outcome(&name, status, log);
            }
            if self.is_raised() {
                // It may have something to put in order.
                let _ = Command::new("kill").arg(child.0.id().to_string()).status();
                wait_for_end(&mut child.0);
                bail!("interrupted");
            }
            thread::sleep(LOOK);
        }
    }
}

fn outcome(name: &str, status: ExitStatus, log: Option<&Path>) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let said = log.map(|log| std::fs::read_to_string(log).unwrap_or_default()).unwrap_or_default();
    let last: Vec<&str> = said.lines().rev().take(15).collect();
    bail!("{name} failed ({status})\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
}

/// Ends a command that is run to its end, where that is not waited for.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server.
pub(super) struct Server {
    child: Child,
    input: Option<ChildStdin>,
}

impl Server {
    /// Starts a server that ends when its standard input closes, and waits for a line of its output that `ready` makes something of.
    pub(super) fn start<T>(
        command: &mut Command,
        log: &Path,
        interrupt: &Interrupt,
        ready: impl Fn(&str) -> Option<T>,
    ) -> Result<(Self, T)> {
        let name = command.get_program().to_string_lossy().into_owned();
        let errors = File::create(log).with_context(|| format!("making {}", log.display()))?;
        let mut copy = errors.try_clone().with_context(|| format!("making {}", log.display()))?;
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn().with_context(|| format!("starting {name}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let server = Self { child, input };
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            // The pipe is read on when nobody listens any more, so that it never fills.
            output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok).for_each(|line| {
                // A log that cannot be written is no reason to stop.
                let _ = writeln!(copy, "{line}");
                drop(sender.send(line));
            });
        });
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            interrupt.check()?;
            match lines.recv_timeout(LOOK) {
                Ok(line) => {
                    if let Some(found) = ready(&line) {
                        return Ok((server, found));
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => bail!("{name} did not start; it says why in {}", log.display()),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        wait_for_end(&mut self.child);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for_end(child: &mut Child) {
    let deadline = Instant::now() + END_PATIENCE;
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(LOOK);
    }
}

/// The program as a server that ends when its standard input closes, for programs that do not by themselves. Its log, where it says that
/// it serves, goes to standard output.
pub(super) fn tied(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", TIED, "sh"]).arg(program);
    command
}

/// `cat` returns when the input closes, `wait` when the program has ended, be it by itself. What runs beside has the input by another
/// number, for a shell gives it none.
const TIED: &str = r#"exec 3<&0
"$@" 2>&1 < /dev/null 3<&- &
program=$!
{ cat <&3; kill "$program"; } > /dev/null 2>&1 &
beside=$!
wait "$program"
code=$?
kill "$beside"
exit "$code""#;

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupt() -> Interrupt {
        Interrupt(Arc::default())
    }

    #[test]
    fn a_server_says_when_it_is_ready_and_ends_with_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("server");
        std::fs::write(&script, "#!/bin/sh\necho noise\necho READY $$\nexec sleep 600\n").unwrap();
        let mut command = tied(Path::new("/bin/sh"));
        command.arg(&script);
        let ready = |line: &str| line.strip_prefix("READY ").map(str::to_owned);
        let (server, pid) = Server::start(&mut command, &folder.path().join("log"), &interrupt(), ready).unwrap();
        assert!(Path::new("/proc").join(&pid).exists());
        drop(server);
        assert!(!Path::new("/proc").join(&pid).exists());
    }

    #[test]
    fn a_server_that_ends_before_it_is_ready_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = Server::start(&mut Command::new("true"), &folder.path().join("log"), &interrupt(), |_| None::<()>).err().unwrap();
        assert!(error.to_string().contains("did not start"), "{error}");
    }

    #[test]
    fn a_tied_server_that_ends_before_it_is_ready_has_said_why_in_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = tied(Path::new("/bin/sh"));
        command.args(["-c", "echo why >&2; exit 3"]);
        let error = Server::start(&mut command, &log, &interrupt(), |_| None::<()>).err().unwrap();
        assert!(error.to_string().contains("did not start"), "{error}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "why\n");
    }

    #[test]
    fn a_command_that_fails_shows_the_end_of_its_log_and_an_interrupt_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let error = interrupt().run(Command::new("sh").args(["-c", "echo why >&2; exit 3"]), Some(&log)).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("why"), "{error}");
        let raised = Interrupt(Arc::new(AtomicBool::new(true)));
        let error = raised.run(Command::new("sleep").arg("600"), None).unwrap_err().to_string();
        assert_eq!(error, "interrupted");
    }
}
