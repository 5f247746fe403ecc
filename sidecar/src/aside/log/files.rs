//! Rows to files. One file is written at a time, as `.NAME.part`; finished, it is called `NAME` and never touched again. A file that a
//! process left behind half-written is finished by the next one that opens the folder, less its last line if that is cut.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::metrics::LogCounters;

/// A file is finished after this long even if it is small, for those who fetch them.
const LONGEST: Duration = Duration::from_secs(3600);
const BEGINNING: &str = "requests-";
const ENDING: &str = ".jsonl";
const UNFINISHED: &str = ".part";

/// A folder of files.
pub(super) struct Files {
    folder: PathBuf,
    /// Whose files they are, unlike any other that writes to the folder.
    who: String,
    begun: u32,
    current: Option<Current>,
    counters: LogCounters,
}

struct Current {
    file: File,
    name: String,
    bytes: u64,
    since: Instant,
    max_total_bytes: u64,
}

impl Files {
    /// Opens the folder, and finishes what others left behind.
    pub(super) fn open(folder: &Path, counters: LogCounters) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
        let files = Self { folder: folder.to_owned(), who: format!("{host}-{}", std::process::id()), begun: 0, current: None, counters };
        files.adopt();
        Ok(files)
    }

    /// Files of processes that are no more. Whoever writes one holds its lock.
    fn adopt(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(UNFINISHED)) else { continue };
            if !name.starts_with(BEGINNING) {
                continue;
            }
            if let Err(error) = adopt(&entry.path(), &self.folder.join(name)) {
                tracing::warn!(%error, file = name, "a file of requests that was left behind cannot be finished");
            }
        }
    }

    /// Appends a row, whole or not at all.
    pub(super) fn write(&mut self, line: &[u8], max_file_bytes: u64, max_total_bytes: u64) -> io::Result<()> {
        self.look()?;
        if self.current.as_ref().is_some_and(|current| current.bytes > 0 && current.bytes + line.len() as u64 > max_file_bytes) {
            self.finish()?;
        }
        if self.current.is_none() {
            // What is to come must fit too.
            self.prune(max_total_bytes.saturating_sub(max_file_bytes));
            self.current = Some(self.begin(max_total_bytes)?);
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        if let Err(error) = current.file.write_all(line) {
            // Half a row would make the file unreadable: it ends where it ended before.
            let whole = current.file.set_len(current.bytes).and_then(|()| current.file.seek(SeekFrom::Start(current.bytes)));
            if whole.is_err() {
                self.current = None;
            }
            return Err(error);
        }
        current.bytes += line.len() as u64;
        Ok(())
    }

    fn begin(&mut self, max_total_bytes: u64) -> io::Result<Current> {
        self.begun += 1;
        // By its own time, so that the order of all files by name is that by age, whoever wrote them and since when.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let name = format!("{BEGINNING}{now:014}-{}-{:06}{ENDING}", self.who, self.begun);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.folder.join(format!(".{name}{UNFINISHED}")))?;
        // Where locks are unknown, files that are left behind stay as they are.
        let _ = file.try_lock();
        Ok(Current { file, name, bytes: 0, since: Instant::now(), max_total_bytes })
    }

    /// Finishes a file that has been open for long.
    pub(super) fn look(&mut self) -> io::Result<()> {
        match &self.current {
            Some(current) if current.since.elapsed() >= LONGEST => self.finish(),
            _ => Ok(()),
        }
    }

    /// Gives the file its name, if there is one.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let unfinished = self.folder.join(format!(".{}{UNFINISHED}", current.name));
        if current.bytes == 0 {
            return fs::remove_file(unfinished);
        }
        current.file.sync_all()?;
        fs::rename(unfinished, self.folder.join(&current.name))?;
        self.prune(current.max_total_bytes);
        Ok(())
    }

    /// Deletes the oldest files until the rest fits.
    fn prune(&self, most: u64) {
        let mut finished: Vec<(PathBuf, u64)> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| is_finished(&entry.file_name()))
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len())))
            .collect();
        finished.sort_unstable();
        let mut total: u64 = finished.iter().map(|(_, bytes)| bytes).sum();
        for (path, bytes) in finished {
            if total <= most {
                return;
            }
            // Another Pod may have deleted it.
            if fs::remove_file(path).is_ok() {
                self.counters.deleted.inc();
            }
            total -= bytes;
        }
    }
}

