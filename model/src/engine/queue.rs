//! Requests that wait for an encoder, and the threads that run it.
//!
//! A request that asks for what waits already joins it. What was answered meanwhile, what nobody waits for any more and what is too late
//! is not run.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Core, EngineOptions, Prediction, ScoreError, Timings, cache::Key, guarded, prediction};
use crate::{
    batch::{self, Limits, Waiting},
    features::Row,
    scorer::RowScores,
};

/// A matrix of so many rows keeps a core as busy as one of more; a longer batch only makes its first wait for its last.
const MAX_CELLS: usize = 512;
/// Padding is computed like everything else.
const PADDING_PERCENT: usize = 20;
/// A deadline further away than this is none.
const LONGEST_DEADLINE: Duration = Duration::from_secs(3600);

/// The door: callers come in here.
#[derive(Debug)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    max_waiting: usize,
}

#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    limits: Limits,
    window: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Entry>,
    /// Batches.
    running: usize,
    closed: bool,
}

type Answer = Result<Prediction, ScoreError>;

/// A text that waits, for one caller or several.
#[derive(Debug)]
struct Entry {
    key: Key,
    text: String,
    length: usize,
    arrived: Instant,
    deadline: Instant,
    callers: Vec<(Instant, oneshot::Sender<Answer>)>,
}

/// An entry with its features.
struct Ready {
    entry: Entry,
    row: Row,
    tokenize: Duration,
}

impl Waiting for Entry {
    fn length(&self) -> usize {
        self.length
    }

    fn is_gone(&self) -> bool {
        self.callers.iter().all(|(_, caller)| caller.is_closed())
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Queue {
    pub(super) fn start(core: &Arc<Core>, options: &EngineOptions) -> io::Result<Self> {
        let limits = Limits { rows: options.max_batch.max(1), cells: MAX_CELLS, padding_percent: PADDING_PERCENT };
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { core: core.clone(), limits, window: options.batch_window, state, changed });
        let mut queue = Self { shared, threads: Vec::new(), max_waiting: options.max_waiting };
        for index in 0..options.threads.max(1) {
            let shared = queue.shared.clone();
            // If one cannot start, dropping the queue ends the others.
            queue.threads.push(thread::Builder::new().name(format!("score-{index}")).spawn(move || shared.work())?);
        }
        Ok(queue)
    }

    pub(super) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Texts that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    /// Those who wait for them.
    #[cfg(test)]
    pub(super) fn callers(&self) -> usize {
        self.shared.lock().waiting.iter().map(|entry| entry.callers.len()).sum()
    }

    pub(super) async fn ask(&self, key: Key, text: String, deadline: Duration) -> Answer {
        let receiver = self.enter(key, text, deadline)?;
        match tokio::time::timeout(deadline, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ScoreError::Failed("the answer was lost".into())),
            Err(_) => Err(ScoreError::DeadlineExceeded),
        }
    }

    fn enter(&self, key: Key, text: String, deadline: Duration) -> Result<oneshot::Receiver<Answer>, ScoreError> {
        let now = Instant::now();
        let deadline = now + deadline.min(LONGEST_DEADLINE);
        let (sender, receiver) = oneshot::channel();
        let mut state = self.shared.lock();
        if let Some(entry) = state.waiting.iter_mut().find(|entry| entry.key == key) {
            entry.deadline = entry.deadline.max(deadline);
            entry.callers.push((now, sender));
            return Ok(receiver);
        }
        if state.waiting.len() >= self.max_waiting {
            expire(batch::sweep(&mut state.waiting, now));
        }
        if state.waiting.len() >= self.max_waiting {
            return Err(ScoreError::Overloaded);
        }
        let length = self.shared.core.extractor.estimate(&text);
        state.waiting.push_back(Entry { key, text, length, arrived: now, deadline, callers: vec![(now, sender)] });
        drop(state);
        self.shared.changed.notify_one();
        Ok(receiver)
    }
}

