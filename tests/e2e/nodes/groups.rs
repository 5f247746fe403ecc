//! The control groups that the nodes' containers are in: one folder of ours in each hierarchy, gone after the run. Both versions of
//! control groups: of the first each hierarchy has a mount of its own, of the second there is one for all.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// Names begin with it, and go on with the number of the process that supervises the run.
const PREFIX: &str = "expert-router-e2e-";
/// The kernel takes a moment to see that a group is empty.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the group of a run is called.
pub(crate) fn name(supervisor: u32) -> String {
    format!("{PREFIX}{supervisor}")
}

/// Where groups are made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hierarchies {
    /// A mount for each set of controllers.
    First(Vec<PathBuf>),
    /// One for all.
    Second(PathBuf),
}

/// Those of this machine.
pub(crate) fn hierarchies() -> Result<Hierarchies> {
    hierarchies_of(&fs::read_to_string("/proc/self/mounts").context("reading the mounts")?)
}

fn hierarchies_of(mounts: &str) -> Result<Hierarchies> {
    let of = |kind: &str| -> Vec<PathBuf> {
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        fields
            .filter(|fields| fields.get(2) == Some(&kind) && fields[1].starts_with("/sys/fs/cgroup"))
            .map(|fields| fields[1].into())
            .collect()
    };
    let mut first = of("cgroup");
    first.sort();
    first.dedup();
    if first.iter().any(|path| path.ends_with("memory") || path.ends_with("cpu") || path.ends_with("cpu,cpuacct")) {
        return Ok(Hierarchies::First(first));
    }
    match of("cgroup2").pop() {
        Some(path) => Ok(Hierarchies::Second(path)),
        None => bail!("control groups: nothing that containers could be limited by is mounted at /sys/fs/cgroup"),
    }
}

/// Makes the group and one in it for each node, ready to have children.
pub(crate) fn make(group: &str, nodes: &[String]) -> Result<()> {
    match hierarchies()? {
        Hierarchies::First(hierarchies) => {
            for hierarchy in hierarchies {
                let folder = hierarchy.join(group);
                make_folder(&folder)?;
                inherit(&hierarchy, &folder)?;
                for node in nodes {
                    let inner = folder.join(node);
                    make_folder(&inner)?;
                    inherit(&folder, &inner)?;
                }
            }
        }
        Hierarchies::Second(root) => {
            let folder = root.join(group);
            make_folder(&folder)?;
            hand_down(&root)?;
            hand_down(&folder)?;
            for node in nodes {
                make_folder(&folder.join(node))?;
            }
        }
    }
    Ok(())
}

/// A new cpuset has neither processors nor memory, and nothing can run in it.
fn inherit(from: &Path, to: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if from.join(file).is_file() {
            let value = fs::read_to_string(from.join(file)).with_context(|| format!("reading {file} of {}", from.display()))?;
            fs::write(to.join(file), value).with_context(|| format!("writing {file} of {}", to.display()))?;
        }
    }
    Ok(())
}

/// Lets the children of a group have its controllers.
fn hand_down(folder: &Path) -> Result<()> {
    let controllers = fs::read_to_string(folder.join("cgroup.controllers")).context("reading the controllers")?;
    let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    fs::write(folder.join("cgroup.subtree_control"), all.join(" "))
        .with_context(|| format!("handing controllers down from {}: are there processes in it?", folder.display()))
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))
}

/// Removes the group with all in it, once its processes are gone.
pub(crate) fn remove(group: &str) -> Result<()> {
    for folder in folders(group)? {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = remove_folder(&folder) {
            if Instant::now() > deadline {
                return Err(error).with_context(|| format!("removing {}", folder.display()));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Removes what runs left whose supervisor was killed.
pub(crate) fn sweep() -> Result<()> {
    for root in roots()? {
        for entry in fs::read_dir(&root).with_context(|| format!("reading {}", root.display()))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let supervisor = name.strip_prefix(PREFIX).and_then(|number| number.parse::<u32>().ok());
            if supervisor.is_some_and(|number| !Path::new(&format!("/proc/{number}")).exists()) {
                remove(&name)?;
            }
        }
    }
    Ok(())
}

/// The group's folders that are still there, those of the second version beside the first's included.
fn folders(group: &str) -> Result<Vec<PathBuf>> {
    Ok(roots()?.into_iter().map(|root| root.join(group)).filter(|folder| folder.is_dir()).collect())
}

fn roots() -> Result<Vec<PathBuf>> {
    Ok(match hierarchies()? {
        Hierarchies::First(mut hierarchies) => {
            hierarchies.push("/sys/fs/cgroup/unified".into());
            hierarchies.into_iter().filter(|path| path.is_dir()).collect()
        }
        Hierarchies::Second(root) => vec![root],
    })
}

fn remove_folder(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_folder(&entry.path())?;
        }
    }
    fs::remove_dir(folder).with_context(|| format!("removing {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_told_apart_and_the_first_wins_where_it_has_the_controllers() {
        let first = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw 0 0\n";
        let second = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let paths = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"].map(PathBuf::from).to_vec();
        assert_eq!(hierarchies_of(&format!("{second}{first}")).unwrap(), Hierarchies::First(paths));
        let only = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(hierarchies_of(only).unwrap(), Hierarchies::Second("/sys/fs/cgroup".into()));
        assert!(hierarchies_of("tmpfs / tmpfs rw 0 0\n").is_err());
    }
}
