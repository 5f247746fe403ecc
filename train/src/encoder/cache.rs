//! Embeddings kept between runs, in the user's cache folder: one file for each encoder, records of a text's hash and its numbers.
//!
//! A cache that cannot be read or written is none; a record cut short by a crash is dropped. Absent: eviction by age; a file that has
//! grown too large is begun anew.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
};

use sha2::{Digest, Sha256};

/// Half a text's SHA-256: no two texts of anyone share it by chance.
type Key = [u8; 16];

/// A file larger than this is begun anew: 300,000 texts at 384 dimensions.
const MAX_BYTES: u64 = 512 << 20;

/// Embeddings of one encoder.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    known: HashMap<Key, Vec<f32>>,
}

impl Cache {
    pub(super) fn open(encoder: &str, dimensions: usize) -> Self {
        Self::at(parts::cache_folder().join("embeddings").join(format!("{encoder}.bin")), dimensions)
    }

    fn at(path: PathBuf, dimensions: usize) -> Self {
        let record = size_of::<Key>() + dimensions * size_of::<f32>();
        let too_large = fs::metadata(&path).is_ok_and(|file| file.len() > MAX_BYTES);
        if too_large && let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove a cache that has grown too large");
        }
        let bytes = fs::read(&path).unwrap_or_default();
        let whole = bytes.len() / record * record;
        if whole < bytes.len()
            && let Ok(file) = OpenOptions::new().write(true).open(&path)
        {
            // What is appended must begin at a record again.
            let _ = file.set_len(whole as u64);
        }
        let known = bytes[..whole].chunks_exact(record).map(parse).collect();
        Self { path, known }
    }

    pub(super) fn get(&self, text: &str) -> Option<&[f32]> {
        self.known.get(&key(text)).map(Vec::as_slice)
    }

    /// Keeps embeddings, on disk where that works.
    pub(super) fn add<'a>(&mut self, found: impl Iterator<Item = (&'a String, Vec<f32>)>) {
        let mut bytes = Vec::new();
        for (text, embedding) in found {
            let key = key(text);
            bytes.extend(key);
            bytes.extend(embedding.iter().flat_map(|value| value.to_le_bytes()));
            self.known.insert(key, embedding);
        }
        let written = self.path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.write_all(&bytes)
        });
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "embeddings are not kept");
        }
    }
}

fn key(text: &str) -> Key {
    let digest = Sha256::digest(text.as_bytes());
    let mut key = [0; size_of::<Key>()];
    key.copy_from_slice(&digest[..size_of::<Key>()]);
    key
}

fn parse(record: &[u8]) -> (Key, Vec<f32>) {
    let (head, numbers) = record.split_at(size_of::<Key>());
    let mut key = [0; size_of::<Key>()];
    key.copy_from_slice(head);
    let value = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (key, numbers.chunks_exact(4).map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_survive_a_restart_and_a_record_cut_short_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub").join("encoder.bin");
        let (one, two) = ("one".to_owned(), "two".to_owned());
        let mut cache = Cache::at(path.clone(), 3);
        cache.add([(&one, vec![1.0, 2.0, 3.0]), (&two, vec![4.0, 5.0, 6.0])].into_iter());
        let length = fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 5).unwrap();
        let mut cache = Cache::at(path.clone(), 3);
        assert_eq!((cache.get("one"), cache.get("two")), (Some(&[1.0, 2.0, 3.0][..]), None));
        cache.add([(&two, vec![7.0, 8.0, 9.0])].into_iter());
        assert_eq!(Cache::at(path, 3).get("two"), Some(&[7.0, 8.0, 9.0][..]));
    }

    #[test]
    fn without_a_place_to_write_embeddings_are_kept_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let text = "one".to_owned();
        let mut cache = Cache::at(folder.path().join("file").join("encoder.bin"), 1);
        cache.add([(&text, vec![1.0])].into_iter());
        assert_eq!(cache.get("one"), Some(&[1.0][..]));
    }
}
