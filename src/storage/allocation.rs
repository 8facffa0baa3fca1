//! Space for what is appended next, reserved and prepared before an append needs it.
//!
//! Three stages, each after a drain was answered, so that nobody waits for them: space is reserved in steps; where
//! appends are small and synced, zeros are written into it, because a sync of bytes in space that was never written must
//! record that in the file system's journal too; and when the segment is nearly full, the file of the next one is made,
//! under a name of its own, since its base offset is not known yet. Whatever fails here is tried again by the append.
//!
//! A log that is not appended to prepares nothing, and one with few bytes little: the steps grow with what was written.

use crate::limits::DISK_RESERVE_BYTES;
use crate::storage::context::StorageContext;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, FileSystem, OpenMode};
use crate::storage::log::LogOptions;
use crate::storage::segment::Segment;
use crate::storage::segment::header::SegmentHeader;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Space is reserved as far ahead as the segment has bytes, within these.
const STEP_BYTES_MIN: u64 = 16 << 10;
const STEP_BYTES_MAX: u64 = 16 << 20;

/// Zeros are written ahead for so many drains of the size of the last. They are written twice, once as zeros, so there
/// is a size from which that costs more than it saves.
const ZEROED_DRAINS: u64 = 16;
const ZEROED_DRAIN_BYTES_MAX: u64 = 64 << 10;

/// What the file of the next segment has reserved from the start.
const NEXT_BYTES: u64 = 256 << 10;

/// The name of the next segment's file, as long as nobody knows its base offset.
const NEXT_NAME: &str = "next.prepared";

/// What of the active segment's file is reserved, from its beginning.
#[derive(Debug, Default)]
pub(super) struct Allocation {
    /// There is space on disk for the bytes before this.
    reserved: u64,
    /// They were written before this: as frames, or as zeros.
    written: u64,
}

impl Allocation {
    /// A file with space for so many bytes, all of them written.
    pub(super) fn of_written(bytes: u64) -> Self {
        Self { reserved: bytes, written: bytes }
    }

    /// Makes sure of space for bytes before `end`, so that the write does not grow the file: a sync then has no new
    /// length to record. What is reserved ahead of need leaves the whole reserve of the disk free, what is needed now the
    /// part that is not for it.
    pub(super) fn make_room(
        &mut self,
        file: &dyn File,
        end: u64,
        options: LogOptions,
        free_bytes: impl Fn() -> io::Result<u64>,
    ) -> io::Result<()> {
        if end > self.reserved {
            let reserve_bytes = options.reserve_bytes.max(DISK_RESERVE_BYTES);
            let ahead = with_step(end, options.segment_bytes);
            self.reserved = if leaving(file, ahead, reserve_bytes, &free_bytes).is_ok() {
                ahead
            } else {
                // A disk too full for the whole step may still have room for this write.
                file.set_len(end).and_then(|()| leaving(file, end, options.reserve_bytes, &free_bytes))?;
                end
            };
        }
        self.written = self.written.max(end);
        Ok(())
    }

    /// Whether a write that ends at `end` grows nothing, and leaves enough for [`Self::reserve_ahead`] to have nothing to do.
    pub(super) fn is_ample(&self, end: u64, options: LogOptions) -> bool {
        self.reserved >= ample(end, options.segment_bytes)
    }

    /// After a write that failed the file was cut to `end`.
    pub(super) fn cut(&mut self, end: u64) {
        *self = Self::of_written(end);
    }

    /// Reserves the next step when less than half a step is left. `true` if the segment needs no more.
    pub(super) fn reserve_ahead(
        &mut self,
        file: &dyn File,
        end: u64,
        options: LogOptions,
        free_bytes: impl Fn() -> io::Result<u64>,
    ) -> bool {
        let ahead = with_step(end, options.segment_bytes);
        if self.reserved < ample(end, options.segment_bytes) {
            let reserve_bytes = options.reserve_bytes.max(DISK_RESERVE_BYTES);
            match leaving(file, ahead, reserve_bytes, free_bytes) {
                Ok(()) => self.reserved = ahead,
                // The append will find out whether there is room for it; until then nothing is held.
                Err(_) => drop(file.set_len(self.reserved)),
            }
        }
        self.reserved >= options.segment_bytes
    }

