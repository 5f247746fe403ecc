//! `xtask fetch`: brings the parts of `parts::PARTS` and the Python packages into the user's cache folder. Every file is checked
//! against its pinned hash, each time. A part appears whole or not at all, and two fetches at once wait for each other.

mod environment;
mod python;
mod wheel;

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use parts::{Group, Part};

/// Examples: `xtask fetch` (what `make test` needs), `xtask fetch --group bench`, `xtask fetch onnxruntime encoder`
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Parts by name instead of a group
    #[arg(value_name = "PART")]
    names: Vec<String>,
    /// What the parts are wanted for
    #[arg(long, value_enum, default_value = "test")]
    group: Wanted,
    /// List the parts and where they lie, fetch nothing
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    Test,
    Demo,
    Bench,
    All,
}

/// The name of the Python environment on the command line. It is no wheel, so it is not in the table.
const PYTHON: &str = "python";

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        return list();
    }
    let (wanted, with_python) = select(arguments)?;
    let folder = parts::cache_folder().join("parts");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let _lock = lock(&folder)?;
    remove_leftovers(&folder)?;
    for part in wanted {
        wheel::ensure(part, &folder)?;
    }
    if with_python {
        environment::ensure(&folder)?;
    }
    Ok(())
}

fn select(arguments: &Arguments) -> Result<(Vec<&'static Part>, bool)> {
    if arguments.names.is_empty() {
        let wanted = parts::PARTS.iter().filter(|part| is_wanted(part, arguments.group)).collect();
        return Ok((wanted, arguments.group != Wanted::Bench));
    }
    let mut wanted = Vec::new();
    for name in arguments.names.iter().filter(|name| *name != PYTHON) {
        let Some(part) = parts::by_name(name) else {
            let known: Vec<_> = parts::PARTS.iter().map(|part| part.name).chain([PYTHON]).collect();
            bail!("no part is called {name}; there are {}", known.join(", "));
        };
        wanted.push(part);
    }
    Ok((wanted, arguments.names.iter().any(|name| name == PYTHON)))
}

fn is_wanted(part: &Part, wanted: Wanted) -> bool {
    match wanted {
        Wanted::Test => part.groups.contains(&Group::Test),
        Wanted::Demo => part.groups.contains(&Group::Demo),
        Wanted::Bench => part.groups.contains(&Group::Bench),
        Wanted::All => true,
    }
}

fn list() -> Result<()> {
    for part in parts::PARTS {
        let folder = parts::part_folder(part);
        let state = if folder.exists() { "fetched" } else { "not fetched" };
        println!("{:14} {:10} {:11}  {} [{}]\n{:38} {}", part.name, part.version, state, part.purpose, part.licence, "", folder.display());
    }
    let state = if parts::python().is_ok() { "fetched" } else { "not fetched" };
    println!("{PYTHON:14} {:10} {state:11}  OpenAI's SDK and llama.cpp's server\n{:38} {}", "", "", parts::python_folder().display());
    Ok(())
}

/// Held until the returned file is dropped.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            println!("another process is at work there, waiting for it");
            file.lock().with_context(|| format!("locking {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
    }
    Ok(file)
}

/// What a killed fetch left half-made. Safe under the lock only.
fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// How the names of folders begin that are not whole yet.
const UNFINISHED: &str = ".unfinished-";

/// Puts a finished folder in its place, whole; what was there before (broken, or it would have been kept) goes.
fn put_in_place(unfinished: &Path, target: &Path) -> Result<()> {
    if target.exists() {
        fs::remove_dir_all(target).with_context(|| format!("removing {}", target.display()))?;
    }
    fs::rename(unfinished, target).with_context(|| format!("moving {} to {}", unfinished.display(), target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(names: &[&str], group: Wanted) -> Arguments {
        Arguments { names: names.iter().map(ToString::to_string).collect(), group, list: false }
    }

    fn names(arguments: &Arguments) -> (Vec<&'static str>, bool) {
        let (wanted, python) = select(arguments).unwrap();
        (wanted.iter().map(|part| part.name).collect(), python)
    }

    #[test]
    fn a_group_brings_what_it_needs_and_names_win_over_it() {
        assert_eq!(names(&arguments(&[], Wanted::Test)), (vec!["onnxruntime", "encoder", "chat-model"], true));
        assert_eq!(names(&arguments(&[], Wanted::Bench)), (vec!["onnxruntime", "encoder", "envoy"], false));
        assert_eq!(names(&arguments(&["envoy", "python"], Wanted::Test)), (vec!["envoy"], true));
    }

    #[test]
    fn an_unknown_part_is_an_error_that_lists_the_known() {
        let error = select(&arguments(&["onyx"], Wanted::Test)).unwrap_err().to_string();
        assert!(error.contains("onyx") && error.contains("onnxruntime") && error.contains("python"), "{error}");
    }

    #[test]
    fn leftovers_of_a_killed_fetch_go_and_finished_parts_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(format!("{UNFINISHED}encoder"))).unwrap();
        fs::create_dir(folder.path().join("encoder-0.1.0")).unwrap();
        remove_leftovers(folder.path()).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["encoder-0.1.0"]);
    }
}
