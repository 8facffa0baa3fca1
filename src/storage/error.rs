//! What can go wrong on disk, with the path, the place and what to do in each message.

use crate::types::Offset;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of the log on disk. Cheap to clone, because one failed write answers many waiting producers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused an operation.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// No space is left. Nothing was appended; reads go on; a retry works once there is space.
    #[error("the disk is full: cannot {operation} {path}; free space or lower retention, then retry")]
    Full {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// The system gives this process no more files or maps. Nothing was done; others may give some back.
    #[error(
        "cannot {operation} {path}: the limit of {limit} is reached; raise it, or lower limits.open_files_max or \
         limits.connections_max of the broker"
    )]
    Exhausted {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Which limit, and where it is set.
        limit: &'static str,
    },
    /// Bytes on disk are not what was written. Nothing is cut or deleted.
    #[error("{path} is corrupt at byte {position}: {what}; nothing was changed, restore the file from a copy")]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where the damage begins.
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// Records of these offsets are damaged; all others of the log are served. Nothing is cut or deleted.
    #[error(
        "offsets {first_offset} to {next_offset} (exclusive) are damaged: {path} at byte {position}: {what}; records \
         from {next_offset} on are served; restore the file from a copy, or see: millstream log repair --help"
    )]
    Damaged {
        /// The first offset that cannot be read.
        first_offset: Offset,
        /// The offset at which good records go on.
        next_offset: Offset,
        /// The damaged file.
        path: PathBuf,
        /// Where the damage begins.
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// The offset is not, or not any more, in the log.
    #[error("offset {offset} is out of range: the log holds offsets {earliest} to {latest} (exclusive)")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// First retained offset.
        earliest: Offset,
        /// The high watermark.
        latest: Offset,
    },
    /// An earlier write or sync of this log failed; it takes no more appends until the broker is restarted.
    #[error("the log {path} is closed to appends since a write failed: {cause}; restart the broker")]
    Poisoned {
        /// Directory of the log.
        path: PathBuf,
        /// The failure that closed it.
        cause: String,
    },
    /// Another process has the data directory open.
    #[error("{path} is in use by another broker ({holder}); stop it first, or choose another --data-dir")]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// Who holds it, as far as the lock file says.
        holder: String,
    },
    /// The directory is of a format this broker does not know, or not a data directory at all.
    #[error("{path} cannot be used as a data directory: {what}")]
    Format {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
}

impl StorageError {
    /// Wraps an I/O error with what was tried; a full disk and limits of the system get their own cases.
    pub fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { operation, path: path.into() },
            _ => match exhausted_limit(&source) {
                Some(limit) => Self::Exhausted { operation, path: path.into(), limit },
                None => Self::Io { operation, path: path.into(), source: Arc::new(source) },
            },
        }
    }

    /// Names damage at a place in a file.
    pub fn corrupt(path: &Path, position: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), position, what: what.into() }
    }
}

/// The limit of the system behind an error, if it is one.
fn exhausted_limit(error: &io::Error) -> Option<&'static str> {
    match rustix::io::Errno::from_io_error(error)? {
        rustix::io::Errno::MFILE => Some("open files of this process (ulimit -n)"),
        rustix::io::Errno::NFILE => Some("open files of this machine (sysctl fs.file-max)"),
        rustix::io::Errno::NOMEM => Some("memory maps or memory (sysctl vm.max_map_count)"),
        _ => None,
    }
}

/// Names the operation and the path of an I/O result.
pub(crate) trait IoContext<T> {
    /// `operation` is a verb: "open", "sync".
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|error| StorageError::io(operation, path, error))
    }
}
