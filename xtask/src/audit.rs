//! `xtask audit`: licences, sources and bans of the dependency tree, as deny.toml states them. cargo-deny does it where it is installed;
//! a check of our own, of licences and sources, always runs, for it takes a second and needs no network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

/// Check licences and sources of all dependencies
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Install cargo-deny into the user's cache folder if it is missing (some minutes), and look for known vulnerabilities, too
    #[arg(long)]
    full: bool,
}

/// The version that deny.toml was written for.
const CARGO_DENY: &str = "0.20";

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = crate::workspace();
    own_check(&root)?;
    let Some(deny) = (if arguments.full { Some(installed_or_install()?) } else { installed() }) else {
        println!("cargo-deny is not installed: bans and texts of licences were not looked at (`make audit` installs it)");
        return Ok(());
    };
    check(&deny, &root, &["licenses", "bans", "sources"])?;
    if arguments.full && check(&deny, &root, &["advisories"]).is_err() {
        bail!("advisories: a known vulnerability (see above), or the advisory database on GitHub could not be reached");
    }
    Ok(())
}

fn own_check(root: &Path) -> Result<()> {
    let path = root.join("deny.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let rules: Rules = toml::from_str(&text).with_context(|| format!("understanding {}", path.display()))?;
    let output = Command::new(env!("CARGO")).args(["metadata", "--format-version", "1", "--locked"]).current_dir(root).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("understanding cargo's metadata")?;
    let complaints = judge(&rules, &metadata)?;
    if !complaints.is_empty() {
        bail!("{}", complaints.into_iter().collect::<Vec<_>>().join("\n"));
    }
    println!("licences and sources of {} packages are as deny.toml allows", metadata.packages.len());
    Ok(())
}

fn judge(rules: &Rules, metadata: &Metadata) -> Result<BTreeSet<String>> {
    let allowed = rules.licenses.allow.iter().map(|licence| Licensee::parse(licence));
    let allowed = allowed.collect::<Result<Vec<_>, _>>().context("deny.toml: an allowed licence is no SPDX name")?;
    let is_allowed = |asked: &LicenseReq| allowed.iter().any(|licence| licence.satisfies(asked));
    let mut complaints = BTreeSet::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        // Lax, since packages still write `MIT/Apache-2.0`.
        let stated = package.license.as_deref().unwrap_or_default();
        match Expression::parse_mode(stated, ParseMode::LAX) {
            Ok(expression) if expression.evaluate(is_allowed) => {}
            Ok(_) => drop(complaints.insert(format!("{name}: its licence {stated} is not among those deny.toml allows"))),
            Err(_) => drop(complaints.insert(format!("{name}: its licence `{stated}` is no SPDX expression"))),
        }
        let from = package.source.as_deref().map(|source| source.trim_start_matches("registry+"));
        if let Some(from) = from.filter(|from| !rules.sources.allow_registry.iter().any(|allowed| allowed == from)) {
            complaints.insert(format!("{name}: it comes from {from}, which deny.toml does not allow"));
        }
    }
    Ok(complaints)
}

/// cargo-deny, from the search path or from where `--full` puts it.
fn installed() -> Option<PathBuf> {
    let ours = tools().join("bin").join("cargo-deny");
    [PathBuf::from("cargo-deny"), ours]
        .into_iter()
        .find(|path| Command::new(path).arg("--version").output().is_ok_and(|output| output.status.success()))
}

fn installed_or_install() -> Result<PathBuf> {
    if let Some(found) = installed() {
        return Ok(found);
    }
    println!("installing cargo-deny {CARGO_DENY}, which takes some minutes");
    let root = tools();
    let status = Command::new(env!("CARGO"))
        .args(["install", "--locked", "cargo-deny", "--version", CARGO_DENY, "--root"])
        .arg(&root)
        .status()
        .context("starting cargo install")?;
    if !status.success() {
        bail!("cargo install cargo-deny failed (see above)");
    }
    Ok(root.join("bin").join("cargo-deny"))
}

fn tools() -> PathBuf {
    parts::cache_folder().join("tools")
}

fn check(deny: &Path, root: &Path, what: &[&str]) -> Result<()> {
    let status = Command::new(deny).args(["--all-features", "check", "--hide-inclusion-graph"]).args(what).current_dir(root).status()?;
    if !status.success() {
        bail!("cargo deny check {} failed (see above)", what.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES_IO: &str = "https://index";

    fn check(licence: Option<&str>, source: Option<&str>, complaint: Option<&str>) {
        let rules = Rules {
            licenses: Licenses { allow: vec!["MIT".into(), "Apache-2.0 WITH LLVM-exception".into()] },
            sources: Sources { allow_registry: vec![CRATES_IO.into()] },
        };
        let package = Package {
            name: "thing".into(),
            version: "1.2.3".into(),
            license: licence.map(Into::into),
            source: source.map(|source| format!("registry+{source}")),
        };
        let found = judge(&rules, &Metadata { packages: vec![package] }).unwrap();
        match complaint {
            None => assert!(found.is_empty(), "{found:?}"),
            Some(word) => assert!(found.iter().any(|text| text.contains(word) && text.contains("thing 1.2.3")), "{found:?}"),
        }
    }

    #[test]
    fn one_allowed_alternative_is_enough_and_all_joined_licences_must_be_allowed() {
        check(Some("MIT OR GPL-3.0"), Some(CRATES_IO), None);
        check(Some("MIT/Apache-2.0"), None, None);
        check(Some("MIT AND GPL-3.0"), None, Some("GPL-3.0"));
        check(Some("Apache-2.0"), None, Some("not among"));
        check(Some("Apache-2.0 WITH LLVM-exception"), None, None);
    }

    #[test]
    fn no_licence_and_a_foreign_source_are_complaints() {
        check(None, None, Some("no SPDX"));
        check(Some("MIT"), Some("https://elsewhere"), Some("https://elsewhere"));
    }
}
