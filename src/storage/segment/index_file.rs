//! The index file beside a segment file: read with suspicion, written without ceremony.
//!
//! It is derived from the frames, so it is not synced, and any doubt about it costs no more than time.

use crate::planted::{Bug, is_planted};
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{FileSystem, OpenMode};
use crate::storage::frame::{FrameHeader, HEADER_BYTES};
use crate::storage::segment::index::{INTERVAL_BYTES, SparseIndex};
use crate::types::Offset;
use std::io::IoSlice;
use std::path::Path;

/// The index saved beside the segment file at `segment_path`, if it is a whole one of the segment with this base offset
/// and seed, of frames that are still there. `end_position` is the end of the segment.
pub fn load_index(
    fs: &dyn FileSystem,
    segment_path: &Path,
    base_offset: Offset,
    seed: u32,
    end_position: u32,
) -> Option<SparseIndex> {
    let file = fs.open(&segment_path.with_extension("index"), OpenMode::Read).ok()?;
    let len = file.len().ok()?;
    // One entry per interval is the most there can be; anything larger is not our file.
    let most = u64::from(end_position / INTERVAL_BYTES + 2) * 16 + 128;
    let mut bytes = vec![0; usize::try_from(len.min(most)).expect("64-bit")];
    file.read_exact_at(0, &mut bytes).ok()?;
    let index = SparseIndex::decode(&bytes, seed, base_offset)?;
    if index.last_frame_position == 0 {
        return (index == SparseIndex::new(base_offset)).then_some(index);
    }
    // It may be of frames that were cut since, and of which others took the place.
    let mut header = [0; HEADER_BYTES];
    let segment = fs.open(segment_path, OpenMode::Read).ok()?;
    segment.read_exact_at(index.last_frame_position.into(), &mut header).ok()?;
    let (last, frame_bytes) = FrameHeader::decode(&header).ok()?;
    let fits = index.ends_with(&last, u32::try_from(frame_bytes).ok()?) || is_planted(Bug::StaleIndexTrusted);
    fits.then_some(index)
}

/// Writes the bytes of an index.
pub(super) fn save(fs: &dyn FileSystem, segment_path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let path = segment_path.with_extension("index");
    let file = fs.open(&path, OpenMode::Replace).context("create", &path)?;
    file.write_all_at(0, &mut [IoSlice::new(bytes)]).context("write", &path)
}
