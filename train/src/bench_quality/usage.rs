//! What this process has used, as Linux tells; nothing elsewhere.

use std::fs;

/// Kernel's unit of time in `/proc`, the same on every Linux in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// Of all threads, in user and system mode.
pub(super) fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may have spaces; what follows it has none.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// Begins to watch for a new peak.
pub(super) fn reset_peak() {
    // Where the kernel refuses, the peak is that of the whole run.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The largest resident set since the peak was reset.
pub(super) fn peak_mib() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
