//! Embeddings kept between runs, in the user's cache folder: one file for each encoder, records of a text's hash, its numbers and a check.
//!
//! Several processes may use it at once: who reads or writes holds a lock on the file. A record cut short by a crash, or changed by a bad
//! disk, is dropped. A cache that cannot be read or written is none. Absent: eviction by age; a file that has grown too large is begun
//! anew.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
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
    record: usize,
    known: HashMap<Key, Vec<f32>>,
}

impl Cache {
    pub(super) fn open(encoder: &str, dimensions: usize) -> Self {
        Self::at(parts::cache_folder().join("embeddings").join(format!("{encoder}.bin")), dimensions)
    }

    fn at(path: PathBuf, dimensions: usize) -> Self {
        let record = size_of::<Key>() + dimensions * size_of::<f32>() + size_of::<u32>();
        let bytes = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "embeddings kept earlier cannot be read");
            }
            Vec::new()
        });
        let known = bytes.chunks_exact(record).filter_map(parse).collect();
        Self { path, record, known }
    }

    pub(super) fn get(&self, text: &str) -> Option<&[f32]> {
        self.known.get(&key(text)).map(Vec::as_slice)
    }

    /// Keeps embeddings, on disk where that works.
    pub(super) fn add<'a>(&mut self, found: impl Iterator<Item = (&'a String, Vec<f32>)>) {
        let mut bytes = Vec::new();
        for (text, embedding) in found {
            let key = key(text);
            let start = bytes.len();
            bytes.extend(key);
            bytes.extend(embedding.iter().flat_map(|value| value.to_le_bytes()));
            bytes.extend(check(&bytes[start..]).to_le_bytes());
            self.known.insert(key, embedding);
        }
        if let Err(error) = self.append(&bytes) {
            tracing::warn!(path = %self.path.display(), %error, "embeddings are not kept");
        }
    }

    /// Adds records behind the last whole one, while nobody else reads or writes.
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&self.path)?;
        file.lock()?;
        let length = file.metadata()?.len();
        let whole = if length > MAX_BYTES { 0 } else { length / self.record as u64 * self.record as u64 };
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        file.write_all(bytes)
    }
}

fn read(path: &PathBuf) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.lock_shared()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn key(text: &str) -> Key {
    let digest = Sha256::digest(text.as_bytes());
    let mut key = [0; size_of::<Key>()];
    key.copy_from_slice(&digest[..size_of::<Key>()]);
    key
}

/// None where the record is not what was written.
fn parse(record: &[u8]) -> Option<(Key, Vec<f32>)> {
    let (content, sum) = record.split_last_chunk::<4>()?;
    if check(content) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (key, numbers) = content.split_first_chunk()?;
    Some((*key, numbers.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
}

/// FNV-1a: enough against accidents, and zeros that a crash left are not taken for a record.
fn check(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_survive_a_restart_and_records_cut_short_or_changed_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub").join("encoder.bin");
        let texts = ["one", "two", "three"].map(str::to_owned);
        let numbers = |at: usize| vec![at as f32, 2.0, 3.0];
        let mut cache = Cache::at(path.clone(), 3);
        cache.add(texts.iter().enumerate().map(|(at, text)| (text, numbers(at))));
        let mut bytes = fs::read(&path).unwrap();
        let record = bytes.len() / 3;
        bytes[record + 20] ^= 1;
        bytes.truncate(3 * record - 5);
        fs::write(&path, &bytes).unwrap();
        let mut cache = Cache::at(path.clone(), 3);
        assert_eq!(texts.each_ref().map(|text| cache.get(text)), [Some(&numbers(0)[..]), None, None]);
        cache.add([(&texts[2], numbers(7))].into_iter());
        let again = Cache::at(path, 3);
        assert_eq!((again.get("one"), again.get("three")), (Some(&numbers(0)[..]), Some(&numbers(7)[..])));
    }

    #[test]
    fn many_who_write_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("encoder.bin");
        let text = |writer: usize, at: usize| format!("{writer} {at}");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = path.clone();
                scope.spawn(move || {
                    // As separate processes would: a file and a lock each.
                    for at in 0..20 {
                        let mut cache = Cache::at(path.clone(), 300);
                        cache.add([(&text(writer, at), vec![(writer * 100 + at) as f32; 300])].into_iter());
                    }
                });
            }
        });
        let cache = Cache::at(path, 300);
        for (writer, at) in (0..4).flat_map(|writer| (0..20).map(move |at| (writer, at))) {
            assert_eq!(cache.get(&text(writer, at)), Some(&vec![(writer * 100 + at) as f32; 300][..]), "{writer} {at}");
        }
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
