//! The state of a log that its writer, its readers and its keeper share.
//!
//! The list of segments is replaced as a whole, so whoever took it goes on with the segments it began with. Offsets only
//! move up.

use crate::storage::checkpoint::Checkpoint;
use crate::storage::compaction::CompactionState;
use crate::storage::file_system::FileSystem;
use crate::storage::segment::Segment;
use crate::storage::segment::header::LogId;
use crate::types::Offset;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

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
    /// Held while files are removed or the checkpoint is written: upkeep is done by one thread at a time.
    pub(super) checkpoint: Mutex<Checkpoint>,
    /// Held during a pass of compaction; taken before `checkpoint`.
    pub(super) compaction: Mutex<CompactionState>,
    closed: AtomicBool,
}

impl LogState {
    /// The state of a log that was just recovered.
    pub(super) fn new(
        fs: Arc<dyn FileSystem>,
        directory: &Path,
        id: LogId,
        segments: Vec<Arc<Segment>>,
        checkpoint: Checkpoint,
    ) -> Arc<Self> {
        Arc::new(Self {
            fs,
            directory: directory.into(),
            id,
            segments: RwLock::new(Arc::new(segments)),
            log_start: AtomicU64::new(checkpoint.log_start_offset.0),
            log_end: AtomicU64::new(checkpoint.next_offset.0),
            durable_end: AtomicU64::new(checkpoint.next_offset.0),
            checkpoint: Mutex::new(checkpoint),
            compaction: Mutex::default(),
            closed: AtomicBool::new(false),
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

    /// Where `run` begins in the list, if its segments still stand there, one behind the other.
    pub(super) fn position_of(&self, run: &[Arc<Segment>]) -> Option<usize> {
        let segments = self.segments();
        let at = segments.iter().position(|segment| Arc::ptr_eq(segment, &run[0]))?;
        let found = segments.get(at..at + run.len())?;
        found.iter().zip(run).all(|(found, wanted)| Arc::ptr_eq(found, wanted)).then_some(at)
    }

    /// Whether the writer has closed the log: the files may be another's by now.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Stops a pass of compaction that is under way, and any later one.
    pub(super) fn close_to_compaction(&self) {
        self.closed.store(true, Ordering::Release);
        drop(self.compaction.lock());
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

    /// Said by the writer, after a sync.
    pub(super) fn set_durable_end(&self, offset: Offset) {
        self.durable_end.store(offset.0, Ordering::Release);
    }

    /// Said by the keeper, before anything is deleted.
    pub(super) fn set_log_start(&self, offset: Offset) {
        self.log_start.store(offset.0, Ordering::Release);
    }
}
