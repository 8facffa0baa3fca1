//! Walking the frames of a segment that nobody writes to: for recovery and for rebuilding an index.

use crate::storage::frame::{FrameError, FrameHeader};
use crate::storage::segment::index::SparseIndex;

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanEnd {
    /// After the last frame there is nothing, or only zeros (space that was allocated ahead).
    Clean,
    /// After the last frame there are bytes that are no valid frame.
    Invalid(FrameError),
    /// A valid frame, whose offset does not follow from the one before it, or is too far from where the segment begins.
    OutOfOrder,
}

/// Walks the frames of `file` (a whole segment file) from where `index` ends, adding each to it.
///
/// With a `seed`, every checksum is verified; without, only headers are read, which is enough for an index of frames
/// that were verified before.
pub fn scan(file: &[u8], seed: Option<u32>, index: &mut SparseIndex) -> ScanEnd {
    loop {
        let rest = file.get(index.end_position as usize..).unwrap_or_default();
        if rest.is_empty() {
            return ScanEnd::Clean;
        }
        let decoded = match seed {
            Some(seed) => FrameHeader::decode_verified(seed, rest),
            None => FrameHeader::decode(rest).and_then(|(header, frame_bytes)| {
                if frame_bytes <= rest.len() { Ok((header, frame_bytes)) } else { Err(FrameError::Short) }
            }),
        };
        match decoded {
            Ok((header, frame_bytes)) => {
                let frame_bytes = u32::try_from(frame_bytes).expect("frames are bounded by FRAME_BYTES_MAX");
                if header.base_offset != index.next_offset || !index.has_room_for(&header, frame_bytes) {
                    return ScanEnd::OutOfOrder;
                }
                index.push(&header, frame_bytes);
            }
            Err(_) if rest.iter().all(|byte| *byte == 0) => return ScanEnd::Clean,
            Err(error) => return ScanEnd::Invalid(error),
        }
    }
}

/// The position of a valid frame somewhere after `from`, if there is one: the sign that what precedes it is damage in
/// the middle of the log, not a torn tail.
pub fn find_frame_after(file: &[u8], seed: u32, from: usize) -> Option<usize> {
    let first_byte = b'M';
    let mut position = from + 1;
    while let Some(found) = file.get(position..).and_then(|rest| memchr::memchr(first_byte, rest)) {
        position += found;
        if FrameHeader::decode_verified(seed, &file[position..]).is_ok() {
            return Some(position);
        }
        position += 1;
    }
    None
}
