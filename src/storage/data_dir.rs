//! The data directory: who may use it, which format it has, and where things are in it.
//!
//! ```text
//! <data-dir>/lock                       held (flock) as long as a broker runs; says who, until a clean stop
//! <data-dir>/format.json                format version and the broker's identity
//! <data-dir>/catalog.json               topics and their options
//! <data-dir>/upkeep.json                the time of day, and when all was last scrubbed
//! <data-dir>/topics/<uuid>/<partition>/ the log of one partition
//! ```

use crate::storage::atomic_file;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::FileSystem;
use crate::storage::segment::header::LogId;
use crate::types::TopicId;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The format this broker reads and writes.
pub const FORMAT_VERSION: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
struct Format {
    format_version: u32,
    broker_id: Uuid,
}

/// An open data directory. Nobody else can open it while this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    broker_id: Uuid,
    is_after_clean_stop: bool,
    /// Closing the file gives the lock up; the file itself is never removed, so that it always means the same.
    lock: fs::File,
}

impl DataDir {
    /// Opens a data directory, creating it if there is nothing at `path` or an empty directory.
    pub fn open(fs: &dyn FileSystem, path: &Path) -> Result<Self, StorageError> {
        fs.create_dir_all(path).context("create", path)?;
        // Before the lock, which is a file too.
        refuse_foreign_directory(fs, path)?;
        let (lock, is_after_clean_stop) = lock(path)?;
        let format_path = path.join("format.json");
        let broker_id = if let Some(text) = atomic_file::read(fs, &format_path)? {
            known_format(&format_path, &text)?
        } else {
            let broker_id = Uuid::new_v4();
            let format = Format { format_version: FORMAT_VERSION, broker_id };
            let text = serde_json::to_string(&format).expect("two fields are JSON") + "\n";
            atomic_file::replace(fs, &format_path, &text)?;
            broker_id
        };
        let topics = path.join("topics");
        fs.create_dir_all(&topics).context("create", &topics)?;
        fs.sync_dir(path).context("sync", path)?;
        Ok(Self { path: path.into(), broker_id, is_after_clean_stop, lock })
    }

    /// Whether a directory that exists can be used: it is empty, or of a format this broker knows. Changes nothing and
    /// takes no lock, so a broker may be running on it.
    pub fn check(fs: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
        let format_path = path.join("format.json");
        match atomic_file::read(fs, &format_path)? {
            Some(text) => known_format(&format_path, &text).map(drop),
            None => refuse_foreign_directory(fs, path),
        }
    }

    /// Whether a broker has the directory at `path` open. Changes nothing: the lock is shared for the moment of asking.
    pub fn is_in_use(path: &Path) -> Result<bool, StorageError> {
        let lock_path = path.join("lock");
        let file = match fs::OpenOptions::new().read(true).open(&lock_path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            result => result.context("open", &lock_path)?,
        };
        match rustix::fs::flock(file.as_fd(), rustix::fs::FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(StorageError::io("lock", &lock_path, error.into())),
        }
    }

    /// Whether whoever had it open before has stopped cleanly, with everything on disk, or nobody had.
    pub fn is_after_clean_stop(&self) -> bool {
        self.is_after_clean_stop
    }

    /// Says that everything is on disk. Nothing may be written from here on.
    pub fn note_clean_stop(&self) {
        // Not synced: after a power cut there is nothing left in memory either way.
        if let Err(error) = self.lock.set_len(0) {
            tracing::warn!(%error, "the clean stop was not noted; the next start takes a little longer");
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of this broker: made with the directory, and kept.
    pub fn broker_id(&self) -> Uuid {
        self.broker_id
    }

    /// The catalog of topics.
    pub fn catalog_path(&self) -> PathBuf {
        self.path.join("catalog.json")
    }

    /// What upkeep keeps for the next start.
    pub fn upkeep_path(&self) -> PathBuf {
        self.path.join("upkeep.json")
    }

    /// The directory of all topics.
    pub fn topics_path(&self) -> PathBuf {
        self.path.join("topics")
    }

    /// The directory of one topic.
    pub fn topic_path(&self, topic: TopicId) -> PathBuf {
        self.topics_path().join(topic.to_string())
    }

    /// The directory of one partition's log.
    pub fn log_path(&self, log: LogId) -> PathBuf {
        self.topic_path(log.topic).join(log.partition.to_string())
    }
}

/// Takes the lock of a data directory for as long as the file is open. Says as well whether the last one to have it
/// took its name back out: then it has stopped cleanly.
///
/// Past the seam on purpose: a lock is a matter of this process, not of a simulated disk.
fn lock(path: &Path) -> Result<(fs::File, bool), StorageError> {
    let lock_path = path.join("lock");
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .context("open", &lock_path)?;
    let locked = rustix::fs::flock(file.as_fd(), rustix::fs::FlockOperation::NonBlockingLockExclusive);
    let mut holder = String::new();
    let _ = file.read_to_string(&mut holder);
    match locked {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(StorageError::Locked { path: path.into(), holder: holder.trim().to_owned() });
        }
        Err(error) => return Err(StorageError::io("lock", &lock_path, error.into())),
    }
    // For the message that a second broker prints, and for the next start; the lock itself is the kernel's. From the
    // beginning of the file: it was read to its end.
    let name = format!("process {}\n", std::process::id());
    let _ = file.set_len(0).and_then(|()| file.write_all_at(name.as_bytes(), 0));
    Ok((file, holder.is_empty()))
}

fn known_format(path: &Path, text: &str) -> Result<Uuid, StorageError> {
    let format: Format = serde_json::from_str(text)
        .map_err(|error| StorageError::corrupt(path, 0, format!("it is not a format description: {error}")))?;
    if format.format_version != FORMAT_VERSION {
        let what = format!(
            "its format version is {}, this broker knows {FORMAT_VERSION}; use the millstream version that wrote it",
            format.format_version
        );
        return Err(StorageError::Format { path: path.into(), what });
    }
    Ok(format.broker_id)
}

/// A directory that holds other things is not ours to write into.
fn refuse_foreign_directory(fs: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
    let found = fs.list(path).context("list", path)?;
    if found.iter().any(|name| name == "format.json") {
        return Ok(());
    }
    match found.iter().find(|name| !["lock", "format.tmp", "lost+found"].contains(&name.as_str())) {
        Some(name) => Err(StorageError::Format {
            path: path.into(),
            what: format!("it holds {name:?} but no format.json; choose an empty directory or a new one"),
        }),
        None => Ok(()),
    }
}
