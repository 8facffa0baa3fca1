//! Reading segments for a pass, and writing what is left of a group of them into one file, `<base>.cleaned`.
//!
//! The file is whole and synced when [`write`] returns; nothing refers to it yet.

use crate::planted::{Bug, is_planted};
use crate::storage::compaction::frames::SealedFrames;
use crate::storage::compaction::key_map::KeyMap;
use crate::storage::compaction::pass::Pace;
use crate::storage::compaction::plan::{Measured, Verdict};
use crate::storage::compaction::split::{NewFrame, Splitter, next_offset};
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, FileSystem, OpenMode};
use crate::storage::frame::HEADER_BYTES;
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::storage::segment::index::SparseIndex;
use crate::storage::segment::{Segment, file_stem};
use crate::types::{Offset, TimestampMs, record_set};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Frames are written in pieces of about this size.
const BUFFER_BYTES: usize = 1 << 20;

/// A cleaned file, synced.
#[derive(Debug)]
pub(super) struct Cleaned {
    pub(super) path: PathBuf,
    pub(super) base_offset: Offset,
    pub(super) index: SparseIndex,
}

/// Where a stopped pass was does not matter: nothing of it is kept.
pub(super) type Stoppable<T> = Result<Option<T>, StorageError>;

/// Notes the keys of `segment` from `from` on. The offset before which all are noted: `until`, or where the map was full.
pub(super) fn note_keys(
    segment: &Segment,
    from: Offset,
    until: Offset,
    keys: &mut KeyMap,
    pace: &mut Pace<'_>,
) -> Stoppable<Offset> {
    let position = segment.with_index(|index| index.position_of_offset(from))?;
    let mut frames = SealedFrames::from(segment, position);
    while let Some((header, payload)) = frames.next()? {
        if !pace(payload.len() as u64) {
            return Ok(None);
        }
        if header.check_readable().is_err() {
            continue;
        }
        for (number, record) in (0..).zip(record_set::outlines(&payload)) {
            let offset = header.base_offset.advance(number);
            let is_noted = offset < from || record.key.is_none_or(|key| keys.note(key, offset));
            if !is_noted {
                return Ok(Some(offset));
            }
        }
    }
    Ok(Some(until))
}

/// What would be left of `segment`, which ends at `next_offset`; and its tombstones.
pub(super) fn measure(
    segment: &Segment,
    next_offset: Offset,
    verdict: &Verdict,
    pace: &mut Pace<'_>,
) -> Stoppable<(Measured, u64)> {
    let mut splitter = Splitter::default();
    let mut bytes_after = 0;
    // A frame without records is needed at most once in a file, whatever is merged into it.
    let bytes_of = |(header, payload): &NewFrame| {
        if header.record_count == 0 { 0 } else { (HEADER_BYTES + payload.len()) as u64 }
    };
    let is_whole = each_frame(segment, verdict, &mut splitter, pace, |frame| {
        bytes_after += bytes_of(&frame);
        Ok(())
    })?;
    if !is_whole {
        return Ok(None);
    }
    bytes_after += splitter.finish().as_ref().map_or(0, bytes_of);
    let (base_offset, removed_records) = (segment.base_offset(), splitter.removed_records);
    Ok(Some((Measured { base_offset, next_offset, bytes_after, removed_records }, splitter.tombstones)))
}

/// Writes what is left of a group of segments.
pub(super) fn write(
    fs: &dyn FileSystem,
    directory: &Path,
    log: LogId,
    group: &[Arc<Segment>],
    verdict: &Verdict,
    now_ms: Option<TimestampMs>,
    pace: &mut Pace<'_>,
) -> Stoppable<Cleaned> {
    let base_offset = group.first().expect("a group has a segment").base_offset();
    let path = directory.join(file_stem(base_offset)).with_extension("cleaned");
    let header = SegmentHeader { log, base_offset, created_at_ms: created_at(group, now_ms)? };
    let mut file = CleanedFile::create(fs, path, &header)?;
    let mut splitter = Splitter::default();
    for segment in group {
        if !each_frame(segment, verdict, &mut splitter, pace, |frame| file.push(&frame))? {
            return Ok(None);
        }
    }
    if let Some(last) = splitter.finish() {
        file.push(&last)?;
    }
    file.finish().map(Some)
}

