//! The segment that is appended to: which space it has, and how frames are put into one write.

use crate::storage::admission::{Admitted, Appended};
use crate::storage::allocation::Allocation;
use crate::storage::frame::{FORMAT_RECORD_SET, FrameHeader, HEADER_BYTES};
use crate::storage::message_ids::DuplicateRecord;
use crate::storage::segment::Segment;
use crate::types::{Offset, TimestampMs};
use bytes::Bytes;
use std::io::IoSlice;
use std::sync::Arc;

/// Payloads up to this are copied behind their header, so that a drain of many small batches is one contiguous write.
pub(super) const COPY_BYTES_MAX: usize = 4 << 10;

/// The active segment of a log.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) allocation: Allocation,
    /// Written to since a sync last began.
    pub(super) dirty: bool,
    /// Whether a sync has ended since space was last prepared.
    pub(super) was_synced: bool,
    /// Written since space was last prepared.
    pub(super) drain_bytes: u64,
}

/// A batch as it is written.
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    pub(super) payload: Bytes,
}

impl Active {
    pub(super) fn new(segment: Arc<Segment>, allocation: Allocation, dirty: bool) -> Self {
        Self { segment, allocation, dirty, was_synced: false, drain_bytes: 0 }
    }

    /// Bytes that were written since the last call, and whether a sync has ended since.
    pub(super) fn take_drained(&mut self) -> (u64, bool) {
        (std::mem::take(&mut self.drain_bytes), std::mem::take(&mut self.was_synced))
    }
}

impl Frame {
    pub(super) fn bytes(&self) -> u32 {
        u32::try_from(HEADER_BYTES + self.payload.len()).expect("frames are bounded by FRAME_BYTES_MAX")
    }

    /// Bytes that are copied: the header, and a small payload.
    pub(super) fn copied_bytes(&self) -> usize {
        HEADER_BYTES + if self.payload.len() <= COPY_BYTES_MAX { self.payload.len() } else { 0 }
    }
}

pub(super) fn frame_header(
    batch: &Admitted,
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

pub(super) fn appended(header: &FrameHeader, duplicates: Vec<DuplicateRecord>) -> Appended {
    Appended {
        base_offset: header.base_offset,
        record_count: header.record_count,
        append_time_ms: header.append_time_ms,
        duplicate: false,
        duplicates,
    }
}

/// The parts of one write: runs of `scratch` (headers, small payloads) between payloads too large to copy.
pub(super) fn write_parts<'a>(scratch: &'a [u8], frames: &'a [Frame]) -> Vec<IoSlice<'a>> {
    let mut parts = Vec::new();
    let (mut run_start, mut run_end) = (0, 0);
    for frame in frames {
        run_end += frame.copied_bytes();
        if frame.payload.len() > COPY_BYTES_MAX {
            parts.push(IoSlice::new(&scratch[run_start..run_end]));
            parts.push(IoSlice::new(&frame.payload));
            run_start = run_end;
        }
    }
    if run_start < run_end {
        parts.push(IoSlice::new(&scratch[run_start..run_end]));
    }
    parts
}
