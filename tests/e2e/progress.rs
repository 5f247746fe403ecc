//! What goes on, for a person who waits.

use std::{sync::OnceLock, time::Instant};

/// Says it, with the seconds since the first thing that was said.
pub(crate) fn say(what: impl AsRef<str>) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = BEGAN.get_or_init(Instant::now);
    println!("[{:7.1} s] {}", began.elapsed().as_secs_f64(), what.as_ref());
}
