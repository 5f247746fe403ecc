//! A child process that ends when its value is dropped, and shows what it logged if the test failed.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Lines of a child's log that are kept for a failed test.
const LOG_LINES: usize = 60;

/// Runs its arguments and passes on the signals named on its standard input. When that closes, which the operating system sees to
/// however the writer ends, the program is killed. Interrupts from a terminal are left to the writer.
const GUARD: &str = r#"
trap '' INT HUP
exec 3<&0
"$@" </dev/null 3<&- & child=$!
{ while read -r signal; do kill -"$signal" $child; done; kill -KILL $child; } <&3 >/dev/null 2>&1 & reader=$!
exec 3<&-
wait $child; status=$?
kill $reader 2>/dev/null
exit $status
"#;

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Present: the child is a guard, and this is its standard input.
    guard: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    /// Starts it with its standard input held open: the servers here end when that closes, however this process ends.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Self::watch(name, child))
    }

    /// Starts a program that does not end when its standard input closes, under a guard that ends it then.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_guarded(name: &str, command: &Command) -> Result<Self> {
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(variable, value),
                None => guard.env_remove(variable),
            };
        }
        let mut process = Self::start(name, &mut guard)?;
        process.guard = process.child.stdin.take();
        Ok(process)
    }

    fn watch(name: &str, mut child: Child) -> Self {
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, lines) = mpsc::channel();
        for pipe in [child.stdout.take().map(boxed), child.stderr.take().map(boxed)].into_iter().flatten() {
            let (log, sender) = (Arc::clone(&log), sender.clone());
            thread::spawn(move || read_lines(pipe, &log, &sender));
        }
        Self { name: name.to_owned(), child, guard: None, lines, log }
    }

    /// Asks a guarded program to end, as Kubernetes does.
    ///
    /// # Errors
    /// It is not guarded, or gone.
    pub fn terminate(&mut self) -> Result<()> {
        let guard = self.guard.as_mut().with_context(|| format!("{} is not guarded", self.name))?;
        guard.write_all(b"TERM\n").with_context(|| format!("asking {} to end", self.name))
    }

    /// Waits for a line that `read` makes something of.
    ///
    /// # Errors
    /// The process ended, or `patience` did; with what it printed instead.
    pub fn line_where<T>(&self, what: &str, patience: Duration, read: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(found) = read(&line) {
                        return Ok(found);
                    }
                }
                Err(error) => bail!("{} never said `{what}` ({error}); it said:\n{}", self.name, self.log()),
            }
        }
    }

    /// The exit status, once it has ended.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("waiting for {}", self.name))
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// The operating system does not let us.
    pub fn kill(&mut self) -> Result<()> {
        // A guard that is killed would leave its program behind; one whose input closes kills it.
        let asked = if self.guard.take().is_some() { Ok(()) } else { self.child.kill() };
        asked.and_then(|()| self.child.wait()).map(drop).with_context(|| format!("ending {}", self.name))
    }

    /// The last lines it printed.
    #[must_use]
    pub fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.kill();
        if thread::panicking() {
            eprintln!("--- last lines of {}:\n{}\n---", self.name, self.log());
        }
    }
}

/// Runs a script of `tests/python` to its end with the Python that has the pinned packages; prints what it prints.
///
/// # Errors
/// Python is not fetched, the script failed, or `patience` ended; with what the script said.
pub fn run_python(script: &str, environment: &[(&str, &str)], patience: Duration) -> Result<()> {
    let path = workspace().join("tests").join("python").join(script);
    let mut command = Command::new(parts::python()?);
    command.arg("-u").arg(path).envs(environment.iter().copied());
    let mut process = Process::start(script, &mut command)?;
    let deadline = Instant::now() + patience;
    loop {
        while let Ok(line) = process.lines.recv_timeout(Duration::from_millis(50)) {
            println!("{line}");
        }
        match process.ended()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{script} failed ({status}):\n{}", process.log()),
            None if Instant::now() > deadline => bail!("{script} did not end in {patience:?}:\n{}", process.log()),
            None => {}
        }
    }
}

/// A command with a script of the workspace, run by the Python that has the pinned packages.
pub(crate) fn python(script: &Path) -> Result<Command> {
    let mut command = Command::new(parts::python()?);
    command.arg(workspace().join(script));
    Ok(command)
}

fn boxed(pipe: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(pipe)
}

fn read_lines(pipe: Box<dyn Read + Send>, log: &Mutex<VecDeque<String>>, sender: &mpsc::Sender<String>) {
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LOG_LINES {
            log.pop_front();
        }
        log.push_back(line.clone());
        drop(log);
        // Nobody waits for a line any more: the log is still kept.
        let _ = sender.send(line);
    }
}