impl Drop for Queue {
    /// Waits for what runs, a fraction of a second: a process must not end while ONNX Runtime computes.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was caught, and answered, where it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(batch) = self.next() {
            let done = guarded(|| {
                self.answer(batch);
                Ok(())
            });
            if let Err(problem) = done {
                tracing::error!(problem, "a batch was lost");
            }
            self.lock().running -= 1;
            // Whoever waits for company of what ran here need not any more.
            self.changed.notify_one();
        }
    }

    /// The next batch; none when the engine ends.
    fn next(&self) -> Option<Vec<Entry>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let Some(oldest) = state.waiting.front().map(|entry| entry.arrived) else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if let Some(left) = batch::wait_for_company(oldest, state.waiting.len(), state.running, self.limits.rows, self.window, now) {
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let taken = batch::take(&mut state.waiting, &self.limits, now);
            expire(taken.expired);
            if !taken.batch.is_empty() {
                state.running += 1;
                return Some(taken.batch);
            }
        }
    }

    fn answer(&self, batch: Vec<Entry>) {
        let ready: Vec<Ready> = batch.into_iter().filter_map(|entry| self.prepare(entry)).collect();
        let lengths: Vec<usize> = ready.iter().map(|ready| ready.row.length()).collect();
        let mut ready: Vec<Option<Ready>> = ready.into_iter().map(Some).collect();
        for group in batch::groups(&lengths, &self.limits) {
            let group: Vec<Ready> = group.into_iter().filter_map(|index| ready[index].take()).collect();
            self.run(group);
        }
    }

    /// Tokenises, unless the answer has come by another's question.
    fn prepare(&self, mut entry: Entry) -> Option<Ready> {
        if let Some(found) = self.core.cache.get(entry.key) {
            let now = Instant::now();
            entry.answer(|arrived| Ok(Prediction { queue: now - arrived, ..found.clone() }));
            return None;
        }
        let begun = Instant::now();
        match guarded(|| self.core.extractor.row(std::mem::take(&mut entry.text))) {
            Ok(row) => Some(Ready { entry, row, tokenize: begun.elapsed() }),
            Err(problem) => {
                entry.answer(|_| Err(ScoreError::Failed(problem.clone())));
                None
            }
        }
    }

    fn run(&self, mut group: Vec<Ready>) {
        let begun = Instant::now();
        group.retain(|ready| !ready.entry.is_gone() && ready.entry.deadline > begun);
        if group.is_empty() {
            return;
        }
        let rows: Vec<&Row> = group.iter().map(|ready| &ready.row).collect();
        let scores = self.core.run(&rows);
        let encode = begun.elapsed();
        match scores {
            Ok(scores) => group.into_iter().zip(scores).for_each(|(ready, scores)| self.tell(ready, scores, begun, encode)),
            // One row may spoil it for the others.
            Err(_) if group.len() > 1 => group.into_iter().for_each(|ready| self.run(vec![ready])),
            Err(problem) => group.into_iter().for_each(|ready| self.tell(ready, Err(problem.clone()), begun, encode)),
        }
    }

    fn tell(&self, ready: Ready, scores: Result<RowScores, String>, begun: Instant, encode: Duration) {
        let Ready { entry, row, tokenize } = ready;
        if let Ok(scores) = &scores {
            self.core.cache.put(entry.key, &row, scores);
        }
        entry.answer(|arrived| {
            let queue = begun.saturating_duration_since(arrived).saturating_sub(tokenize);
            let scores = scores.clone().map_err(ScoreError::Failed)?;
            Ok(prediction(&row, scores, Timings { tokenize, encode, queue }))
        });
    }
}

impl Entry {
    fn answer(self, answer: impl Fn(Instant) -> Answer) {
        for (arrived, caller) in self.callers {
            // Gone: nobody to tell.
            let _ = caller.send(answer(arrived));
        }
    }
}

fn expire(expired: Vec<Entry>) {
    expired.into_iter().for_each(|entry| entry.answer(|_| Err(ScoreError::DeadlineExceeded)));
}
