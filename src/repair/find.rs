//! What each segment file of a log holds, and which offsets are lost: every frame is verified.

use crate::storage::StorageError;
use crate::storage::checkpoint::Checkpoint;
use crate::storage::compaction::swapped_range_of;
use crate::storage::error::IoContext as _;
use crate::storage::file_system::{FileSystem, OpenMode};
use crate::storage::frame::FrameHeader;
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::storage::segment::index::SparseIndex;
use crate::storage::segment::scan::scan;
use crate::storage::segment::{base_offset_of, file_stem};
use crate::types::Offset;
use bytes::Bytes;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Offsets that are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) offsets: Range<Offset>,
    /// Where the bytes of the damage begin, and where good ones go on; the end of the file if none do.
    pub(super) position: u32,
    pub(super) end_position: u32,
}

/// A segment file with something lost, or a place where one is missing.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    /// Empty for a file that is not there.
    pub(super) bytes: Bytes,
    pub(super) seed: u32,
    pub(super) seed_is_known: bool,
    pub(super) is_header_damaged: bool,
    /// Where the last good frame, or the last lost range, ends.
    pub(super) end_position: u32,
    /// In order; those at the end of a segment have no bytes there.
    pub(super) lost: Vec<Lost>,
}

/// Every segment that needs mending, in order.
pub(super) fn find(
    fs: &Arc<dyn FileSystem>,
    directory: &Path,
    id: LogId,
    checkpoint: &Checkpoint,
) -> Result<Vec<Found>, StorageError> {
    let names = fs.list(directory).context("list", directory)?;
    if let Some(swap) = names.iter().find(|name| swapped_range_of(name).is_some()) {
        // Segments that it replaces may be gone already, and are not lost.
        let what = "a compaction was interrupted here; start the broker once, which goes on with it, then repair";
        return Err(StorageError::corrupt(&directory.join(swap), 0, what));
    }
    let mut bases: Vec<_> = names.iter().filter_map(|name| base_offset_of(name)).collect();
    bases.sort_unstable();
    let mut all = Vec::new();
    let mut durable_end = checkpoint.next_offset;
    let log_start = checkpoint.log_start_offset;
    if let Some(first) = bases.first().filter(|first| **first > log_start) {
        all.push((Found::missing(directory, log_start), *first));
    }
    for base in &bases {
        let (found, next, mark) = examine(fs, directory, id, *base)?;
        durable_end = durable_end.max(mark);
        all.push((found, next));
    }
    // What a segment lacks at its end is known by where the next one begins.
    let mut needy = Vec::new();
    let mut following = durable_end;
    for (mut found, next) in all.into_iter().rev() {
        if found.bytes.is_empty() {
            found.lose(found.base..next, 0, 0);
        } else if next < following {
            let (position, end) = (found.end_position, u32::try_from(found.bytes.len()).unwrap_or(u32::MAX));
            found.lose(next..following, position, end);
        }
        following = found.base;
        if found.is_header_damaged || !found.lost.is_empty() {
            needy.push(found);
        }
    }
    needy.reverse();
    Ok(needy)
}

/// A segment file; the offset after its last good frame, and its highest durable mark.
fn examine(
    fs: &Arc<dyn FileSystem>,
    directory: &Path,
    id: LogId,
    base: Offset,
) -> Result<(Found, Offset, Offset), StorageError> {
    let mut found = Found::missing(directory, base);
    let file = fs.open(&found.path, OpenMode::Read).context("open", &found.path)?;
    let len = file.len().context("read", &found.path)?;
    let bytes = u32::try_from(len)
        .map_err(|_| StorageError::corrupt(&found.path, 0, format!("{len} bytes are too many for a segment")))?;
    let view = file.view(bytes.max(1) as usize).context("map", &found.path)?;
    view.load(0, bytes as usize).context("read", &found.path)?;
    found.bytes = view.slice(0, bytes as usize);
    let header = &found.bytes[..found.bytes.len().min(SEGMENT_HEADER_BYTES)];
    let seed = if let Ok(seed) = SegmentHeader::decode_seed(header, id, base) {
        Some(seed)
    } else {
        found.is_header_damaged = true;
        lost_seed(fs, &found)
    };
    (found.seed, found.seed_is_known) = (seed.unwrap_or_default(), seed.is_some());
    let mut index = SparseIndex::new(base);
    if !found.seed_is_known {
        found.end_position = bytes;
        return Ok((found, base, Offset::ZERO));
    }
    let scan = scan(&found.bytes, found.seed, true, &mut index);
    for broken in &scan.breaks {
        // One with nothing behind it is the end of the segment, or a torn tail: where the next one begins tells.
        if let Some((position, offset)) = broken.resumes {
            found.lose(broken.expected..offset, broken.position, position);
        }
    }
    found.end_position = index.end_position;
    Ok((found, index.next_offset, scan.durable_mark))
}

/// The seed of a segment whose header is damaged: it stands in the header, and in the index file; the first frame
/// says which of them is right.
fn lost_seed(fs: &Arc<dyn FileSystem>, found: &Found) -> Option<u32> {
    let in_header = found.bytes.get(36..40).and_then(|seed| seed.first_chunk::<4>()).copied();
    let in_index = fs.open(&found.path.with_extension("index"), OpenMode::Read).ok().and_then(|file| {
        let mut seed = [0; 4];
        file.read_exact_at(8, &mut seed).ok().map(|()| seed)
    });
    let first_frame = found.bytes.get(SEGMENT_HEADER_BYTES..)?;
    [in_header, in_index]
        .into_iter()
        .flatten()
        .map(u32::from_le_bytes)
        .find(|seed| FrameHeader::decode_verified(*seed, first_frame).is_ok())
}

impl Found {
    fn missing(directory: &Path, base: Offset) -> Self {
        Self {
            base,
            path: directory.join(file_stem(base)).with_extension("log"),
            bytes: Bytes::new(),
            seed: 0,
            seed_is_known: false,
            is_header_damaged: false,
            end_position: 0,
            lost: Vec::new(),
        }
    }

    fn lose(&mut self, offsets: Range<Offset>, position: u32, end_position: u32) {
        if offsets.start < offsets.end {
            self.lost.push(Lost { offsets, position, end_position });
        }
    }
}
