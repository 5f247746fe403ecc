//! The processes under measurement: started on free ports, watched through /proc, ended when dropped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::Connection;
use super::load::Target;
use super::prompt::Prompts;

/// A server that takes longer does not start.
const START_LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Process {
    child: Child,
    pub(super) address: SocketAddr,
    /// From starting the process to its first answer.
    pub(super) start_ms: f64,
}

/// How to start one.
pub(super) struct Recipe<'a> {
    pub(super) name: &'a str,
    /// Where it will listen.
    pub(super) address: SocketAddr,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: &'a [(&'static str, String)],
    /// A request it must answer to count as started.
    pub(super) model: &'static str,
}

impl Process {
    /// Starts it so many times, keeps the last, and tells the median start.
    pub(super) fn start(recipe: &Recipe<'_>, prompts: &Prompts, folder: &Path, times: usize) -> Result<Self> {
        let mut starts = Vec::new();
        loop {
            let mut process = Process::start_once(recipe, prompts, folder)?;
            starts.push(process.start_ms);
            if starts.len() >= times {
                starts.sort_by(f64::total_cmp);
                process.start_ms = starts[starts.len() / 2];
                return Ok(process);
            }
        }
    }

    fn start_once(recipe: &Recipe<'_>, prompts: &Prompts, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{}.log", recipe.name));
        let output = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let began = Instant::now();
        let child = Command::new(&recipe.program)
            .args(&recipe.arguments)
            .envs(recipe.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", recipe.program.display()))?;
        let mut process = Process { child, address: recipe.address, start_ms: 0.0 };
        let target = Target { address: recipe.address, model: recipe.model, tokens: 20 };
        let request = prompts.request(&target, prompts.reserve(1));
        while !answers(recipe.address, &request) {
            if let Some(status) = process.child.try_wait()? {
                bail!("{} ended with {status}, see {}", recipe.name, log.display());
            }
            if began.elapsed() > START_LIMIT {
                bail!("{} does not answer, see {}", recipe.name, log.display());
            }
            thread::sleep(Duration::from_millis(1));
        }
        process.start_ms = began.elapsed().as_secs_f64() * 1000.0;
        Ok(process)
    }

    /// Resident memory in MiB.
    pub(super) fn rss_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("/proc has no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// CPU time so far, in milliseconds.
    pub(super) fn cpu_ms(&self) -> Result<f64> {
        let mut total = 0.0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end between the two looks.
            if let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) {
                total += text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e6;
            }
        }
        Ok(total)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answers(address: SocketAddr, request: &[u8]) -> bool {
    Connection::open(address).is_ok_and(|mut connection| connection.exchange(request).is_ok_and(|(status, _)| status == 200))
}

/// A local address nobody listens on. Another process could take it before it is used; then starting fails and says so.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
