//! The frames of one segment as readers go through them: in windows of its map, verified when they are taken.
//!
//! Ends at damage with an error that says where; going round it is the reader's business.

use crate::planted::{Bug, is_planted};
use crate::storage::error::StorageError;
use crate::storage::frame::{FrameError, FrameHeader, HEADER_BYTES};
use crate::storage::reader::StoredBatch;
use crate::storage::segment::Segment;
use crate::types::Offset;
use bytes::Bytes;

/// The least that is looked at in one go: enough for a large frame's header and a run of small frames.
const WINDOW_BYTES_MIN: usize = 64 << 10;

/// What stands next in a segment.
pub(super) enum Next {
    /// A batch, which begins at the offset wanted, and the length of its frame.
    Batch(StoredBatch, usize),
    /// Nothing more in this segment.
    End,
}

/// A walk over the written frames of one segment.
pub(super) struct Frames<'a> {
    segment: &'a Segment,
    pub(super) position: u32,
    window: Bytes,
    window_position: u32,
}

impl<'a> Frames<'a> {
    pub(super) fn new(segment: &'a Segment, position: u32) -> Self {
        Self { segment, position, window: Bytes::new(), window_position: position }
    }

    /// The batch at `wanted`. `is_first`: the index led to a frame at or before it; otherwise it must be the next one.
    pub(super) fn next_batch(&mut self, wanted: Offset, is_first: bool) -> Result<Next, StorageError> {
        // Frames on the way follow each other, as those that are read do: what begins before the one in front of it ends
        // would give its records to whoever comes from behind, and not to whoever comes from the front.
        let mut passed = Offset::ZERO;
        loop {
            let Some((header, frame_bytes)) = self.peek()? else { return Ok(Next::End) };
            let follows = header.base_offset >= passed;
            if is_first && follows && header.next_offset() <= wanted {
                passed = header.next_offset();
                self.take(frame_bytes);
                continue;
            }
            let is_it = if is_first { follows && header.base_offset <= wanted } else { header.base_offset == wanted };
            if !is_it {
                return Err(self.damage(&format!("the frame there begins at offset {}", header.base_offset)));
            }
            let batch = self.take_verified(header, frame_bytes)?;
            let batch = if batch.base_offset < wanted { batch.starting_at(wanted) } else { batch };
            return Ok(Next::Batch(batch, frame_bytes));
        }
    }

    /// The header of the frame at the present position, whose bytes are then all in the window; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<(FrameHeader, usize)>, StorageError> {
        if self.position >= self.segment.end_position() {
            return Ok(None);
        }
        self.look_at(HEADER_BYTES)?;
        let (header, frame_bytes) = FrameHeader::decode(self.rest()).map_err(|error| self.damage(&error))?;
        self.look_at(frame_bytes)?;
        if self.rest().len() < frame_bytes {
            return Err(self.damage(&FrameError::Short));
        }
        Ok(Some((header, frame_bytes)))
    }

    /// The bytes of the frame that was peeked at; moves behind it.
    pub(super) fn take(&mut self, frame_bytes: usize) -> Bytes {
        let start = (self.position - self.window_position) as usize;
        self.position += u32::try_from(frame_bytes).expect("frames are bounded by FRAME_BYTES_MAX");
        self.window.slice(start..start + frame_bytes)
    }

    /// The batch of the frame that was peeked at, if its checksum matches; moves behind it then.
    pub(super) fn take_verified(
        &mut self,
        header: FrameHeader,
        frame_bytes: usize,
    ) -> Result<StoredBatch, StorageError> {
        let seed = self.segment.open()?.seed;
        let verified = if is_planted(Bug::ReaderSkipsChecksum) {
            Ok(())
        } else {
            FrameHeader::decode_verified(seed, self.rest()).and_then(|_| header.check_readable())
        };
        verified.map_err(|error| self.damage(&error))?;
        Ok(StoredBatch {
            base_offset: header.base_offset,
            record_count: header.record_count,
            next_offset: header.next_offset(),
            append_time_ms: header.append_time_ms,
            leader_epoch: header.leader_epoch,
            payload: self.take(frame_bytes).slice(HEADER_BYTES..),
        })
    }

    /// Makes sure that the window holds `len` bytes from the present position on, if the segment has them.
    fn look_at(&mut self, len: usize) -> Result<(), StorageError> {
        if self.rest().len() < len {
            self.window = self.segment.window(self.position, len.max(WINDOW_BYTES_MIN))?;
            self.window_position = self.position;
        }
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        self.window.get((self.position - self.window_position) as usize..).unwrap_or_default()
    }

    fn damage(&self, what: &dyn std::fmt::Display) -> StorageError {
        StorageError::corrupt(self.segment.path(), self.position.into(), what.to_string())
    }
}
