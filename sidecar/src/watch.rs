//! Changes of files to changes of state, on a thread of its own.
//!
//! Every quarter of a second each file is looked at: identity, size and times, through symbolic links, since a mounted ConfigMap changes
//! by a swap of links that file notification misses. Something differs: a new state is built and swapped in whole. It cannot be used: the
//! old one stays in force, and the reason is logged once, counted, and shown on `/snapshot` until something better comes.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use crate::{
    build::{Builder, Problem},
    config::TlsFiles,
    keys::ClientKeys,
    shared::{LastError, Shared, unix_seconds},
    state::{Model, State, lock},
    tls,
};

const EVERY: Duration = Duration::from_millis(250);
/// What is broken is tried again, also where no file we know of changed: a volume may come late.
const RETRY: Duration = Duration::from_secs(2);
/// Budgets' memory is written this often at most.
const SAVE: Duration = Duration::from_secs(5);

/// What tells one content of a path from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Looks at a file through symbolic links; `None` where there is none.
#[must_use]
pub fn fingerprint(path: &Path) -> Option<Fingerprint> {
    let found = std::fs::metadata(path).ok()?;
    Some(Fingerprint {
        device: found.dev(),
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

type Fingerprints = BTreeMap<PathBuf, Option<Fingerprint>>;

fn fingerprints(files: &[PathBuf]) -> Fingerprints {
    files.iter().map(|file| (file.clone(), fingerprint(file))).collect()
}

/// The server's certificate, and where it comes from.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Watched.
    pub files: TlsFiles,
    /// Swapped when they change.
    pub config: Arc<ArcSwap<ServerConfig>>,
}

/// The thread; ends when dropped, after a last look at the state file.
#[derive(Debug)]
pub struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

/// Starts to watch. `problem` is what is wrong with the model of the state in force.
///
/// # Errors
/// No thread to be had.
pub fn watch(builder: Builder, shared: Arc<Shared>, tls: Option<ServerTls>, problem: Option<Problem>) -> std::io::Result<Watcher> {
    let (stop, stopped) = channel();
    let mut seen = Seen {
        files: fingerprints(builder.files()),
        tls: tls.as_ref().map(tls_fingerprints),
        config: Reporter::default(),
        certificate: Reporter::default(),
        builder,
        shared,
    };
    seen.describe();
    if let Some(problem) = problem {
        seen.config.report_now(&seen.shared, problem);
    }
    let runtime = tokio::runtime::Handle::try_current().ok();
    let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
        let _runtime = runtime.as_ref().map(tokio::runtime::Handle::enter);
        seen.run(&stopped, tls.as_ref());
    })?;
    Ok(Watcher { stop: Some(stop), thread: Some(thread) })
}

fn tls_fingerprints(tls: &ServerTls) -> [Option<Fingerprint>; 2] {
    [fingerprint(&tls.files.certificate), fingerprint(&tls.files.key)]
}

struct Seen {
    files: Fingerprints,
    tls: Option<[Option<Fingerprint>; 2]>,
    config: Reporter,
    certificate: Reporter,
    builder: Builder,
    shared: Arc<Shared>,
}

