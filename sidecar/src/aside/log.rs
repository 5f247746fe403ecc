//! The log of requests: prompts with who answered them and at what cost, as files that training reads.
//!
//! In: requests that ended well, a share of them. Out: files of outcomes, one row a request, each file whole under its name or not there
//! under it. Everything is bounded: rows, files, the folder, what waits for a slow disk. What does not fit is left out and counted.
//! Rows are made, redacted and written on a thread of their own. Off unless both the snapshot asks for it and there is a folder.

mod files;
mod redact;
mod row;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use routing::snapshot;
use wire::{Endpoint, Inbound, Usage};

use super::give_way;
use crate::{metrics::LogCounters, state::lock};
use files::Files;
pub use redact::Redactor;

/// Rows that may wait for the disk.
const WAITING: usize = 256;
/// A stream says each word in an event of its own, of a few hundred bytes: so many bytes of it are kept for one byte of a row.
const STREAMED: usize = 48;
/// How often an idle log looks whether its file is due; one that gets rows looks at each.
const LOOK: Duration = Duration::from_secs(5);

/// What the snapshot says, ready to use.
#[derive(Debug)]
pub struct Policy {
    /// Of the requests.
    pub percent: u8,
    include_responses: bool,
    redactor: Redactor,
    max_row_bytes: usize,
    max_file_bytes: u64,
    max_total_bytes: u64,
}

impl Policy {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// One that is none.
    pub fn compile(log: &snapshot::RequestLog) -> Result<Self, String> {
        Ok(Self {
            percent: log.percent,
            include_responses: log.include_responses,
            redactor: Redactor::compile(log.redaction, &log.redact_patterns)?,
            max_row_bytes: usize::try_from(log.max_row_bytes).unwrap_or(usize::MAX),
            max_file_bytes: log.max_file_bytes,
            max_total_bytes: log.max_total_bytes,
        })
    }
}

/// Why a row is not in the log. A closed set: these are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Too many wait for the disk.
    QueueFull,
    /// It is longer than a row may be.
    TooLarge,
    /// It has tools, pictures, or no text: nothing that experts are trained to be chosen by.
    Unsuitable,
    /// The disk is full, or gone.
    WriteFailed,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::QueueFull, Self::TooLarge, Self::Unsuitable, Self::WriteFailed];

    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::Unsuitable => "unsuitable",
            Self::WriteFailed => "write_failed",
        }
    }
}

/// A row in the making: what was asked, and what is answered.
#[derive(Debug)]
pub struct Draft {
    policy: Arc<Policy>,
    router: String,
    endpoint: Endpoint,
    stream: bool,
    body: Bytes,
    answer: Option<BytesMut>,
    at: SystemTime,
}

/// What is known at a request's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// In the response, and in the log line.
    pub request_id: String,
    /// Who answered.
    pub expert: String,
    /// Why that one was chosen first.
    pub reason: Option<&'static str>,
    /// As the expert's server counted.
    pub usage: Option<Usage>,
    /// From sending the request to the answer's end.
    pub seconds: Option<f64>,
    /// Where the expert has prices.
    pub cost_usd: Option<f64>,
}

impl Draft {
    /// A piece of the answer. One that becomes too long is left out, and the row kept without.
    pub(super) fn piece(&mut self, bytes: &[u8]) {
        let most = self.policy.max_row_bytes.saturating_mul(if self.stream { STREAMED } else { 2 });
        if let Some(answer) = &mut self.answer {
            if answer.len().saturating_add(bytes.len()) > most {
                self.answer = None;
            } else {
                answer.extend_from_slice(bytes);
            }
        }
    }
}

/// The log. Dropping it, or closing it, writes what waits and finishes the file.
#[derive(Debug)]
pub struct RequestLog {
    rows: Mutex<Option<SyncSender<(Draft, Ending)>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counters: Counters,
}

/// Counters, which have no look of their own.
#[derive(Clone)]
struct Counters(LogCounters);

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}

impl RequestLog {
    /// Opens the folder, which is made where there is none.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn open(folder: &Path, counters: &LogCounters) -> std::io::Result<Self> {
        let files = Files::open(folder, counters.clone())?;
        let (rows, waiting) = sync_channel(WAITING);
        let counters = Counters(counters.clone());
        let of_thread = counters.clone();
        let thread = std::thread::Builder::new().name("request-log".into()).spawn(move || work(&waiting, files, &of_thread.0))?;
        Ok(Self { rows: Mutex::new(Some(rows)), thread: Mutex::new(Some(thread)), counters })
    }

    /// Begins a row, where the request is one for training.
    #[must_use]
    pub fn draft(&self, policy: &Arc<Policy>, inbound: &Inbound, router: &str) -> Option<Draft> {
        let needs = inbound.needs();
        if needs.tools || needs.vision || needs.embeddings {
            self.counters.0.dropped(Dropped::Unsuitable);
            return None;
        }
        // What is redacted is hardly ever longer than what was there.
        if inbound.body().len() > policy.max_row_bytes {
            self.counters.0.dropped(Dropped::TooLarge);
            return None;
        }
        Some(Draft {
            policy: policy.clone(),
            router: router.to_owned(),
            endpoint: inbound.endpoint(),
            stream: inbound.stream(),
            body: inbound.body().clone(),
            answer: policy.include_responses.then(BytesMut::new),
            at: SystemTime::now(),
        })
    }

    /// Has a row written, some time.
    pub fn keep(&self, draft: Draft, ending: Ending) {
        let sent = lock(&self.rows).as_ref().map(|rows| rows.try_send((draft, ending)).is_ok());
        if sent != Some(true) {
            self.counters.0.dropped(Dropped::QueueFull);
        }
    }

    /// Writes what waits, and finishes the file.
    pub fn close(&self) {
        drop(lock(&self.rows).take());
        if let Some(thread) = lock(&self.thread).take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn work(waiting: &Receiver<(Draft, Ending)>, mut files: Files, counters: &LogCounters) {
    give_way();
    let mut warned: Option<SystemTime> = None;
    loop {
        let written = match waiting.recv_timeout(LOOK) {
            Ok((draft, ending)) => match row::line(&draft, &ending) {
                Ok(line) => files.write(&line, draft.policy.max_file_bytes, draft.policy.max_total_bytes).inspect(|()| counters.rows.inc()),
                Err(why) => {
                    counters.dropped(why);
                    files.look()
                }
            },
            Err(RecvTimeoutError::Timeout) => files.look(),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Err(error) = written {
            counters.dropped(Dropped::WriteFailed);
            // A full disk stays full: once a minute is enough to know.
            if warned.is_none_or(|at| at.elapsed().is_ok_and(|passed| passed >= Duration::from_secs(60))) {
                warned = Some(SystemTime::now());
                tracing::warn!(%error, "requests are not kept");
            }
        }
    }
    if let Err(error) = files.finish() {
        tracing::warn!(%error, "the last file of requests is not finished");
    }
}
