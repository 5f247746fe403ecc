//! `xtask definitions`: brings definitions (CRDs) of other projects into the user's cache folder, out of the Go modules that
//! `parts::definitions` pins. Nothing is compiled; Go fetches the modules and says what their content hashes to.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail, ensure};
use parts::definitions::{MODULES, Module};
use serde::Deserialize;

use crate::fetch::lock;

/// What `go mod download -json` says of a module.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    #[serde(default)]
    dir: String,
    #[serde(default)]
    sum: String,
    #[serde(default)]
    error: String,
}

pub(crate) fn run() -> Result<()> {
    MODULES.iter().filter(|module| !module.is_fetched()).try_for_each(bring)
}

fn bring(module: &Module) -> Result<()> {
    let folder = module.fetched_folder();
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let _lock = lock(&folder)?;
    let name = format!("{}@{}", module.path, module.version);
    println!("definitions of {name}");
    let downloaded = download(&name)?;
    ensure!(downloaded.sum == module.sum, "{name} hashes to {}, and {} is pinned", downloaded.sum, module.sum);
    for file in module.files {
        let from = std::path::Path::new(&downloaded.dir).join(module.folder).join(file);
        let content = fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
        let unfinished = folder.join(format!(".unfinished-{file}"));
        fs::write(&unfinished, content).with_context(|| format!("writing {}", unfinished.display()))?;
        fs::rename(&unfinished, folder.join(file)).with_context(|| format!("moving {file} to its place"))?;
    }
    Ok(())
}

fn download(name: &str) -> Result<Downloaded> {
    // Outside of any module, where no go.mod is asked which version it wants.
    let nowhere = std::env::temp_dir();
    let output = Command::new("go")
        .args(["mod", "download", "-json", name])
        .current_dir(nowhere)
        .env("GOFLAGS", "-mod=mod")
        .env("GOWORK", "off")
        .output()
        .context("starting go: the tests need it (https://go.dev/dl)")?;
    let downloaded: Downloaded = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("go mod download {name}: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    if !downloaded.error.is_empty() {
        bail!("go mod download {name}: {}", downloaded.error);
    }
    Ok(downloaded)
}
