//! The state of a log that its writer, its readers and its keeper share.
//!
//! The list of segments is replaced as a whole, so whoever took it goes on with the segments it began with. Offsets only
//! move up.

use crate::storage::checkpoint::Checkpoint;
use crate::storage::damage::Damage;
use crate::storage::file_system::FileSystem;
use crate::storage::segment::Segment;
use crate::storage::segment::header::LogId;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::types::Offset;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// The state that writer, readers and keeper share.
#[derive(Debug)]
pub(super) struct LogState {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) directory: PathBuf,
    pub(super) id: LogId,
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    log_start: AtomicU64,
    log_end: AtomicU64,
    /// Every offset below this is known to be on disk.
    durable_end: AtomicU64,
    /// What is known to be damaged.
    pub(super) damage: Damage,
    /// Held while files are removed or the checkpoint is written: upkeep is done by one thread at a time.
    pub(super) checkpoint: Mutex<Checkpoint>,
}

impl LogState {
    /// The state of a log that was just recovered.
    pub(super) fn new(
        fs: Arc<dyn FileSystem>,
        directory: &Path,
        id: LogId,
        segments: Vec<Arc<Segment>>,
        checkpoint: Checkpoint,
        next_offset: Offset,
    ) -> Arc<Self> {
        Arc::new(Self {
            fs,
            directory: directory.into(),
            id,
            segments: RwLock::new(Arc::new(segments)),
            log_start: AtomicU64::new(checkpoint.log_start_offset.0),
            log_end: AtomicU64::new(next_offset.0),
            durable_end: AtomicU64::new(next_offset.0),
            damage: Damage::default(),
            checkpoint: Mutex::new(checkpoint),
        })
    }

    pub(super) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the list of segments by a changed copy.
    pub(super) fn change_segments(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>)) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = segments.to_vec();
        change(&mut changed);
        *segments = Arc::new(changed);
    }

    pub(super) fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    pub(super) fn log_end(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    /// Said by the writer, after the records are written.
    pub(super) fn set_log_end(&self, offset: Offset) {
        self.log_end.store(offset.0, Ordering::Release);
    }

    pub(super) fn durable_end(&self) -> Offset {
        Offset(self.durable_end.load(Ordering::Acquire))
    }

    /// Said by the writer or the keeper, after a sync.
    pub(super) fn set_durable_end(&self, offset: Offset) {
        self.durable_end.fetch_max(offset.0, Ordering::AcqRel);
    }

    /// Said by the keeper, before anything is deleted.
    pub(super) fn set_log_start(&self, offset: Offset) {
        self.log_start.store(offset.0, Ordering::Release);
    }
}
