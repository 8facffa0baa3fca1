//! How much of a log somebody has not read: bytes, and the append times of the first and the last record of it.
//!
//! Looks at two frames, whatever lies between them: sizes come from the list of segments. Whole batches are counted, so
//! the bytes are never too few. May wait for the disk, as any read does.

use super::LogReader;
use crate::storage::error::StorageError;
use crate::storage::frames::Frames;
use crate::storage::segment::Segment;
use crate::storage::segment::header::SEGMENT_HEADER_BYTES;
use crate::types::{Offset, TimestampMs};
use std::sync::Arc;

/// What stands between an offset and the end of what readers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// Bytes on disk of every batch with such a record.
    pub bytes: u64,
    /// When the first of these records was appended.
    pub first_append_time_ms: TimestampMs,
    /// When the last was.
    pub last_append_time_ms: TimestampMs,
}

/// A frame that was found.
struct Place {
    /// Its segment, by its place in the list.
    segment: usize,
    start: u64,
    end: u64,
    append_time_ms: TimestampMs,
}

impl LogReader {
    /// What of the log stands from `from` on and below `below`; `None` if there are no such offsets, or no records for
    /// the first or the last of them.
    pub fn unread(&self, from: Offset, below: Offset) -> Result<Option<Unread>, StorageError> {
        let from = from.max(self.log_start());
        if from >= below {
            return Ok(None);
        }
        let segments = self.shared.segments();
        let last_offset = Offset(below.0 - 1);
        let (first, last) = (place_of(&segments, from)?, place_of(&segments, last_offset)?);
        // Compaction leaves a frame for every offset. Where there is none, records were lost with the end of the log.
        let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
        let header_bytes = SEGMENT_HEADER_BYTES as u64;
        let through = segments.iter().take(last.segment).skip(first.segment);
        let before_last: u64 = through.map(|segment| u64::from(segment.end_position()) - header_bytes).sum();
        Ok(Some(Unread {
            bytes: before_last + last.end - first.start,
            first_append_time_ms: first.append_time_ms,
            last_append_time_ms: last.append_time_ms,
        }))
    }
}

/// The frame that holds `offset`, or the first one behind it; `None` at the end of the log.
fn place_of(segments: &[Arc<Segment>], offset: Offset) -> Result<Option<Place>, StorageError> {
    let begin = segments.partition_point(|segment| segment.base_offset() <= offset).saturating_sub(1);
    for (number, segment) in segments.iter().enumerate().skip(begin) {
        let mut frames = Frames::new(segment, segment.with_index(|index| index.position_of_offset(offset))?);
        while let Some((header, frame_bytes)) = frames.peek()? {
            if header.next_offset() <= offset {
                frames.take(frame_bytes);
                continue;
            }
            let start = u64::from(frames.position);
            let batch = frames.take_verified(header, frame_bytes)?;
            let end = u64::from(frames.position);
            return Ok(Some(Place { segment: number, start, end, append_time_ms: batch.append_time_ms }));
        }
    }
    Ok(None)
}
