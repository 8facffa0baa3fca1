//! The log of one partition: ordered segments, appended to by one writer and read by anyone.
//!
//! [`Log`] is the writer's side; there is one, and it is moved, not shared. [`LogReader`] and [`LogKeeper`] are handles
//! for the other two roles, on other threads: reading, and upkeep (syncing sealed segments, retention). They share the
//! list of segments, which is replaced as a whole, so a reader keeps the list, and the segments, it began with.
//!
//! A failed sync, or a write that failed for another reason than a full disk, closes the log to appends for good: what
//! is in the page cache then is not what is on disk, and no retry can find out.

use crate::limits::DISK_RESERVE_BYTES;
use crate::planted::{Bug, is_planted};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, FileSystem};
use crate::storage::frame::{FORMAT_RECORD_SET, FrameHeader, HEADER_BYTES};
use crate::storage::keeper::LogKeeper;
use crate::storage::log_state::LogState;
use crate::storage::reader::LogReader;
use crate::storage::recovery::{self, RecoveryReport, Tail};
use crate::storage::segment::Segment;
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::types::record_set::RecordSetSummary;
use crate::types::{Offset, ProducerStamp, TimestampMs};
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, PoisonError};

/// Space is allocated ahead of the writes in steps that double, from this to the whole segment.
const ALLOCATE_BYTES_MIN: u64 = 256 << 10;

/// Payloads up to this are copied behind their header, so that a drain of many small batches is one contiguous write.
const COPY_BYTES_MAX: usize = 4 << 10;

/// What a log needs to know of its topic's options. May change while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment is sealed when it would grow past this.
    pub segment_bytes: u64,
    /// A segment is sealed when its first record is older than this.
    pub seal_age_ms: u64,
    /// Appends leave this much of the disk free.
    pub reserve_bytes: u64,
}

/// A record set to append. It was checked before.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// The encoded record set.
    pub payload: Bytes,
    /// What the check learned.
    pub summary: RecordSetSummary,
    /// What an idempotent producer says of it.
    pub producer: Option<ProducerStamp>,
}

/// What became of an append: the leading batches were written, and `error` says why the others were not.
#[derive(Debug)]
pub struct AppendOutcome {
    /// Base offset of each batch written, in order.
    pub base_offsets: Vec<Offset>,
    /// When they were appended.
    pub append_time_ms: TimestampMs,
    /// Why the remaining batches were not written; `None` if there are none.
    pub error: Option<StorageError>,
}

/// The writer's side of a log.
#[derive(Debug)]
pub struct Log {
    shared: Arc<LogState>,
    options: LogOptions,
    active: Option<Active>,
    next_offset: Offset,
    last_append_time_ms: TimestampMs,
    /// Sealed segments that were not synced since.
    unsynced_sealed: Vec<Arc<Segment>>,
    /// Files were created since the directory was last synced.
    directory_dirty: bool,
    poisoned: Option<String>,
    /// Reused for the headers and small payloads of each write.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    allocated_bytes: u64,
    dirty: bool,
}

