//! Log lines on standard error.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Begins to log. `filter` is a level or `target=level` pairs.
///
/// # Errors
/// What is wrong with the filter.
pub fn init(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    set.map_err(|error| error.to_string())
}
