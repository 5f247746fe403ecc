//! `xtask images`: the three images as OCI archives, packed without a container engine from the release binaries, the shared libraries
//! they need, and ONNX Runtime. Nothing else is in them: no shell, no package manager. The same files make the same bytes, so the same
//! digest. `skopeo`, `podman load`, `ctr images import` and `kind load image-archive` read them. With `--e2e` also what the end-to-end run
//! puts into Pods beside them.

mod archive;
mod e2e;
mod layer;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use archive::{Configuration, write_archive};
use layer::Layer;

/// Examples: `xtask images`, `xtask images --repository registry.example.com/llm --tag 1.2.3`
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What stands before the images' names
    #[arg(long, default_value = "localhost")]
    repository: String,
    /// The images' tag
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// Where the binaries are
    #[arg(long, value_name = "FOLDER", default_value = "target/release")]
    binaries: PathBuf,
    /// Where the archives go
    #[arg(long, value_name = "FOLDER", default_value = "target/images")]
    output: PathBuf,
    /// Also what the end-to-end run needs: a language model's server, the expert that replays, Prometheus, the load client
    #[arg(long)]
    e2e: bool,
}

/// One image with one program.
struct Image {
    name: &'static str,
    /// Of the binary.
    program: &'static str,
    /// Whether it runs models.
    onnx_runtime: bool,
    /// Whether it scores answers.
    encoder: bool,
}

const IMAGES: [Image; 3] = [
    Image { name: "expert-router", program: "expert-router", onnx_runtime: true, encoder: false },
    Image { name: "expert-router-operator", program: "expert-router-operator", onnx_runtime: false, encoder: false },
    Image { name: "expert-router-train", program: "expert-router-train", onnx_runtime: true, encoder: true },
];

const ONNX_RUNTIME: &str = "/usr/lib/libonnxruntime.so";
const ENCODER: &str = "/usr/share/expert-router/encoder";
/// Whom programs trust where nobody says otherwise.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Everybody's, and nobody's in particular: as in distroless images.
const USERS: &str = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n";
const NOBODY: &str = "65532:65532";
const GROUPS: &str = "root:x:0:\nnonroot:x:65532:\n";

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    fs::create_dir_all(&arguments.output).with_context(|| format!("making {}", arguments.output.display()))?;
    for image in &IMAGES {
        arguments.write(image.name, |name, path| pack(image, &arguments.binaries.join(image.program), name, path))?;
    }
    if arguments.e2e { e2e::run(arguments) } else { Ok(()) }
}

impl Arguments {
    /// Packs one and says so.
    fn write(&self, image: &str, pack: impl FnOnce(&str, &Path) -> Result<String>) -> Result<()> {
        let path = self.output.join(format!("{image}.tar"));
        let name = format!("{}/{image}:{}", self.repository, self.tag);
        let digest = pack(&name, &path).with_context(|| format!("packing {name}"))?;
        let size = fs::metadata(&path).map_or(0, |file| file.len() >> 20);
        println!("{name} {digest} {} ({size} MiB)", path.display());
        Ok(())
    }
}

/// What seldom changes lies in a layer of its own, below the program.
fn pack(image: &Image, binary: &Path, name: &str, path: &Path) -> Result<String> {
    if !binary.is_file() {
        bail!("{} is not there: build it with `make build`", binary.display());
    }
    let mut environment = BTreeMap::from([("PATH", "/usr/bin"), ("SSL_CERT_FILE", AUTHORITIES)]);
    let mut below = base();
    match fs::read(AUTHORITIES) {
        Ok(authorities) => below.file(AUTHORITIES, &authorities, false),
        Err(_) => {
            println!("{AUTHORITIES} is not here: programs in {name} trust no authority (Debian, Ubuntu: apt-get install ca-certificates)")
        }
    }
    let mut libraries = shared_libraries(binary)?;
    if image.onnx_runtime {
        let runtime = parts::onnx_runtime()?;
        libraries.extend(shared_libraries(&runtime)?);
        below.copy(&runtime, ONNX_RUNTIME)?;
        environment.insert("ORT_DYLIB_PATH", ONNX_RUNTIME);
    }
    for library in libraries {
        below.copy(&library, &library.to_string_lossy())?;
    }
    if image.encoder {
        let encoder = parts::encoder()?;
        for entry in fs::read_dir(&encoder).with_context(|| format!("reading {}", encoder.display()))? {
            let file = entry?.path();
            let file_name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            below.copy(&file, &format!("{ENCODER}/{file_name}"))?;
        }
        environment.insert("EXPERT_ROUTER_ENCODER", ENCODER);
    }
    let mut program = Layer::new();
    let entrypoint = format!("/usr/bin/{}", image.program);
    program.copy(binary, &entrypoint)?;
    let configuration = Configuration { entrypoint: &[&entrypoint], user: NOBODY, environment: &environment };
    write_archive(path, name, &configuration, &[below.finish()?, program.finish()?])
}

/// What every image has.
fn base() -> Layer {
    let mut base = Layer::new();
    base.file("/etc/passwd", USERS.as_bytes(), false);
    base.file("/etc/group", GROUPS.as_bytes(), false);
    base.folder("/tmp", 0o1777);
    base
}

/// What the loader would load for it, and the loader itself.
fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("running ldd")?;
    let (said, trouble) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // What needs no loader is called by either name.
    let is_static = said.contains("statically linked") || trouble.contains("not a dynamic executable");
    if !output.status.success() && !is_static {
        bail!("ldd {} failed: {trouble}", program.display());
    }
    libraries_of(&said).with_context(|| format!("ldd {}", program.display()))
}

fn libraries_of(said: &str) -> Result<Vec<PathBuf>> {
    if let Some(line) = said.lines().find(|line| line.contains("not found")) {
        bail!("a library is missing: {}", line.trim());
    }
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(said.lines().filter_map(path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_and_what_is_missing_is_said() {
        let said = "\tlinux-vdso.so.1 (0x7f)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x7f)\n\t/lib64/ld-linux.so.2 (0x7f)\n";
        assert_eq!(libraries_of(said).unwrap(), [PathBuf::from("/lib/x/libm.so.6"), PathBuf::from("/lib64/ld-linux.so.2")]);
        assert!(libraries_of("\tstatically linked\n").unwrap().is_empty());
        assert!(libraries_of("\tlibx.so => not found\n").unwrap_err().to_string().contains("libx.so"));
    }
}