/// The seed of a file's checksums comes from its base offset and the time of its creation: that of a cleaned file must be
/// another than those of the files it replaces.
fn created_at(group: &[Arc<Segment>], now_ms: Option<TimestampMs>) -> Result<TimestampMs, StorageError> {
    group.iter().try_fold(now_ms.unwrap_or(0), |latest, segment| {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        segment.open()?.file.read_exact_at(0, &mut bytes).context("read", segment.path())?;
        Ok(latest.max(SegmentHeader::created_at_of(&bytes).saturating_add(1)))
    })
}

/// Hands what becomes of each frame to `emit`. `false`: stopped.
fn each_frame(
    segment: &Segment,
    verdict: &Verdict,
    splitter: &mut Splitter,
    pace: &mut Pace<'_>,
    mut emit: impl FnMut(NewFrame) -> Result<(), StorageError>,
) -> Result<bool, StorageError> {
    let first = u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits");
    let mut frames = SealedFrames::from(segment, first);
    while let Some((header, payload)) = frames.next()? {
        if !pace(payload.len() as u64) {
            return Ok(false);
        }
        let finished = splitter.push(&header, &payload, verdict).map_err(|what| {
            let what = format!("offset {}: {what}", header.base_offset);
            StorageError::corrupt(segment.path(), 0, what)
        })?;
        finished.into_iter().try_for_each(&mut emit)?;
    }
    Ok(true)
}

struct CleanedFile {
    file: Arc<dyn File>,
    seed: u32,
    written_bytes: u64,
    buffer: Vec<u8>,
    cleaned: Cleaned,
}

impl CleanedFile {
    fn create(fs: &dyn FileSystem, path: PathBuf, header: &SegmentHeader) -> Result<Self, StorageError> {
        // One that an earlier pass could not remove is emptied.
        let file = fs.open(&path, OpenMode::Replace).context("create", &path)?;
        let buffer = header.encode().to_vec();
        let seed = SegmentHeader::decode_seed(&buffer, header.log, header.base_offset)
            .map_err(|what| StorageError::corrupt(&path, 0, what))?;
        let base_offset = header.base_offset;
        let cleaned = Cleaned { path, base_offset, index: SparseIndex::new(base_offset) };
        Ok(Self { file, seed, written_bytes: 0, buffer, cleaned })
    }

    fn push(&mut self, frame: &NewFrame) -> Result<(), StorageError> {
        let (header, payload) = frame;
        debug_assert_eq!(header.base_offset, self.cleaned.index.next_offset, "coverage is dense");
        self.buffer.extend_from_slice(&header.encode(self.seed, payload));
        self.buffer.extend_from_slice(payload);
        let frame_bytes = u32::try_from(HEADER_BYTES + payload.len()).expect("frames are bounded by FRAME_BYTES_MAX");
        self.cleaned.index.push(header, frame_bytes);
        debug_assert_eq!(next_offset(frame), self.cleaned.index.next_offset);
        if self.buffer.len() >= BUFFER_BYTES { self.write_buffer() } else { Ok(()) }
    }

    fn write_buffer(&mut self) -> Result<(), StorageError> {
        let written = self.file.write_all_at(self.written_bytes, &mut [IoSlice::new(&self.buffer)]);
        written.context("write", &self.cleaned.path)?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// The bytes must be on disk before any name that counts points at them.
    fn finish(mut self) -> Result<Cleaned, StorageError> {
        self.write_buffer()?;
        if !is_planted(Bug::SwapNotSynced) {
            self.file.sync_data().context("sync", &self.cleaned.path)?;
        }
        Ok(self.cleaned)
    }
}
