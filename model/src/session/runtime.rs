//! ONNX Runtime's library, found and loaded once in the life of a process.

use std::{
    env,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ort::{environment::Environment, logging::LogLevel};

/// Names the library where nothing else does.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Asked of the loader where nobody names a file: what packages for developers install, and what others do.
const NAMES: [&str; 2] = ["libonnxruntime.so", "libonnxruntime.so.1"];

/// Kept for ever: there may be one environment in a process, and its end would be the end of all sessions.
static LOADED: Mutex<Option<Environment>> = Mutex::new(None);

/// The environment; loads the library on the first call that succeeds, later ones get what is there (a process has one).
///
/// # Errors
/// What to set, where there is no library that can be used. Later calls may succeed.
pub fn load(path: Option<&Path>) -> Result<Environment, String> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*loaded {
        return Ok(environment.clone());
    }
    let variable = env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let candidates = match path.map(Path::to_path_buf).or(variable) {
        Some(path) => vec![path],
        None => parts::own_onnx_runtime().into_iter().chain(NAMES.map(PathBuf::from)).collect(),
    };
    let mut problem = String::new();
    for candidate in candidates {
        match open(&candidate) {
            Ok(environment) => return Ok(loaded.insert(environment).clone()),
            Err(error) if problem.is_empty() => problem = error,
            Err(_) => {}
        }
    }
    Err(format!(
        "ONNX Runtime cannot be loaded ({problem}): `make fetch` brings it into the user's cache, where it is found; or name \
         libonnxruntime.so by {LIBRARY_VARIABLE}"
    ))
}

fn open(path: &Path) -> Result<Environment, String> {
    let builder = ort::init_from(path).map_err(|error| error.to_string())?;
    let environment = builder.with_name("expert-router").with_telemetry(false).with_logger(Arc::new(log)).build();
    let environment = environment.map_err(|error| error.to_string())?;
    // A logger of one's own is asked for everything, and everything is a line for each operator of each run.
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Warning => tracing::warn!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(target: "onnxruntime", category, location, "{message}"),
    }
}
