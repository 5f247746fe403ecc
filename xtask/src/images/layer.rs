//! One layer of an image: files in a tar, in the order of their paths, without times and owners, so that the same files make the same
//! bytes.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// What is in a layer so far.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    /// By path without the slash at the beginning: so folders come before what is in them.
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug)]
enum Entry {
    Folder { mode: u32 },
    File { content: Vec<u8>, mode: u32 },
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A file of this content.
    pub(crate) fn file(&mut self, path: &str, content: &[u8], executable: bool) {
        let mode = if executable { 0o755 } else { 0o644 };
        self.put(path, Entry::File { content: content.to_vec(), mode });
    }

    /// A folder.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) {
        self.put(path, Entry::Folder { mode });
    }

    /// A copy of a file of this machine; links are followed.
    pub(crate) fn copy(&mut self, from: &Path, path: &str) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        let metadata = fs::metadata(from).with_context(|| format!("reading {}", from.display()))?;
        self.file(path, &content, metadata.permissions().mode() & 0o111 != 0);
        Ok(())
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let path = PathBuf::from(path.trim_start_matches('/'));
        let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_owned);
        for parent in parents.collect::<Vec<_>>() {
            self.entries.entry(parent).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(path, entry);
    }

    /// The tar.
    pub(crate) fn finish(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let mut header = Header::new_ustar();
            let (kind, mode, content) = match entry {
                Entry::Folder { mode } => (EntryType::Directory, *mode, &[][..]),
                Entry::File { content, mode } => (EntryType::Regular, *mode, content.as_slice()),
            };
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            tar.append_data(&mut header, path, content).with_context(|| format!("packing {}", path.display()))?;
        }
        tar.into_inner().context("ending the layer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_bytes_in_whatever_order_they_come() {
        let (mut one, mut other) = (Layer::new(), Layer::new());
        one.file("/usr/bin/x", b"x", true);
        one.folder("/tmp", 0o1777);
        other.folder("/tmp", 0o1777);
        other.file("/usr/bin/x", b"x", true);
        assert_eq!(one.finish().unwrap(), other.finish().unwrap());
        let bytes = one.finish().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.path().unwrap().into_owned(), entry.header().mode().unwrap()))
            .collect();
        let expected = [("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755), ("usr/bin/x", 0o755)];
        assert_eq!(seen, expected.map(|(path, mode)| (PathBuf::from(path), mode)));
    }
}
