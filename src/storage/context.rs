//! What the logs of one broker share: the file system, the open files, and what is known of the disk at the start.

use crate::storage::file_system::FileSystem;
use crate::storage::open_files::OpenFiles;
use crate::storage::recovery::Tail;
use std::sync::Arc;

/// Open segment files of a log that is opened alone.
const OPEN_FILES_ALONE: usize = 64;

/// What the logs of one broker share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StorageContext {
    /// Where the files are.
    pub fs: Arc<dyn FileSystem>,
    /// Those that are open.
    pub open_files: Arc<OpenFiles>,
    /// What is known, when a log is opened, of the bytes that no checkpoint vouches for.
    pub tail: Tail,
}

impl StorageContext {
    /// A context with at most about `open_files_max` open segment files.
    pub fn new(fs: Arc<dyn FileSystem>, open_files_max: usize) -> Self {
        Self { fs, open_files: OpenFiles::new(open_files_max), tail: Tail::MaybeUnsynced }
    }
}

/// For a log that is opened alone.
impl From<Arc<dyn FileSystem>> for StorageContext {
    fn from(fs: Arc<dyn FileSystem>) -> Self {
        Self::new(fs, OPEN_FILES_ALONE)
    }
}

/// For a log that is opened alone.
impl<F: FileSystem> From<Arc<F>> for StorageContext {
    fn from(fs: Arc<F>) -> Self {
        Self::new(fs, OPEN_FILES_ALONE)
    }
}