impl Log {
    /// Opens the log in `directory` (which exists), recovering it if it was not closed cleanly.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        directory: &Path,
        id: LogId,
        options: LogOptions,
    ) -> Result<(Self, RecoveryReport), StorageError> {
        Self::open_with_tail(fs, directory, id, options, Tail::MaybeUnsynced)
    }

    /// As [`Log::open`]; `tail` says whether the whole file system was synced since the log was written.
    pub fn open_with_tail(
        fs: Arc<dyn FileSystem>,
        directory: &Path,
        id: LogId,
        options: LogOptions,
        tail: Tail,
    ) -> Result<(Self, RecoveryReport), StorageError> {
        let recovered = recovery::recover(&fs, directory, id, tail)?;
        let next_offset = recovered.next_offset;
        let shared = LogState::new(fs, directory, id, recovered.segments, recovered.checkpoint, next_offset);
        recovered.report.damage.iter().for_each(|range| shared.damage.note(range.clone()));
        let mut log = Self {
            options,
            active: None,
            next_offset,
            last_append_time_ms: recovered.last_append_time_ms,
            unsynced_sealed: Vec::new(),
            directory_dirty: false,
            poisoned: None,
            scratch: Vec::new(),
            shared,
        };
        if let (Some(index), Some(last)) = (recovered.last_index, log.shared.segments().last()) {
            let allocated_bytes = index.end_position.into();
            last.reactivate(index, log.view_bytes())?;
            log.active = Some(Active { segment: Arc::clone(last), allocated_bytes, dirty: false });
        }
        Ok((log, recovered.report))
    }

    /// A handle for reading.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// A handle for upkeep.
    pub fn keeper(&self) -> LogKeeper {
        LogKeeper::new(Arc::clone(&self.shared))
    }

    /// The offset that the next record gets.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Changes the options; they hold from the next append on.
    pub fn set_options(&mut self, options: LogOptions) {
        self.options = options;
    }

    /// Writes batches, in order: with one positioned write for each segment they end up in. They survive the process
    /// from here on; [`Log::sync`] makes them survive the machine.
    pub fn append(&mut self, batches: &[NewBatch], now_ms: TimestampMs) -> AppendOutcome {
        let latest_ms = if is_planted(Bug::AppendTimeGoesBack) { now_ms } else { self.last_append_time_ms };
        let append_time_ms = now_ms.max(latest_ms);
        let mut outcome =
            AppendOutcome { base_offsets: Vec::with_capacity(batches.len()), append_time_ms, error: None };
        while outcome.base_offsets.len() < batches.len() {
            let remaining = &batches[outcome.base_offsets.len()..];
            if let Err(error) = self.append_run(remaining, append_time_ms, &mut outcome.base_offsets) {
                outcome.error = Some(error);
                break;
            }
        }
        outcome
    }

    /// Writes as many of `batches` as belong into one segment: at least one.
    fn append_run(
        &mut self,
        batches: &[NewBatch],
        append_time_ms: TimestampMs,
        base_offsets: &mut Vec<Offset>,
    ) -> Result<(), StorageError> {
        self.check_not_poisoned()?;
        self.make_room_for(&batches[0], append_time_ms)?;
        let active = self.active.as_mut().expect("room was made in the active segment");
        let segment = Arc::clone(&active.segment);
        let opened = segment.open()?;
        let start = u64::from(segment.end_position());
        let mut end = start;
        let mut frames = Vec::with_capacity(batches.len());
        let mut next_offset = self.next_offset;
        self.scratch.clear();
        for batch in batches {
            let frame_bytes = (HEADER_BYTES + batch.payload.len()) as u64;
            if !frames.is_empty() && end + frame_bytes > self.options.segment_bytes {
                break;
            }
            let header = frame_header(batch, next_offset, append_time_ms, self.shared.durable_end());
            self.scratch.extend_from_slice(&header.encode(opened.seed, &batch.payload));
            if batch.payload.len() <= COPY_BYTES_MAX {
                self.scratch.extend_from_slice(&batch.payload);
            }
            base_offsets.push(next_offset);
            next_offset = header.next_offset();
            end += frame_bytes;
            frames.push((header, u32::try_from(frame_bytes).expect("frames are bounded by FRAME_BYTES_MAX")));
        }
        let mut parts = write_parts(&self.scratch, &batches[..frames.len()]);
        let free_bytes = || self.shared.fs.free_bytes(&self.shared.directory);
        let written = allocate(active, &*opened.file, end, self.options, free_bytes)
            .and_then(|()| opened.file.write_all_at(start, &mut parts))
            .or_else(|error| if is_planted(Bug::ShortWriteIgnored) { Ok(()) } else { Err(error) });
        if let Err(error) = written.context("append to", segment.path()) {
            base_offsets.truncate(base_offsets.len() - frames.len());
            return Err(self.undo_failed_write(error));
        }
        active.dirty = true;
        segment.publish(|index| frames.iter().for_each(|(header, frame_bytes)| index.push(header, *frame_bytes)));
        self.next_offset = next_offset;
        self.shared.set_log_end(next_offset);
        self.last_append_time_ms = append_time_ms;
        Ok(())
    }

    /// Makes sure that there is an active segment into which `batch` may go.
    fn make_room_for(&mut self, batch: &NewBatch, now_ms: TimestampMs) -> Result<(), StorageError> {
        let frame_bytes = (HEADER_BYTES + batch.payload.len()) as u64;
        if let Some(active) = &self.active {
            let end = u64::from(active.segment.end_position());
            let is_empty = end == SEGMENT_HEADER_BYTES as u64;
            let span = self.next_offset.records_since(active.segment.base_offset());
            let full = end + frame_bytes > self.options.segment_bytes || span >= u64::from(u32::MAX) / 2;
            if full && !is_empty {
                self.seal()?;
            }
        }
        if self.active.is_none() {
            let header = SegmentHeader { log: self.shared.id, base_offset: self.next_offset, created_at_ms: now_ms };
            let shared = &self.shared;
            let segment = Arc::new(Segment::create(&shared.fs, &shared.directory, &header, self.view_bytes())?);
            shared.change_segments(|segments| segments.push(Arc::clone(&segment)));
            self.directory_dirty = true;
            self.active = Some(Active { segment, allocated_bytes: 0, dirty: true });
        }
        Ok(())
    }

    /// After a write that failed, nothing of it may be left behind the end: a later, shorter write would be followed
    /// by remains that look like damage.
    fn undo_failed_write(&mut self, error: StorageError) -> StorageError {
        let active = self.active.as_mut().expect("a write was tried on it");
        let end = u64::from(active.segment.end_position());
        let cut = match is_planted(Bug::FailedWriteLeftBehind) {
            true => Ok(()),
            false => {
                active.segment.open().and_then(|opened| opened.file.set_len(end).context("cut", active.segment.path()))
            }
        };
        active.allocated_bytes = end;
        match (&error, cut) {
            (StorageError::Full { .. }, Ok(())) => error,
            (_, cut) => self.poison(&cut.err().unwrap_or(error)),
        }
    }

    /// Makes everything written so far durable. On an error nobody knows what is on disk: the log is closed to
    /// appends and the records since the last sync are neither acknowledged nor refused.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.check_not_poisoned()?;
        self.try_sync().map_err(|error| self.poison(&error))
    }

    fn try_sync(&mut self) -> Result<(), StorageError> {
        for segment in &self.unsynced_sealed {
            segment.sync_sealed()?;
        }
        self.unsynced_sealed.clear();
        if let Some(active) = self.active.as_mut().filter(|active| active.dirty) {
            if !is_planted(Bug::AckBeforeSync) {
                active.segment.open()?.file.sync_data().context("sync", active.segment.path())?;
            }
            active.dirty = false;
        }
        if self.directory_dirty && !is_planted(Bug::NoDirectorySync) {
            self.shared.fs.sync_dir(&self.shared.directory).context("sync", &self.shared.directory)?;
            self.directory_dirty = false;
        }
        self.shared.set_durable_end(self.next_offset);
        Ok(())
    }

    /// Seals the active segment if its first record is older than the options allow.
    pub fn seal_if_old(&mut self, now_ms: TimestampMs) -> Result<(), StorageError> {
        let Some(active) = &self.active else { return Ok(()) };
        let first = active.segment.with_index(|index| index.first_append_time_ms)?;
        let age_ms = first.map_or(0, |first| u64::try_from(now_ms.saturating_sub(first)).unwrap_or(0));
        if age_ms > self.options.seal_age_ms { self.seal() } else { Ok(()) }
    }

    fn seal(&mut self) -> Result<(), StorageError> {
        // After a failed sync nothing may pass for synced any more, and a sealed segment could: the keeper would try.
        self.check_not_poisoned()?;
        // If it cannot be sealed it stays the active one, so that what is in it is not forgotten by the next sync.
        let is_synced = |active: &Active| is_planted(Bug::SealCountsAsSynced) && !active.dirty;
        self.active.as_ref().map_or(Ok(()), |active| active.segment.seal(is_synced(active)))?;
        let Some(active) = self.active.take() else { return Ok(()) };
        // The keeper may sync it first; then there is nothing left to do here.
        self.unsynced_sealed.retain(|segment| !segment.is_synced());
        // Even if every frame is durable, the cut is not: a checkpoint behind it would vouch for zeros at its end.
        self.unsynced_sealed.push(active.segment);
        Ok(())
    }

    /// Makes everything durable and leaves a checkpoint, so that the next open has nothing to read.
    pub fn close(mut self) -> Result<(), StorageError> {
        self.sync()?;
        let mut checkpoint = self.shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        let mut closed = Checkpoint { next_offset: self.next_offset, ..*checkpoint };
        closed.last_append_time_ms = self.last_append_time_ms;
        if let Some(last) = self.shared.segments().last() {
            if !last.is_sealed() {
                last.seal(true)?;
            }
            closed.segment = last.base_offset();
            closed.position = last.end_position();
        }
        if closed != *checkpoint {
            closed.store(&*self.shared.fs, &self.shared.directory)?;
            *checkpoint = closed;
        }
        Ok(())
    }

    fn check_not_poisoned(&self) -> Result<(), StorageError> {
        match &self.poisoned {
            Some(cause) => Err(StorageError::Poisoned { path: self.shared.directory.clone(), cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, error: &StorageError) -> StorageError {
        let cause = self.poisoned.get_or_insert_with(|| error.to_string()).clone();
        StorageError::Poisoned { path: self.shared.directory.clone(), cause }
    }

    /// How much address space a segment's map needs: a first batch may be larger than the segment should be.
    fn view_bytes(&self) -> usize {
        let most = self.options.segment_bytes.max(crate::limits::SEGMENT_BYTES_MAX)
            + u64::from(crate::limits::BATCH_BYTES_LIMIT_MAX)
            + 2 * HEADER_BYTES as u64;
        usize::try_from(most).expect("64-bit")
    }
}

fn frame_header(
    batch: &NewBatch,
    base_offset: Offset,
    append_time_ms: TimestampMs,
    durable_mark: Offset,
) -> FrameHeader {
    FrameHeader {
        attributes: FORMAT_RECORD_SET,
        base_offset,
        record_count: batch.summary.record_count,
        last_offset_delta: batch.summary.record_count - 1,
        append_time_ms,
        max_record_time_ms: batch.summary.max_record_time(append_time_ms),
        leader_epoch: 0,
        producer: batch.producer,
        durable_mark,
    }
}

/// The parts of one write: runs of `scratch` (headers, small payloads) between payloads too large to copy.
fn write_parts<'a>(scratch: &'a [u8], batches: &'a [NewBatch]) -> Vec<IoSlice<'a>> {
    let mut parts = Vec::new();
    let (mut run_start, mut run_end) = (0, 0);
    for batch in batches {
        run_end += HEADER_BYTES;
        if batch.payload.len() <= COPY_BYTES_MAX {
            run_end += batch.payload.len();
        } else {
            parts.push(IoSlice::new(&scratch[run_start..run_end]));
            parts.push(IoSlice::new(&batch.payload));
            run_start = run_end;
        }
    }
    if run_start < run_end {
        parts.push(IoSlice::new(&scratch[run_start..run_end]));
    }
    parts
}

/// Reserves space so that writes up to `end` do not grow the file: a sync then has no new length to record. What is
/// reserved ahead of need leaves the whole reserve of the disk free, what is needed now the part that is not for it.
fn allocate(
    active: &mut Active,
    file: &dyn File,
    end: u64,
    options: LogOptions,
    free_bytes: impl Fn() -> io::Result<u64>,
) -> io::Result<()> {
    if end <= active.allocated_bytes {
        return Ok(());
    }
    // Looked at afterwards: of two logs that grow at the same time, at least one sees what both took.
    let leaving = |len, reserve_bytes| match file.allocate(len).and_then(|()| free_bytes()) {
        Ok(free_bytes) if free_bytes < reserve_bytes => Err(io::ErrorKind::StorageFull.into()),
        allocated => allocated.map(|_| len),
    };
    let ahead = (active.allocated_bytes * 2).max(ALLOCATE_BYTES_MIN).min(options.segment_bytes).max(end);
    active.allocated_bytes = match leaving(ahead, DISK_RESERVE_BYTES) {
        Ok(len) => len,
        // A disk too full for the whole step may still have room for this write.
        Err(_) => file.set_len(end).and_then(|()| leaving(end, options.reserve_bytes))?,
    };
    Ok(())
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
