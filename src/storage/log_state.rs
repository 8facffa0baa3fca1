//! The state of a log that its writer, its readers and its keeper share.
//!
//! The list of segments is replaced as a whole, so whoever took it goes on with the segments it began with. Offsets only
//! move up.

use crate::storage::checkpoint::Checkpoint;
use crate::storage::compaction::CompactionState;
use crate::storage::context::StorageContext;
use crate::storage::damage::Damage;
use crate::storage::error::StorageError;
use crate::storage::file_system::FileSystem;
use crate::storage::producers_file;
use crate::storage::recovery::Recovered;
use crate::storage::segment::Segment;
use crate::storage::segment::header::LogId;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, RwLock};
use crate::types::{Offset, TimestampMs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// A place in the active segment, as it was then: everything before it, in this and every earlier segment, is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DurablePoint {
    /// Base offset of the segment.
    pub(super) segment: Offset,
    pub(super) position: u32,
    /// Offset of the record at the position.
    pub(super) next_offset: Offset,
    /// Append time of the last record before it.
    pub(super) last_append_time_ms: TimestampMs,
}

/// The snapshot of producers, on its way to the disk.
#[derive(Debug, Default)]
struct SavedProducers {
    /// What is known of them up to an offset that is not durable yet.
    waiting: Option<(Offset, String)>,
    /// How far the stored one speaks at least: an older one must not take its place.
    stored: Offset,
}

/// The state that writer, readers and keeper share.
#[derive(Debug)]
pub(super) struct LogState {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) context: StorageContext,
    pub(super) directory: PathBuf,
    pub(super) id: LogId,
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    log_start: AtomicU64,
    log_end: AtomicU64,
    /// Every offset below this is known to be on disk.
    durable_end: AtomicU64,
    /// How far that is, as a place.
    durable_point: Mutex<DurablePoint>,
    /// Where the process found the active segment to end: what it wrote itself is most likely still in memory.
    opened_at: (Offset, u32),
    /// Whether the writer has files open that hold bytes which are not on disk.
    has_unsynced: AtomicBool,
    /// What is known to be damaged.
    pub(super) damage: Damage,
    /// As it is on disk. Held while files are removed or it is written: upkeep is done by one thread at a time.
    pub(super) checkpoint: Mutex<Checkpoint>,
    /// As in the checkpoint, which may be locked for long.
    fencing_token: Mutex<Option<u64>>,
    /// Held while the snapshot of producers is written.
    saved_producers: Mutex<SavedProducers>,
    /// Held during a pass of compaction; taken before `checkpoint`.
    pub(super) compaction: Mutex<CompactionState>,
    closed: AtomicBool,
}

impl LogState {
    /// The state of a log that was just recovered.
    pub(super) fn new(context: StorageContext, directory: &Path, id: LogId, recovered: &Recovered) -> Arc<Self> {
        let Recovered { segments, checkpoint, found, .. } = recovered;
        Arc::new(Self {
            fs: Arc::clone(&context.fs),
            context,
            directory: directory.into(),
            id,
            segments: RwLock::new(Arc::new(segments.clone())),
            log_start: AtomicU64::new(checkpoint.log_start_offset.0),
            log_end: AtomicU64::new(found.next_offset.0),
            durable_end: AtomicU64::new(found.next_offset.0),
            durable_point: Mutex::new(DurablePoint {
                segment: found.segment,
                position: found.position,
                next_offset: found.next_offset,
                last_append_time_ms: found.last_append_time_ms,
            }),
            opened_at: (found.segment, found.position),
            has_unsynced: AtomicBool::new(false),
            damage: Damage::default(),
            fencing_token: Mutex::new(checkpoint.fencing_token),
            saved_producers: Mutex::default(),
            checkpoint: Mutex::new(*checkpoint),
            compaction: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// The right to write that appends must have, if any.
    pub(super) fn fencing_token(&self) -> Option<u64> {
        *lock(&self.fencing_token)
    }

    /// Makes a fencing token the log's; durable when it returns, and unchanged if it fails.
    pub(super) fn store_fencing_token(&self, token: Option<u64>) -> Result<(), StorageError> {
        let mut checkpoint = lock(&self.checkpoint);
        let fenced = Checkpoint { fencing_token: token, ..*checkpoint };
        fenced.store(&*self.fs, &self.directory)?;
        *checkpoint = fenced;
        *lock(&self.fencing_token) = token;
        Ok(())
    }

    /// Said by the writer: the text of the file for the producers up to `next_offset`.
    pub(super) fn save_producers(&self, next_offset: Offset, text: String) {
        lock(&self.saved_producers).waiting = Some((next_offset, text));
    }

    /// Said by whoever has made everything before `durable_end` durable.
    pub(super) fn store_saved_producers(&self, durable_end: Offset) {
        let mut saved = lock(&self.saved_producers);
        let due = saved.waiting.take_if(|(next_offset, _)| *next_offset <= durable_end);
        if let Some((next_offset, text)) = due.filter(|(next_offset, _)| *next_offset >= saved.stored) {
            producers_file::store(&*self.fs, &self.directory, &text);
            saved.stored = next_offset;
        }
    }

    /// Said by whoever takes the frames before `until` away: what they say of producers is in the snapshot from now on.
    pub(super) fn cover_producers(&self, until: Offset) -> Result<(), StorageError> {
        let mut saved = lock(&self.saved_producers);
        producers_file::cover(self, until)?;
        saved.stored = saved.stored.max(until);
        Ok(())
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

    /// Said by the writer or the keeper, after a sync.
    pub(super) fn set_durable_end(&self, offset: Offset) {
        self.durable_end.fetch_max(offset.0, Ordering::AcqRel);
    }

    pub(super) fn has_unsynced(&self) -> bool {
        self.has_unsynced.load(Ordering::Acquire)
    }

    /// Said by the writer: before it changes a file, and after a sync.
    pub(super) fn set_has_unsynced(&self, has_unsynced: bool) {
        self.has_unsynced.store(has_unsynced, Ordering::Release);
    }

    pub(super) fn durable_point(&self) -> DurablePoint {
        *self.durable_point.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Said by the writer, after a sync of the segment, of all before it, and of the directory.
    pub(super) fn set_durable_point(&self, point: DurablePoint) {
        *self.durable_point.lock().unwrap_or_else(PoisonError::into_inner) = point;
    }

    /// Says that everything is durable and the log ends here, so that the next open has nothing to read. If that is known
    /// already, nothing is written.
    pub(super) fn store_last_checkpoint(
        &self,
        next_offset: Offset,
        last_append_time_ms: TimestampMs,
    ) -> Result<(), StorageError> {
        let mut checkpoint = lock(&self.checkpoint);
        let mut closed = Checkpoint { next_offset, last_append_time_ms, ..*checkpoint };
        let segments = self.segments();
        if let Some(last) = segments.last() {
            closed.segment = last.base_offset();
            closed.position = last.end_position();
        }
        if closed != *checkpoint {
            if let Some(last) = segments.last().filter(|last| !last.is_sealed()) {
                last.seal(true)?;
            }
            closed.store(&*self.fs, &self.directory)?;
            *checkpoint = closed;
        }
        Ok(())
    }

    /// Whether the bytes at `position` of the segment that begins at `base` were written by this process.
    pub(super) fn wrote(&self, base: Offset, position: u32) -> bool {
        (base, position) >= self.opened_at
    }

    /// Said by the keeper, before anything is deleted.
    pub(super) fn set_log_start(&self, offset: Offset) {
        self.log_start.store(offset.0, Ordering::Release);
    }
}

/// Locks; a panic elsewhere while holding one of these leaves plain data that is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
