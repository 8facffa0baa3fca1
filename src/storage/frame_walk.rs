//! A walk over the frames of a log that readers and the writer use at the same time: for state that is derived from
//! frames and rebuilt when it is needed.
//!
//! Bytes that are no frame are passed over up to the next valid one: what is derived here is about what is there, and
//! naming damage is the business of recovery and of readers.

use crate::storage::error::StorageError;
use crate::storage::frame::{FrameHeader, HEADER_BYTES};
use crate::storage::segment::Segment;
use crate::storage::segment::header::SEGMENT_HEADER_BYTES;
use crate::storage::segment::scan::find_frame_after;
use bytes::Bytes;

/// A walk over the written frames of one segment.
pub(super) struct FrameWalk<'a> {
    segment: &'a Segment,
    position: u32,
}

/// A frame that the walk has come to. Only its header was looked at.
pub(super) struct FoundFrame<'a> {
    pub(super) header: FrameHeader,
    segment: &'a Segment,
    position: u32,
    frame_bytes: usize,
}

impl<'a> FrameWalk<'a> {
    /// From a position on where a frame begins; from the first one by default.
    pub(super) fn new(segment: &'a Segment, position: Option<u32>) -> Self {
        let first = u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits");
        Self { segment, position: position.unwrap_or(first) }
    }

    /// The next frame.
    pub(super) fn next(&mut self) -> Result<Option<FoundFrame<'a>>, StorageError> {
        let segment = self.segment;
        while self.position < segment.end_position() {
            let position = self.position;
            let left = (segment.end_position() - position) as usize;
            match FrameHeader::decode(&segment.window(position, HEADER_BYTES)?) {
                Ok((header, frame_bytes)) if frame_bytes <= left => {
                    self.position += u32::try_from(frame_bytes).expect("frames are bounded by FRAME_BYTES_MAX");
                    return Ok(Some(FoundFrame { header, segment, position, frame_bytes }));
                }
                _ => self.pass_damage()?,
            }
        }
        Ok(None)
    }

    /// Moves to the next valid frame, or to the end.
    fn pass_damage(&mut self) -> Result<(), StorageError> {
        let bytes = self.segment.window(0, self.segment.end_position() as usize)?;
        let found = find_frame_after(&bytes, self.segment.open()?.seed, self.position as usize);
        self.position = u32::try_from(found.unwrap_or(bytes.len())).expect("positions are 32-bit");
        Ok(())
    }
}

impl FoundFrame<'_> {
    /// The record set in it; `None` if the checksum does not match or this broker cannot read it.
    pub(super) fn payload(&self) -> Result<Option<Bytes>, StorageError> {
        let frame = self.segment.window(self.position, self.frame_bytes)?;
        let is_valid = FrameHeader::decode_verified(self.segment.open()?.seed, &frame).is_ok();
        Ok((is_valid && self.header.check_readable().is_ok()).then(|| frame.slice(HEADER_BYTES..)))
    }
}
