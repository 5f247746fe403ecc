//! What a person sees meanwhile: a bar on a terminal, a line every ten seconds elsewhere.

use std::{
    io::IsTerminal,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

const BETWEEN_LINES: Duration = Duration::from_secs(10);

pub(super) struct Progress {
    bar: ProgressBar,
    plain: bool,
    total: usize,
    done: AtomicUsize,
    failed: AtomicUsize,
    start: Instant,
    told: Mutex<Instant>,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr_with_hz(5));
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}").expect("the template is a constant");
        bar.set_style(style);
        let now = Instant::now();
        let plain = !std::io::stderr().is_terminal();
        Self { bar, plain, total, done: AtomicUsize::new(0), failed: AtomicUsize::new(0), start: now, told: Mutex::new(now) }
    }

    /// One more is answered, or given up.
    pub(super) fn step(&self, answered: bool, spent_usd: f64) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let failed = self.failed.fetch_add(usize::from(!answered), Ordering::Relaxed) + usize::from(!answered);
        let message = self.message(done, failed, spent_usd);
        self.bar.set_message(message.clone());
        self.bar.set_position(done as u64);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if self.plain && (told.elapsed() >= BETWEEN_LINES || done == self.total) {
            *told = Instant::now();
            eprintln!("{done}/{}  {message}", self.total);
        }
    }

    fn message(&self, done: usize, failed: usize, spent_usd: f64) -> String {
        let rate = done as f64 / self.start.elapsed().as_secs_f64().max(1e-3);
        let left = Duration::from_secs_f64((self.total.saturating_sub(done)) as f64 / rate.max(1e-6));
        let failed = if failed > 0 { format!(", {failed} without an answer") } else { String::new() };
        format!("{rate:.1} a second, {} left, USD {spent_usd:.6} spent{failed}", HumanDuration(left))
    }

    /// Something besides, without breaking the bar.
    pub(super) fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Progress of scoring.
pub(super) struct Scored(ProgressBar);

impl Scored {
    pub(super) fn new(total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr_with_hz(5));
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len}  comparing with references, {eta} left").expect("a constant"));
        Self(bar)
    }

    pub(super) fn step(&self) {
        self.0.inc(1);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