    /// Writes zeros behind `end`, within what is reserved, for more drains like the last one of `drain_bytes`.
    pub(super) fn zero_ahead(&mut self, file: &dyn File, end: u64, drain_bytes: u64) {
        // Not more than was appended: a segment with three records gets no zeros.
        let window = (drain_bytes * ZEROED_DRAINS).next_multiple_of(4096).min(end);
        let until = (end + window).min(self.reserved);
        let is_enough = self.written >= end + window / 2 || until <= self.written;
        if drain_bytes == 0 || drain_bytes > ZEROED_DRAIN_BYTES_MAX || window < STEP_BYTES_MIN / 4 || is_enough {
            return;
        }
        let zeros = vec![0; usize::try_from(until - self.written).expect("a window is small")];
        // Behind the end nobody reads: what a failure leaves there is zeros or nothing.
        if file.write_all_at(self.written, &mut [IoSlice::new(&zeros)]).is_ok() {
            self.written = until;
        }
    }
}

/// As far as space is reserved when frames end at `end`; at least so far.
fn with_step(end: u64, segment_bytes: u64) -> u64 {
    (end + end.clamp(STEP_BYTES_MIN, STEP_BYTES_MAX)).min(segment_bytes).max(end)
}

/// As far as space should be reserved at least when frames end at `end`: half a step.
fn ample(end: u64, segment_bytes: u64) -> u64 {
    end + (with_step(end, segment_bytes) - end) / 2
}

/// Reserves `len` bytes if that leaves so much of the disk free.
fn leaving(file: &dyn File, len: u64, reserve_bytes: u64, free_bytes: impl Fn() -> io::Result<u64>) -> io::Result<()> {
    // Looked at afterwards: of two logs that grow at the same time, at least one sees what both took.
    file.allocate(len)?;
    if free_bytes()? < reserve_bytes { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// The file of the next segment.
#[derive(Debug)]
pub(super) struct NextFile {
    path: PathBuf,
    file: Arc<dyn File>,
}

impl NextFile {
    /// Makes the file, with some space. `None` if that is not possible now.
    pub(super) fn prepare(fs: &dyn FileSystem, directory: &Path, options: LogOptions) -> Option<Self> {
        let path = directory.join(NEXT_NAME);
        let file = fs.open(&path, OpenMode::Replace).ok()?;
        let reserve_bytes = options.reserve_bytes.max(DISK_RESERVE_BYTES);
        let len = NEXT_BYTES.min(options.segment_bytes);
        if leaving(&*file, len, reserve_bytes, || fs.free_bytes(directory)).is_err() {
            let _ = fs.remove_file(&path);
            return None;
        }
        Some(Self { path, file })
    }

    /// Turns it into the segment of `header`: the header first, then the name, so that there is never a segment file
    /// without one but after a power cut.
    pub(super) fn begin(
        self,
        context: &StorageContext,
        directory: &Path,
        header: &SegmentHeader,
    ) -> Result<(Segment, Allocation), StorageError> {
        let fs = &context.fs;
        let begun = Segment::begin(context, directory, Arc::clone(&self.file), header);
        let renamed = begun.and_then(|segment| {
            fs.rename(&self.path, segment.path()).context("rename", &self.path)?;
            let reserved = self.file.len().context("read", segment.path())?;
            Ok((segment, Allocation { reserved, written: 0 }))
        });
        if renamed.is_err() {
            self.remove(&**fs);
        }
        renamed
    }

    /// Removes it: the log is closed.
    pub(super) fn remove(self, fs: &dyn FileSystem) {
        // What is left behind is removed at the next start.
        let _ = fs.remove_file(&self.path);
    }
}
