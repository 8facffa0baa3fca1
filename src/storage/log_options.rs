//! What a log is told by the options of its topic.

use crate::storage::segment::Segment;
use crate::types::Offset;

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

impl LogOptions {
    /// Whether frames of so many bytes, the first of them at `next_offset`, belong into the segment after the active one.
    pub(super) fn is_full(self, active: &Segment, next_offset: Offset, frame_bytes: u64) -> bool {
        let span = next_offset.records_since(active.base_offset());
        u64::from(active.end_position()) + frame_bytes > self.segment_bytes || span >= u64::from(u32::MAX) / 2
    }
}
