//! The state of a log that its writer, its readers and its keeper share.
//!
//! The list of segments is replaced as a whole, so whoever took it goes on with the segments it began with. Offsets only
//! move up.

use crate::storage::checkpoint::Checkpoint;
use crate::storage::file_system::FileSystem;
use crate::storage::scrub::DamagedRange;
use crate::storage::segment::Segment;
use crate::storage::segment::header::LogId;
use crate::types::{Offset, TimestampMs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

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
    /// How far that is, as a place.
    durable_point: Mutex<DurablePoint>,
    /// Where the process found the active segment to end: what it wrote itself is most likely still in memory.
    opened_at: (Offset, u32),
    /// Damage that was found in sealed segments, by their base offsets.
    damaged: Mutex<BTreeMap<Offset, Vec<DamagedRange>>>,
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
    ) -> Arc<Self> {
        Arc::new(Self {
            fs,
            directory: directory.into(),
            id,
            segments: RwLock::new(Arc::new(segments)),
            log_start: AtomicU64::new(checkpoint.log_start_offset.0),
            log_end: AtomicU64::new(checkpoint.next_offset.0),
            durable_end: AtomicU64::new(checkpoint.next_offset.0),
            durable_point: Mutex::new(DurablePoint {
                segment: checkpoint.segment,
                position: checkpoint.position,
                next_offset: checkpoint.next_offset,
                last_append_time_ms: checkpoint.last_append_time_ms,
            }),
            opened_at: (checkpoint.segment, checkpoint.position),
            damaged: Mutex::default(),
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

    /// Said by the writer, after a sync.
    pub(super) fn set_durable_end(&self, offset: Offset) {
        self.durable_end.store(offset.0, Ordering::Release);
    }

    pub(super) fn durable_point(&self) -> DurablePoint {
        *self.durable_point.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Said by the writer, after a sync of the segment, of all before it, and of the directory.
    pub(super) fn set_durable_point(&self, point: DurablePoint) {
        *self.durable_point.lock().unwrap_or_else(PoisonError::into_inner) = point;
    }

    /// Whether the bytes at `position` of the segment that begins at `base` were written by this process.
    pub(super) fn wrote(&self, base: Offset, position: u32) -> bool {
        (base, position) >= self.opened_at
    }

    /// Notes what damage a segment has now; gives what was known before.
    pub(super) fn replace_damaged(&self, base: Offset, ranges: Vec<DamagedRange>) -> Vec<DamagedRange> {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let known = damaged.remove(&base).unwrap_or_default();
        if !ranges.is_empty() {
            damaged.insert(base, ranges);
        }
        known
    }

    /// Known damage of the segments there are, in order of offset.
    pub(super) fn damaged(&self) -> Vec<DamagedRange> {
        let segments = self.segments();
        let first = segments.first().map_or(self.log_end(), |segment| segment.base_offset());
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.retain(|base, _| *base >= first);
        damaged.values().flatten().cloned().collect()
    }

    /// Said by the keeper, before anything is deleted.
    pub(super) fn set_log_start(&self, offset: Offset) {
        self.log_start.store(offset.0, Ordering::Release);
    }
}
