//! What the end-to-end run puts into Pods beside the product: the program that keeps a Pod's namespaces, the expert that replays, the load
//! client, Prometheus, and llama.cpp's server with Python and a language model. None of them is meant for anybody else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{
    Arguments, Image, NOBODY,
    archive::{Configuration, write_archive},
    base,
    layer::Layer,
    pack, shared_libraries,
};

/// Nobody asks for it by name but containerd, which is told this one.
const PAUSE: &str = "localhost/expert-router-pause:1";
const PAUSE_SOURCE: &str = include_str!("pause.c");

const REPLAY: Image = Image { name: "expert-router-replay", program: "expert-router-replay", onnx_runtime: false, encoder: false };
const E2E: Image = Image { name: "expert-router-e2e", program: "e2e", onnx_runtime: false, encoder: false };
const PROMETHEUS: Image = Image { name: "expert-router-prometheus", program: "prometheus", onnx_runtime: false, encoder: false };

/// Where Python is in the image.
const PYTHON: &str = "/usr/python";
const SERVER: &str = "/usr/share/llm/llama_server.py";
const MODEL: &str = "/usr/share/llm/model.gguf";
/// Parts of Python's own library that no server needs, by their first folder.
const LEFT_OUT: [&str; 7] = ["__pycache__", "test", "idlelib", "tkinter", "ensurepip", "lib2to3", "site-packages"];

/// Says where Python's program, its own library and its installed packages are.
const PLACES: &str = "import os, sys, sysconfig, xllamacpp
print(os.path.realpath(sys.executable), sysconfig.get_path('stdlib', vars={'installed_base': sys.base_prefix}), os.path.dirname(xllamacpp.__file__), sep='\\n')";

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let pause = arguments.output.join("expert-router-pause.tar");
    println!("{PAUSE} {} {}", pack_pause(&pause, &arguments.output).context("packing the pause image")?, pause.display());
    for image in [REPLAY, E2E] {
        arguments.write(image.name, |name, path| pack(&image, &arguments.binaries.join(image.program), name, path))?;
    }
    // Not that of PATH: Debian's does not find Pods.
    let prometheus = parts::prometheus::built_folder().join("prometheus");
    if !prometheus.is_file() {
        bail!("{} is not there: build it with `cargo run -p xtask -- prometheus --own`", prometheus.display());
    }
    arguments.write(PROMETHEUS.name, |name, path| pack(&PROMETHEUS, &prometheus, name, path))?;
    arguments.write("expert-router-llm", pack_llm)
}

fn pack_pause(path: &Path, folder: &Path) -> Result<String> {
    let (source, program) = (folder.join("pause.c"), folder.join("pause"));
    fs::write(&source, PAUSE_SOURCE).with_context(|| format!("writing {}", source.display()))?;
    let output = Command::new("cc").args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(&source).output().context("starting cc")?;
    if !output.status.success() {
        bail!("cc failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut layer = base();
    layer.copy(&program, "/pause")?;
    for made in [source, program] {
        fs::remove_file(&made).with_context(|| format!("removing {}", made.display()))?;
    }
    let configuration = Configuration { entrypoint: &["/pause"], user: NOBODY, environment: &BTreeMap::new() };
    write_archive(path, PAUSE, &configuration, &[layer.finish()?])
}

fn pack_llm(name: &str, path: &Path) -> Result<String> {
    let output = Command::new(parts::python()?).args(["-c", PLACES]).output().context("asking Python where it is")?;
    if !output.status.success() {
        bail!("asking Python where it is: {}", String::from_utf8_lossy(&output.stderr));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let [program, library, package] = said.lines().map(PathBuf::from).collect::<Vec<_>>().try_into().ok().context("three places")?;
    let program_name = program.file_name().context("a program has a name")?.to_string_lossy().into_owned();
    let version = library.file_name().context("a library has a name")?.to_string_lossy().into_owned();

    let mut python = base();
    let mut libraries = Libraries::default();
    let entrypoint = format!("{PYTHON}/bin/{program_name}");
    python.copy(&program, &entrypoint)?;
    libraries.of(&program)?;
    copy_folder(&library, &format!("{PYTHON}/lib/{version}"), &LEFT_OUT, &mut python, &mut libraries)?;
    copy_folder(&package, &format!("{PYTHON}/lib/{version}/site-packages/xllamacpp"), &["__pycache__"], &mut python, &mut libraries)?;
    for library in libraries.found {
        python.copy(&library, &library.to_string_lossy())?;
    }
    let mut model = Layer::new();
    model.copy(&parts::chat_model()?, MODEL)?;
    let mut server = Layer::new();
    server.copy(Path::new("python/llama_server.py"), SERVER)?;
    // The root is read-only: nothing is compiled aside.
    let environment =
        BTreeMap::from([("PATH", "/usr/bin"), ("PYTHONHOME", PYTHON), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUNBUFFERED", "1")]);
    let command = [&entrypoint, SERVER, MODEL, "--stay", "--host", "0.0.0.0", "--port", "8080"];
    let configuration = Configuration { entrypoint: &command, user: NOBODY, environment: &environment };
    write_archive(path, name, &configuration, &[python.finish()?, model.finish()?, server.finish()?])
}

/// What programs and modules need beside themselves.
#[derive(Default)]
struct Libraries {
    found: Vec<PathBuf>,
}

impl Libraries {
    fn of(&mut self, program: &Path) -> Result<()> {
        for library in shared_libraries(program)? {
            if !self.found.contains(&library) {
                self.found.push(library);
            }
        }
        Ok(())
    }
}

fn copy_folder(from: &Path, to: &str, left_out: &[&str], layer: &mut Layer, libraries: &mut Libraries) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let inside = format!("{to}/{name}");
        if left_out.contains(&name.as_str()) || name.starts_with("config-") {
            continue;
        }
        if path.is_dir() {
            copy_folder(&path, &inside, left_out, layer, libraries)?;
        } else {
            // A module that this machine cannot load either (Tk without its libraries) is of no use there.
            if name.contains(".so") && libraries.of(&path).is_err() {
                continue;
            }
            layer.copy(&path, &inside)?;
        }
    }
    Ok(())
}