impl Seen {
    fn run(&mut self, stopped: &Receiver<()>, tls: Option<&ServerTls>) {
        let mut saved = Instant::now();
        while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            self.look();
            if let Some(tls) = tls {
                self.look_at_certificate(tls);
            }
            if saved.elapsed() >= SAVE {
                saved = Instant::now();
                self.save();
            }
        }
        self.save();
    }

    fn save(&self) {
        if let Err(error) = self.shared.spend.save() {
            tracing::warn!(%error, "what budgets have spent is not kept");
        }
    }

    fn look(&mut self) {
        let files = fingerprints(self.builder.files());
        if files == self.files && !self.config.is_due() {
            return;
        }
        let changed = files != self.files;
        let before = self.shared.state.load_full();
        let built = self.builder.build(Some(&before));
        // The builder may know of other files now. Those it knew before count as they were before it read them, so that a change
        // meanwhile is found at the next look.
        let look = |file: &PathBuf| (file.clone(), files.get(file).copied().unwrap_or_else(|| fingerprint(file)));
        self.files = self.builder.files().iter().map(look).collect();
        match built {
            Ok((state, None)) => {
                self.config.clear(&self.shared);
                self.swap(state);
            }
            Ok((state, Some(problem))) => {
                if changed {
                    self.swap(state);
                }
                self.config.report(&self.shared, problem);
            }
            Err(problem) => self.config.report(&self.shared, problem),
        }
    }

    fn swap(&self, state: State) {
        let revision = state.table.snapshot().revision.clone();
        tracing::info!(revision, experts = state.experts.len(), "configuration in force");
        self.shared.swap(state);
        self.describe();
    }

    /// The state in force, in metrics.
    fn describe(&self) {
        let (state, metrics) = (self.shared.state.load(), &self.shared.metrics);
        metrics.reloads.inc();
        metrics.snapshot_info.reset();
        metrics.snapshot_info.with_label_values(&[state.table.snapshot().revision.as_str()]).set(1);
        metrics.cost_per_hour.reset();
        for expert in &state.table.snapshot().experts {
            if let Some(prices) = expert.prices.filter(|prices| prices.per_hour > 0.0) {
                metrics.cost_per_hour.with_label_values(&[expert.name.as_str()]).set(prices.per_hour);
            }
        }
        // A counter that appears with its first cost would hide that cost from every rate.
        for client in state.keys.as_ref().map_or_else(|| vec![""], ClientKeys::names) {
            metrics.client_cost.with_label_values(&[client]);
        }
        metrics.shadow.ready.set(i64::from(state.shadow.is_some()));
        if state.shadow.is_some() {
            metrics.shadow.begin(state.experts.iter().map(|expert| expert.name.as_str()));
        }
        metrics.model_ready.set(i64::from(matches!(state.model, Model::Ready(_))));
    }

    fn look_at_certificate(&mut self, tls: &ServerTls) {
        let found = tls_fingerprints(tls);
        if self.tls == Some(found) && !self.certificate.is_due() {
            return;
        }
        self.tls = Some(found);
        match tls::server_config(&tls.files) {
            Ok(config) => {
                tls.config.store(config);
                self.shared.metrics.certificate_end.set(tls::not_after(&tls.files));
                self.certificate.clear(&self.shared);
                tracing::info!("certificate in force");
            }
            Err(error) => self.certificate.report(&self.shared, Problem::new("tls", error)),
        }
    }
}

/// Says what is wrong once, and only if it still is at a second look: files are often seen half-written.
#[derive(Debug, Default)]
struct Reporter {
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    problem: Problem,
    reported: bool,
    tried: Instant,
}

impl Reporter {
    fn is_due(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| !trouble.reported || trouble.tried.elapsed() >= RETRY)
    }

    fn report(&mut self, shared: &Shared, problem: Problem) {
        let tried = Instant::now();
        match &mut self.trouble {
            Some(trouble) if trouble.problem == problem => {
                trouble.tried = tried;
                if !std::mem::replace(&mut trouble.reported, true) {
                    tell(shared, &problem);
                }
            }
            other => *other = Some(Trouble { problem, reported: false, tried }),
        }
    }

    fn report_now(&mut self, shared: &Shared, problem: Problem) {
        tell(shared, &problem);
        self.trouble = Some(Trouble { problem, reported: true, tried: Instant::now() });
    }

    fn clear(&mut self, shared: &Shared) {
        if let Some(trouble) = self.trouble.take() {
            lock(&shared.last_error).take_if(|error| error.message == trouble.problem.message);
        }
    }
}

fn tell(shared: &Shared, problem: &Problem) {
    tracing::error!(what = problem.what, problem = problem.message, "a change cannot be used; what was in force stays");
    shared.metrics.reload_failures.with_label_values(&[problem.what]).inc();
    *lock(&shared.last_error) = Some(LastError { what: problem.what, message: problem.message.clone(), at: unix_seconds() });
}
