//! An OpenAI-compatible expert that answers from a recording: at its recorded pace and token counts, streaming or not, with scripted
//! faults. Comes in: an outcomes file, or answers made in code. Goes out: a server on a port, in this process or as the binary
//! `expert-router-replay`. Absent: any knowledge of routing; `max_tokens`, `n`, tools and sampling, for a recording cannot change.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use replay::{Answer, Options, Replay, Script};
//! let expert = Replay::start(Options {
//!     fallback: Answer::text("Rome."),
//!     script: Script::parse("status=429,retry-after=1; ok").expect("a script"),
//!     ..Options::default()
//! })
//! .await?;
//! println!("{} has seen {} requests", expert.url(), expert.requests().len());
//! # Ok(())
//! # }
//! ```

mod answer;
mod asked;
mod events;
mod format;
mod paced;
mod recording;
mod script;
mod serve;
mod service;

pub use answer::Answer;
pub use asked::{Asked, Endpoint};
pub use recording::{Recording, RecordingError};
pub use script::{Fault, Script, ScriptError, Step};
pub use serve::{Options, Replay, Tls};
pub use service::{Received, Totals};
