//! The frames of a sealed segment, one after the other, each verified: what compaction writes again under a fresh checksum
//! must have been right under the old one.

use crate::storage::error::StorageError;
use crate::storage::frame::{FrameError, FrameHeader, HEADER_BYTES};
use crate::storage::segment::Segment;
use bytes::Bytes;

/// A walk over the frames of one sealed segment; ends at the first that is damaged, with an error.
pub(super) struct SealedFrames<'a> {
    segment: &'a Segment,
    position: u32,
}

impl<'a> SealedFrames<'a> {
    /// From `position` on, which is the beginning of a frame.
    pub(super) fn from(segment: &'a Segment, position: u32) -> Self {
        Self { segment, position }
    }

    /// The next header and payload; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(FrameHeader, Bytes)>, StorageError> {
        let position = self.position;
        if position >= self.segment.end_position() {
            return Ok(None);
        }
        let damage = |error: FrameError| StorageError::corrupt(self.segment.path(), position.into(), error.to_string());
        let head = self.segment.window(position, HEADER_BYTES)?;
        let (_, frame_bytes) = FrameHeader::decode(&head).map_err(damage)?;
        let frame = self.segment.window(position, frame_bytes)?;
        let (header, _) = FrameHeader::decode_verified(self.segment.open()?.seed, &frame).map_err(damage)?;
        self.position += u32::try_from(frame_bytes).expect("frames are bounded by FRAME_BYTES_MAX");
        Ok(Some((header, frame.slice(HEADER_BYTES..))))
    }
}
