//! Frames out of a copy of a log: a backup of its directory, of the same log.

use crate::storage::StorageError;
use crate::storage::error::IoContext as _;
use crate::storage::file_system::{FileSystem, OpenMode};
use crate::storage::frame::{FrameHeader, HEADER_BYTES};
use crate::storage::segment::base_offset_of;
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::storage::segment::scan::find_frame_beyond;
use crate::types::Offset;
use bytes::Bytes;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A frame that verified in its copy, without the seed it had there.
#[derive(Debug, Clone)]
pub(super) struct CopiedFrame {
    pub(super) header: FrameHeader,
    pub(super) payload: Bytes,
}

/// The segments of a copy.
#[derive(Debug)]
pub(super) struct CopyOfLog {
    fs: Arc<dyn FileSystem>,
    id: LogId,
    segments: Vec<(Offset, PathBuf)>,
}

impl CopyOfLog {
    /// Lists the copy of the log `id` in `directory`.
    pub(super) fn open(fs: &Arc<dyn FileSystem>, directory: &Path, id: LogId) -> Result<Self, StorageError> {
        let names = fs.list(directory).context("list", directory)?;
        let mut segments: Vec<_> =
            names.iter().filter_map(|name| base_offset_of(name).map(|base| (base, directory.join(name)))).collect();
        segments.sort_unstable();
        Ok(Self { fs: Arc::clone(fs), id, segments })
    }

    /// The frames that cover exactly `offsets`; none if the copy does not have all of them.
    pub(super) fn frames(&self, offsets: &Range<Offset>) -> Result<Vec<CopiedFrame>, StorageError> {
        let mut frames = Vec::new();
        let mut wanted = offsets.start;
        let first = self.segments.partition_point(|(base, _)| *base <= offsets.start).saturating_sub(1);
        for (base, path) in self.segments.iter().skip(first).take_while(|(base, _)| *base < offsets.end) {
            let Some((bytes, seed)) = self.read(*base, path)? else { continue };
            let mut position = SEGMENT_HEADER_BYTES;
            while wanted < offsets.end {
                let Some((at, header)) = find_frame_beyond(&bytes, seed, *base, position, wanted) else { break };
                if header.base_offset != wanted || header.next_offset() > offsets.end {
                    return Ok(Vec::new());
                }
                let Ok((_, frame_bytes)) = FrameHeader::decode(&bytes[at..]) else { break };
                let payload = bytes.slice(at + HEADER_BYTES..at + frame_bytes);
                frames.push(CopiedFrame { header, payload });
                (wanted, position) = (header.next_offset(), at + frame_bytes);
            }
        }
        Ok(if wanted == offsets.end { frames } else { Vec::new() })
    }

    /// A segment of the copy, and its seed; `None` if it is not one of this log, or its header is damaged too.
    fn read(&self, base: Offset, path: &Path) -> Result<Option<(Bytes, u32)>, StorageError> {
        let file = self.fs.open(path, OpenMode::Read).context("open", path)?;
        let len = usize::try_from(file.len().context("read", path)?).expect("64-bit");
        let view = file.view(len.max(1)).context("map", path)?;
        view.load(0, len).context("read", path)?;
        let bytes = view.slice(0, len);
        let header = &bytes[..len.min(SEGMENT_HEADER_BYTES)];
        Ok(SegmentHeader::decode_seed(header, self.id, base).ok().map(|seed| (bytes, seed)))
    }
}