fn is_finished(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(BEGINNING) && name.ends_with(ENDING))
}

fn adopt(unfinished: &Path, finished: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(unfinished)?;
    if file.try_lock().is_err() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole == 0 {
        return fs::remove_file(unfinished);
    }
    file.set_len(whole as u64)?;
    file.sync_all()?;
    fs::rename(unfinished, finished)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::metrics::Metrics;

    fn files(folder: &Path) -> Files {
        Files::open(folder, Metrics::new().request_log.clone()).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_gets_its_name_once_it_is_whole_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path());
        for line in ["one\n", "two\n", "three\n"] {
            files.write(line.as_bytes(), 8, 1000).unwrap();
        }
        let found = names(folder.path());
        assert!(found[0].starts_with(".requests-") && found[0].ends_with(".jsonl.part"), "{found:?}");
        assert_eq!((found.len(), fs::read_to_string(folder.path().join(&found[1])).unwrap()), (2, "one\ntwo\n".to_owned()));
        files.finish().unwrap();
        let found = names(folder.path());
        assert_eq!(fs::read_to_string(folder.path().join(&found[1])).unwrap(), "three\n");
        for name in found {
            assert_eq!(fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_is_finished_after_an_hour_also_where_rows_never_stop_coming() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path());
        files.write(b"one\n", 100, 1000).unwrap();
        files.write(b"two\n", 100, 1000).unwrap();
        let current = files.current.as_mut().unwrap();
        current.since = current.since.checked_sub(LONGEST).unwrap();
        files.write(b"three\n", 100, 1000).unwrap();
        let texts: Vec<_> = names(folder.path()).iter().map(|name| fs::read_to_string(folder.path().join(name)).unwrap()).collect();
        assert_eq!(texts, ["three\n", "one\ntwo\n"], "the one in the making comes first");
    }

    #[test]
    fn the_oldest_files_go_where_all_would_be_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path());
        fs::write(folder.path().join("something-else.jsonl"), [0; 500]).unwrap();
        for number in 0..20 {
            files.write(format!("{number:02} 4567\n").as_bytes(), 16, 64).unwrap();
        }
        files.finish().unwrap();
        let kept: Vec<_> = names(folder.path()).into_iter().filter(|name| name.starts_with("requests-")).collect();
        let text: String = kept.iter().map(|name| fs::read_to_string(folder.path().join(name)).unwrap()).collect();
        assert!(text.len() <= 64 && text.ends_with("18 4567\n19 4567\n"), "{text}");
        assert_eq!(files.counters.deleted.get(), 10 - kept.len() as u64);
        assert!(folder.path().join("something-else.jsonl").exists());
    }

    #[test]
    fn of_two_processes_the_oldest_files_go_and_not_those_of_who_began_first() {
        let folder = tempfile::tempdir().unwrap();
        let [mut first, mut second] = ["a-1", "b-1"].map(|who| Files { who: who.to_owned(), ..files(folder.path()) });
        let write = |files: &mut Files, line: &str| {
            files.write(line.as_bytes(), 2, 6).unwrap();
            files.finish().unwrap();
            // The next file's name has another time.
            std::thread::sleep(Duration::from_millis(2));
        };
        write(&mut second, "1\n");
        write(&mut second, "2\n");
        write(&mut first, "3\n");
        write(&mut second, "4\n");
        let kept: String = names(folder.path()).iter().map(|name| fs::read_to_string(folder.path().join(name)).unwrap()).collect();
        assert_eq!(kept, "2\n3\n4\n");
    }

    #[test]
    fn what_a_dead_process_left_is_finished_and_what_a_living_one_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".requests-1-gone-1-000001.jsonl.part"), "one\ntw").unwrap();
        fs::write(folder.path().join(".requests-1-gone-1-000002.jsonl.part"), "on").unwrap();
        let mut living = files(folder.path());
        living.write(b"alive\n", 100, 1000).unwrap();
        let _other = files(folder.path());
        let found = names(folder.path());
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(fs::read_to_string(folder.path().join("requests-1-gone-1-000001.jsonl")).unwrap(), "one\n");
        assert!(found[0].ends_with(".part"), "{found:?}");
    }
}
