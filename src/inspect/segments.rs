//! What each segment of a log holds, from names, headers and index files; no payload is read.

use crate::inspect::InspectError;
use crate::inspect::data_directory::{DataDirectory, LogPlace};
use crate::inspect::frame_walk::{FrameWalk, Step};
use crate::inspect::log_files::{LogFiles, load_checkpoint, segment_path};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::error::{IoContext as _, StorageError};
use crate::storage::file_system::{File, OpenMode};
use crate::storage::segment::header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::storage::segment::index::SparseIndex;
use crate::storage::segment::load_index;
use crate::types::{Offset, TimestampMs};
use std::path::PathBuf;
use std::sync::Arc;

/// One log.
#[derive(Debug, Clone)]
pub struct LogSummary {
    /// Where it is.
    pub place: LogPlace,
    /// First retained offset: of the checkpoint, or else of the first segment.
    pub log_start_offset: Offset,
    /// The checkpoint; `None` if there is none yet.
    pub checkpoint: Option<Checkpoint>,
    /// Its segments in order.
    pub segments: Vec<SegmentSummary>,
    /// What could not be read, one line each.
    pub troubles: Vec<String>,
}

/// One segment.
#[derive(Debug, Clone)]
pub struct SegmentSummary {
    /// Its file.
    pub path: PathBuf,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset after its last record, as far as its frames could be followed.
    pub next_offset: Offset,
    /// Length of the file, space allocated ahead included.
    pub file_bytes: u64,
    /// Append time of its first and last frame; `None` if it has no frames.
    pub append_times_ms: Option<(TimestampMs, TimestampMs)>,
    /// Whether it never changes again: every segment but the last.
    pub is_sealed: bool,
    /// Its index file.
    pub index: IndexState,
    /// Copies of torn tails beside it.
    pub torn: Vec<String>,
}

/// An index file, next to its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// There is none; the index is made again when it is needed.
    Absent,
    /// Damaged, or of another file; the index is made again when it is needed.
    Invalid,
    /// Good, but ends before the segment does.
    Partial,
    /// Good, to the end of the segment.
    Whole,
}

impl IndexState {
    /// Its name for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Invalid => "invalid",
            Self::Partial => "partial",
            Self::Whole => "whole",
        }
    }
}

/// Sums up the log at `place`. What cannot be read is named in the result, and the rest is there.
pub fn summarize(directory: &DataDirectory, place: LogPlace) -> Result<LogSummary, InspectError> {
    let mut troubles = Vec::new();
    let files = LogFiles::list(&*directory.fs, &place.directory)?;
    let checkpoint = load_checkpoint(&*directory.fs, &place.directory).unwrap_or_else(|error| {
        troubles.push(error.to_string());
        None
    });
    let first = files.segments.first().copied().unwrap_or_default();
    let log_start_offset = checkpoint.map_or(first, |checkpoint| checkpoint.log_start_offset);
    let mut segments = Vec::new();
    for (i, base) in files.segments.iter().enumerate() {
        let is_sealed = i + 1 < files.segments.len();
        match summarize_segment(directory, &place, &files, *base, is_sealed, &mut troubles) {
            Ok(segment) => segments.push(segment),
            Err(error) => troubles.push(error.to_string()),
        }
    }
    Ok(LogSummary { place, log_start_offset, checkpoint, segments, troubles })
}

fn summarize_segment(
    directory: &DataDirectory,
    place: &LogPlace,
    files: &LogFiles,
    base_offset: Offset,
    is_sealed: bool,
    troubles: &mut Vec<String>,
) -> Result<SegmentSummary, StorageError> {
    let opened = OpenedSegment::open(directory, place, base_offset)?;
    let mut summary = SegmentSummary {
        path: opened.path.clone(),
        base_offset,
        next_offset: base_offset,
        file_bytes: opened.file_bytes.into(),
        append_times_ms: None,
        is_sealed,
        index: IndexState::Absent,
        torn: files.torn.iter().filter(|(base, _)| *base == base_offset).map(|(_, name)| name.clone()).collect(),
    };
    let seed = match &opened.seed {
        Ok(seed) => *seed,
        // A segment that was created and never begun has no header yet.
        Err(_) if opened.file_bytes == 0 && !is_sealed => return Ok(summary),
        Err(what) => {
            troubles.push(StorageError::corrupt(&opened.path, 0, what.as_str()).to_string());
            return Ok(summary);
        }
    };
    let saved = opened.saved_index(directory, base_offset, seed);
    let saved_end = saved.as_ref().map(|index| index.end_position);
    let mut index = saved.unwrap_or_else(|| SparseIndex::new(base_offset));
    let mut walk = FrameWalk::headers(Arc::clone(&opened.file), opened.file_bytes, index.end_position);
    loop {
        match walk.step().context("read", &opened.path)? {
            Step::Frame { position, header, frame_bytes, .. }
                if header.base_offset != index.next_offset || !index.has_room_for(&header, frame_bytes) =>
            {
                let what = format!("offset {} after {}, {frame_bytes} bytes", header.base_offset, index.next_offset);
                troubles.push(StorageError::corrupt(&opened.path, position.into(), what).to_string());
                break;
            }
            Step::Frame { header, frame_bytes, .. } => index.push(&header, frame_bytes),
            Step::Invalid { position, error, .. } => {
                troubles.push(StorageError::corrupt(&opened.path, position.into(), error.to_string()).to_string());
                break;
            }
            Step::Zeros { .. } | Step::End { .. } => break,
        }
    }
    summary.index = match saved_end {
        None if !files.indexes.contains(&base_offset) => IndexState::Absent,
        None => IndexState::Invalid,
        Some(end) if end < index.end_position => IndexState::Partial,
        Some(_) => IndexState::Whole,
    };
    summary.next_offset = index.next_offset;
    summary.append_times_ms = index.first_append_time_ms.map(|first| (first, index.last_append_time_ms));
    Ok(summary)
}

/// A segment file opened for reading, with what its header says.
pub(super) struct OpenedSegment {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    pub(super) file_bytes: u32,
    /// Seed of its checksums, or what is wrong with its header.
    pub(super) seed: Result<u32, String>,
    /// Whether its header was never written.
    pub(super) is_unbegun: bool,
}

impl OpenedSegment {
    pub(super) fn open(directory: &DataDirectory, place: &LogPlace, base_offset: Offset) -> Result<Self, StorageError> {
        let path = segment_path(&place.directory, base_offset);
        let file = directory.fs.open(&path, OpenMode::Read).context("open", &path)?;
        let len = file.len().context("read", &path)?;
        let file_bytes = u32::try_from(len)
            .map_err(|_| StorageError::corrupt(&path, 0, format!("{len} bytes are too many for a segment")))?;
        let mut header = vec![0; SEGMENT_HEADER_BYTES.min(file_bytes as usize)];
        file.read_exact_at(0, &mut header).context("read", &path)?;
        let seed = SegmentHeader::decode_seed(&header, place.id, base_offset);
        let is_unbegun = header.iter().all(|byte| *byte == 0);
        Ok(Self { path, file, file_bytes, seed, is_unbegun })
    }

    /// Its index file, if that is whole, of this segment, and does not reach beyond it.
    pub(super) fn saved_index(&self, directory: &DataDirectory, base_offset: Offset, seed: u32) -> Option<SparseIndex> {
        let end = self.file_bytes;
        load_index(&*directory.fs, &self.path, base_offset, seed, end).filter(|index| index.end_position <= end)
    }
}
