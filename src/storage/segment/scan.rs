//! Walking the frames of a segment that nobody writes to: for recovery, for rebuilding an index, for a search behind
//! damage.
//!
//! A walk does not end at bytes that are no valid frame: it looks for the next frame behind them that verifies, and
//! takes note of the break. What a break means, a tear or damage, is not decided here. Total on any bytes.

use crate::planted::{Bug, is_planted};
use crate::storage::frame::{FrameError, FrameHeader};
use crate::storage::segment::index::{SparseIndex, last_possible_offset};
use crate::types::Offset;

/// A place where a frame does not follow from the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Where the frame should begin.
    pub position: u32,
    /// The offset it should begin with.
    pub expected: Offset,
    /// Where the next valid frame behind it begins, in bytes and with which offset; `None` if there is none.
    pub resumes: Option<(u32, Offset)>,
    /// What is wrong there.
    pub cause: BreakCause,
}

/// What is wrong at a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BreakCause {
    /// No valid frame stands there.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A valid frame stands there, of another offset.
    #[error("the frame there begins at offset {0}")]
    Offset(Offset),
}

/// What a walk learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// In the order of the file. The last one may have nothing valid behind it; then the walk ended there.
    pub breaks: Vec<Break>,
    /// The highest durable mark of any frame.
    pub durable_mark: Offset,
}

/// Walks the frames of `file` (a whole segment file) from where `index` ends, adding each to it.
///
/// `verify`: every checksum is verified. Otherwise only headers are read, which is enough for an index of frames that
/// were verified before; behind a break a frame is only believed if it verifies.
pub fn scan(file: &[u8], seed: u32, verify: bool, index: &mut SparseIndex) -> Scan {
    let mut scan = Scan { breaks: Vec::new(), durable_mark: Offset::ZERO };
    // Space that was allocated ahead is zero; nothing valid begins in it.
    let data_end = data_end(file);
    while (index.end_position as usize) < data_end {
        let position = index.end_position as usize;
        let cause = match frame_at(file, seed, verify, position) {
            Ok((header, frame_bytes))
                if header.base_offset == index.next_offset && index.has_room_for(&header, in_segment(frame_bytes)) =>
            {
                scan.durable_mark = scan.durable_mark.max(header.durable_mark);
                index.push(&header, in_segment(frame_bytes));
                continue;
            }
            Ok((header, _)) => BreakCause::Offset(header.base_offset),
            Err(error) => BreakCause::Frame(error),
        };
        let found = find_offset(file, seed, position, index.next_offset, last_possible_offset(index.base_offset));
        let resumes = found.map(|(position, header)| (in_segment(position), header.base_offset));
        scan.breaks.push(Break { position: index.end_position, expected: index.next_offset, resumes, cause });
        let Some((position, offset)) = resumes else { break };
        index.skip_to(position, offset);
    }
    scan
}

/// The frame at `position`, if there is a whole one.
fn frame_at(file: &[u8], seed: u32, verify: bool, position: usize) -> Result<(FrameHeader, usize), FrameError> {
    let rest = &file[position..];
    if verify && !is_planted(Bug::ChecksumSkipped) {
        return FrameHeader::decode_verified(seed, rest);
    }
    let (header, frame_bytes) = FrameHeader::decode(rest)?;
    if frame_bytes <= rest.len() { Ok((header, frame_bytes)) } else { Err(FrameError::Short) }
}

/// The first frame at or behind `from` that verifies and begins at an offset from `least` to `most`.
fn find_offset(file: &[u8], seed: u32, from: usize, least: Offset, most: Offset) -> Option<(usize, FrameHeader)> {
    let mut position = from;
    loop {
        if let Ok((header, _)) = FrameHeader::decode_verified(seed, &file[position..])
            && (least..=most).contains(&header.base_offset)
        {
            return Some((position, header));
        }
        position = find_frame_after(file, seed, position)?;
    }
}

/// Where the last byte that is not zero ends. Each start looks at the space allocated ahead in every log.
fn data_end(file: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let zeros = file.rchunks(ZEROS.len()).take_while(|chunk| **chunk == ZEROS[..chunk.len()]);
    let data = &file[..file.len() - zeros.map(<[u8]>::len).sum::<usize>()];
    data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// The first frame, from `position` on, that verifies and reaches beyond `offset`: the one that holds it, or the one
/// behind the damage that it was lost in. The slow and sure way, for when an ordinary look-up met damage. As in
/// [`scan`], a frame of offsets that are not its own is none: of those in front of it, or beyond all of the segment, which
/// begins at `base`.
pub fn find_frame_beyond(
    file: &[u8],
    seed: u32,
    base: Offset,
    position: usize,
    offset: Offset,
) -> Option<(usize, FrameHeader)> {
    let mut position = position;
    let mut least = base;
    let most = last_possible_offset(base);
    while position < file.len() {
        match FrameHeader::decode_verified(seed, &file[position..]) {
            Ok((header, frame_bytes)) if (least..=most).contains(&header.base_offset) => {
                if header.next_offset() > offset {
                    return Some((position, header));
                }
                least = header.next_offset();
                position += frame_bytes;
            }
            _ => position = find_frame_after(file, seed, position)?,
        }
    }
    None
}

/// The position of a valid frame somewhere after `from`, if there is one.
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

/// Lengths and positions inside a segment file; callers refuse larger files first.
fn in_segment(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a segment file is shorter than 4 GiB")
}
