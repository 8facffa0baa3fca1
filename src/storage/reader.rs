//! Reading a log: any number of readers beside the writer, each on a snapshot of the segments.
//!
//! A read begins at the offset asked for, or at the first record after it if that one was compacted away. It stops below
//! the bound it is given (the high watermark), verifies the checksum of every frame it returns, and returns slices of the
//! maps: payload bytes are not copied.

use crate::planted::{Bug, is_planted};
use crate::storage::damage::DamagedRange;
use crate::storage::error::StorageError;
use crate::storage::frames::{Frames, Next};
use crate::storage::log_state::LogState;
use crate::storage::segment::header::SEGMENT_HEADER_BYTES;
use crate::storage::segment::{Segment, file_stem};
pub use crate::storage::stored_batch::{StoredBatch, StoredBatches};
use crate::types::{Offset, TimestampMs, record_set};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

mod unread;

pub use unread::Unread;

/// What was written in front of so many bytes may have left the memory since.
const RECENT_BYTES: u32 = 32 << 20;

/// Sizes of a log, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSize {
    /// Bytes of all segments.
    pub bytes: u64,
    /// How many segments there are.
    pub segments: u32,
}

/// A handle for reading one log.
#[derive(Debug, Clone)]
pub struct LogReader {
    shared: Arc<LogState>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<LogState>) -> Self {
        Self { shared }
    }

    /// First retained offset.
    pub fn log_start(&self) -> Offset {
        self.shared.log_start()
    }

    /// The offset that the next record gets. Records near it may not be durable yet.
    pub fn log_end(&self) -> Offset {
        self.shared.log_end()
    }

    /// The right to write that appends must have, if any.
    pub fn fencing_token(&self) -> Option<u64> {
        self.shared.fencing_token()
    }

    /// How large the log is.
    pub fn size(&self) -> LogSize {
        let segments = self.shared.segments();
        LogSize {
            bytes: segments.iter().map(|segment| u64::from(segment.end_position())).sum(),
            segments: u32::try_from(segments.len()).unwrap_or(u32::MAX),
        }
    }

    /// Whether `offset` was written lately, by this process, into the segment that is open for it: its bytes are most
    /// likely in memory, so that reading them does not wait for the disk.
    pub fn is_recent(&self, offset: Offset) -> bool {
        let segments = self.shared.segments();
        let Some(active) = segments.last() else { return true };
        if active.is_sealed() || offset < active.base_offset() {
            return false;
        }
        let position = active.with_index(|index| index.position_of_offset(offset));
        position.is_ok_and(|position| {
            let is_near_the_end = active.end_position().saturating_sub(position) <= RECENT_BYTES;
            is_near_the_end && self.shared.wrote(active.base_offset(), position)
        })
    }

    /// Batches from `from` on, of at most `bytes_max` bytes of records, but at least one record if there is one below
    /// `below`. The last batch may be cut short. Records that were compacted away are passed over.
    pub fn read(&self, from: Offset, below: Offset, bytes_max: usize) -> Result<StoredBatches, StorageError> {
        let earliest = self.log_start();
        if from < earliest || from > below {
            return Err(StorageError::OutOfRange { offset: from, earliest, latest: below });
        }
        let result = self.read_from(from, below, bytes_max);
        if let Err(StorageError::Damaged { next_offset, .. }) = &result
            && is_planted(Bug::DamageSkippedSilently)
        {
            return self.read(*next_offset, below, bytes_max);
        }
        // Retention may have removed the segment since the check above.
        if result.is_err() && from < self.log_start() {
            return Err(StorageError::OutOfRange { offset: from, earliest: self.log_start(), latest: below });
        }
        result
    }

    fn read_from(&self, from: Offset, below: Offset, bytes_max: usize) -> Result<StoredBatches, StorageError> {
        let mut found = StoredBatches::none_at(from);
        match self.collect(below, bytes_max, &mut found) {
            // What stands before damage is as good as ever. The damage is met by the read that begins there.
            Err(_) if found.next_offset > from => Ok(found),
            result => result.map(|()| found),
        }
    }

    /// Batches from `found.next_offset` on. Each frame must begin where the one before it ends: a header that lies about
    /// its offset would otherwise be passed over, or taken for the end, and nobody would notice that records are missing.
    fn collect(&self, below: Offset, bytes_max: usize, found: &mut StoredBatches) -> Result<(), StorageError> {
        let from = found.next_offset;
        let segments = self.shared.segments();
        let first = segments.partition_point(|segment| segment.base_offset() <= from).saturating_sub(1);
        // What begins below the bound was appended as a whole: a frame that counts beyond this lies.
        let log_end = self.log_end().max(below);
        let mut is_begun = false;
        let mut budget = bytes_max;
        for (at, segment) in segments.iter().enumerate().skip(first) {
            let wanted = found.next_offset;
            if wanted >= below {
                break;
            }
            if wanted < segment.base_offset() {
                return Err(self.missing(wanted, segment.base_offset()));
            }
            let following = segments.get(at + 1).map_or(below, |next| next.base_offset());
            let mut frames = match segment.with_index(|index| index.position_of_offset(wanted)) {
                Ok(position) => Frames::new(segment, position),
                Err(error) => return Err(self.unreadable(wanted, following, error)),
            };
            while found.next_offset < below {
                let wanted = found.next_offset;
                let (mut batch, frame_bytes) = match frames.next_batch(wanted, !is_begun) {
                    Ok(Next::End) => break,
                    Ok(Next::Batch(_, frame_bytes)) if !found.is_empty() && frame_bytes > budget => return Ok(()),
                    Ok(Next::Batch(batch, frame_bytes)) => (batch, frame_bytes),
                    Err(error) => {
                        frames = self.step_over(segment, wanted, following, error)?;
                        continue;
                    }
                };
                is_begun = true;
                if batch.claims_beyond(log_end) {
                    let (position, what) = (frames.position.into(), "it counts offsets that are not its own");
                    return Err(self.damaged(
                        segment.path(),
                        position,
                        wanted..batch.next_offset.min(below),
                        what.into(),
                    ));
                }
                // What was compacted away may reach beyond what readers may see.
                let frame_end = batch.next_offset.min(below);
                batch.next_offset = frame_end;
                if batch.record_count == 0 {
                    found.next_offset = frame_end;
                    continue;
                }
                let batch = batch.first_records(u64::MAX, budget);
                if batch.record_count == 0 {
                    // Going on without one of them would be reading the same place for ever.
                    let (position, what) = (frames.position.into(), "its payload is not the records that it counts");
                    return Err(self.damaged(segment.path(), position, wanted..frame_end, what.into()));
                }
                found.next_offset = batch.next_offset;
                found.batches.push(batch);
                budget = budget.saturating_sub(frame_bytes);
                if budget == 0 {
                    return Ok(());
                }
            }
        }
        if found.next_offset < below { Err(self.missing(found.next_offset, below)) } else { Ok(()) }
    }

    /// An ordinary look-up met damage before it came to `wanted`. If the frame that holds it is good, goes on there.
    fn step_over<'s>(
        &self,
        segment: &'s Segment,
        wanted: Offset,
        following: Offset,
        error: StorageError,
    ) -> Result<Frames<'s>, StorageError> {
        let StorageError::Corrupt { position, what, .. } = &error else {
            return Err(self.unreadable(wanted, following, error));
        };
        if let Some(known) = self.shared.damage.covering(wanted) {
            return Err(known.error());
        }
        // From the first frame on: the index that led here may be what is wrong.
        let start = u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits");
        let found = match segment.find_frame_beyond(start, wanted) {
            Ok(found) => found,
            Err(error) => return Err(self.unreadable(wanted, following, error)),
        };
        match found {
            // It verifies, and still it was refused: it is of a kind that this broker does not know.
            Some((at, base)) if u64::from(at) == *position && base <= wanted => Err(error),
            Some((at, base)) if base <= wanted => Ok(Frames::new(segment, at)),
            found => {
                let next_offset = found.map_or(following, |(_, base)| base);
                Err(self.damaged(segment.path(), *position, wanted..next_offset, what.clone()))
            }
        }
    }

    /// The whole segment cannot be read, from `wanted` to where the next one begins.
    fn unreadable(&self, wanted: Offset, following: Offset, error: StorageError) -> StorageError {
        match error {
            StorageError::Corrupt { path, position, what } => self.damaged(&path, position, wanted..following, what),
            // Memory, file handles, permissions: nothing is wrong with the records.
            StorageError::Io { ref source, .. } if !is_of_the_disk(source) => error,
            StorageError::Io { path, source, .. } => {
                let what = format!("the disk does not give its bytes: {source}");
                self.damaged(&path, 0, wanted..following, what)
            }
            error => error,
        }
    }

    fn missing(&self, wanted: Offset, next: Offset) -> StorageError {
        let path = self.shared.directory.join(file_stem(wanted)).with_extension("log");
        self.damaged(&path, 0, wanted..next, "the records are in no segment file".into())
    }

    fn damaged(&self, path: &Path, position: u64, offsets: Range<Offset>, what: String) -> StorageError {
        let (first_offset, next_offset, path) = (offsets.start, offsets.end, path.to_owned());
        let range = DamagedRange { first_offset, next_offset, path, position, what };
        let error = range.error();
        // Retention may have removed the segment that was being read.
        if offsets.start >= self.log_start() {
            self.shared.damage.note(range);
        }
        error
    }

    /// What is known to be damaged, in order of offsets.
    pub fn damage(&self) -> Vec<DamagedRange> {
        self.shared.damage.list(self.log_start())
    }

    /// The first retained record whose time is at or after `time_ms`, below `below`; `below` if there is none. Damaged
    /// records have no time.
    pub fn offset_of_time(&self, time_ms: TimestampMs, below: Offset) -> Result<Offset, StorageError> {
        for segment in self.shared.segments().iter() {
            let Ok((latest, position)) =
                segment.with_index(|index| (index.max_record_time_ms, index.position_of_time(time_ms)))
            else {
                continue;
            };
            if latest < time_ms {
                continue;
            }
            let mut frames = Frames::new(segment, position);
            loop {
                match self.time_in(&mut frames, time_ms, below) {
                    Ok(Some(found)) => return Ok(found),
                    Ok(None) => break,
                    Err(_) => match segment.find_frame_beyond(frames.position + 1, Offset::ZERO) {
                        Ok(Some((behind, _))) => frames = Frames::new(segment, behind),
                        _ => break,
                    },
                }
            }
        }
        Ok(below)
    }

    /// The same in what is left of one segment; `None` if there is none in it.
    fn time_in(
        &self,
        frames: &mut Frames<'_>,
        time_ms: TimestampMs,
        below: Offset,
    ) -> Result<Option<Offset>, StorageError> {
        let log_start = self.log_start();
        while let Some((header, frame_bytes)) = frames.peek()? {
            if header.base_offset >= below {
                return Ok(Some(below));
            }
            if header.max_record_time_ms < time_ms || header.next_offset() <= log_start {
                frames.take(frame_bytes);
                continue;
            }
            let batch = frames.take_verified(header, frame_bytes)?;
            // A deleted record is no answer, even if its time fits and that of the first retained one does not.
            let batch = if batch.base_offset < log_start { batch.starting_at(log_start) } else { batch };
            let found = record_set::first_at_or_after(&batch.payload, time_ms, batch.append_time_ms);
            if let Some(number) = found {
                // Retention may have moved the start since.
                return Ok(Some(batch.base_offset.advance(number).max(self.log_start())));
            }
        }
        Ok(None)
    }
}

/// Whether an error means that bytes are lost, not that this process lacks something.
fn is_of_the_disk(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EFAULT: i32 = 14;
    const EHWPOISON: i32 = 133;
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
        || matches!(error.raw_os_error(), Some(EIO | EFAULT | EHWPOISON))
}
