//! The Python environment of tests and demo: OpenAI's SDK and llama.cpp's server, all versions and hashes pinned.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{PYTHON, UNFINISHED, put_in_place, python};

/// What must be importable for the environment to count as whole.
const PROBE: &str = "import openai, xllamacpp";

/// Makes the environment unless it is there and works. A Python that was upgraded under it makes it new.
pub(crate) fn ensure(folder: &Path) -> Result<()> {
    let target = parts::python_folder();
    if let Ok(path) = parts::python() {
        match python::output(&path.display().to_string(), &["-c", PROBE]) {
            Ok(_) => {
                println!("{PYTHON:14} {:16} there", parts::requirements_id());
                return Ok(());
            }
            Err(error) => println!("{PYTHON:14} {:16} broken ({error:#}), making it again", parts::requirements_id()),
        }
    }
    println!("{PYTHON:14} {:16} making a virtual environment with the OpenAI SDK and llama.cpp's server", parts::requirements_id());
    let started = Instant::now();
    let unfinished = folder.join(format!("{UNFINISHED}{PYTHON}"));
    make(&unfinished).context("making the Python environment")?;
    put_in_place(&unfinished, &target)?;
    println!("{PYTHON:14} {:16} made in {:.1} s: {}", parts::requirements_id(), started.elapsed().as_secs_f64(), target.display());
    Ok(())
}

/// The environment is made aside and moved: its `bin/python` is a link and finds its home by `pyvenv.cfg`, so it works from anywhere.
/// (The scripts in `bin` do not; nobody calls them.)
fn make(unfinished: &Path) -> Result<()> {
    let machine = python::find()?;
    let environment = unfinished.display().to_string();
    python::output(&machine, &["-m", "venv", &environment])?;
    let requirements = unfinished.join("requirements.txt");
    fs::write(&requirements, parts::REQUIREMENTS).with_context(|| format!("writing {}", requirements.display()))?;
    let inside = unfinished.join("bin").join("python").display().to_string();
    let requirements = requirements.display().to_string();
    python::pip(&inside, &["install", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", &requirements])?;
    python::output(&inside, &["-c", PROBE]).map(drop)
}
