//! What one segment holds, as the disk has it: frames, breaks between them, how far it vouches for durability.

use super::{Tail, segment_path};
use crate::planted::{Bug, is_planted};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::context::StorageContext;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, OpenMode, View};
use crate::storage::segment::Segment;
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::storage::segment::index::SparseIndex;
use crate::storage::segment::scan::{Break, Scan, scan};
use crate::types::Offset;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What stands at the beginning of a segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Beginning {
    /// The header of this segment.
    Header,
    /// The header was never written, or did not reach the disk: there is nothing, or only zeros, in its place.
    Unwritten,
    /// Something else, which no crash explains: a sector is written as a whole.
    Damaged(String),
}

/// What one segment holds.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    /// Length of the file.
    pub(super) file_bytes: u32,
    pub(super) beginning: Beginning,
    /// Of its checksums; 0 without a header.
    pub(super) seed: u32,
    /// Of all valid frames, also behind breaks.
    pub(super) index: SparseIndex,
    pub(super) breaks: Vec<Break>,
    pub(super) durable_mark: Offset,
    /// Bytes of frames that were read and verified.
    pub(super) verified_bytes: u32,
}

impl Survey {
    /// Whether the file ends with its last frame, but for zeros: so that it can be appended to.
    pub(super) fn is_whole(&self) -> bool {
        self.beginning == Beginning::Header && self.breaks.last().is_none_or(|found| found.resumes.is_some())
    }

    /// Where the last valid frame ends.
    pub(super) fn end_position(&self) -> u32 {
        if self.beginning == Beginning::Header { self.index.end_position } else { self.file_bytes }
    }
}

/// Reads the segments of one log.
pub(super) struct Surveyor<'a> {
    pub(super) context: &'a StorageContext,
    pub(super) directory: &'a Path,
    pub(super) id: LogId,
}

impl Surveyor<'_> {
    /// Segments before the checkpoint: known to be valid and durable, so only their length is asked for.
    pub(super) fn trusted_segments(&self, bases: &[Offset]) -> Result<Vec<Arc<Segment>>, StorageError> {
        let open = |base: &Offset| {
            let path = segment_path(self.directory, *base);
            let len = self.context.fs.len_of(&path).context("read", &path)?;
            let end = position_of(&path, len)?;
            Ok(Arc::new(Segment::sealed(self.context, self.directory, self.id, *base, end, true)))
        };
        bases.iter().map(open).collect()
    }

    /// The segment that was surveyed: valid and durable up to its end.
    pub(super) fn segment(&self, survey: &Survey) -> Segment {
        Segment::sealed(self.context, self.directory, self.id, survey.base, survey.end_position(), true)
    }

    /// Reads a segment, and verifies it from the checkpoint on.
    pub(super) fn survey(&self, base: Offset, checkpoint: &Checkpoint) -> Result<Survey, StorageError> {
        let (file, path, len) = self.open_file(base)?;
        let file_bytes = position_of(&path, len)?;
        let trusted = if checkpoint.segment == base { checkpoint.position } else { 0 };
        if file_bytes > trusted {
            self.forget_what_is_not_on_disk(&*file, &path)?;
        }
        let view = file.view(file_bytes.max(1) as usize).context("map", &path)?;
        let bytes = view.slice(0, file_bytes as usize);
        view.load(0, bytes.len().min(SEGMENT_HEADER_BYTES)).context("read", &path)?;
        let mut survey = Survey {
            base,
            path,
            file_bytes,
            beginning: Beginning::Header,
            seed: 0,
            index: SparseIndex::new(base),
            breaks: Vec::new(),
            durable_mark: Offset::ZERO,
            verified_bytes: 0,
        };
        let header = &bytes[..bytes.len().min(SEGMENT_HEADER_BYTES)];
        match SegmentHeader::decode_seed(header, self.id, base) {
            Ok(seed) => {
                survey.seed = seed;
                self.survey_frames(&*view, &bytes, trusted, &mut survey)?;
            }
            Err(_) if header.len() < SEGMENT_HEADER_BYTES || header.iter().all(|byte| *byte == 0) => {
                survey.beginning = Beginning::Unwritten;
            }
            Err(what) => survey.beginning = Beginning::Damaged(what),
        }
        Ok(survey)
    }

    fn survey_frames(
        &self,
        view: &dyn View,
        bytes: &Bytes,
        trusted: u32,
        survey: &mut Survey,
    ) -> Result<(), StorageError> {
        let seed = survey.seed;
        // What the checkpoint vouches for is not verified again: its index is loaded, or made from headers.
        let trusted = trusted.min(survey.file_bytes);
        let segment = Segment::sealed(self.context, self.directory, self.id, survey.base, trusted, true);
        let fits = |index: &SparseIndex| index.end_position <= trusted || is_planted(Bug::StaleIndexTrusted);
        let saved = segment.load_index(seed).filter(fits);
        let mut index = saved.unwrap_or_else(|| SparseIndex::new(survey.base));
        let from = index.end_position as usize;
        view.load(from, bytes.len().saturating_sub(from)).context("read", &survey.path)?;
        if !scan(&bytes[..trusted as usize], seed, false, &mut index).breaks.is_empty() {
            // Damage that a start before this one stepped over. Headers alone lead past it in another way than the
            // frames that verify: those are looked at again, so that each start finds the same.
            index = SparseIndex::new(survey.base);
            view.load(0, bytes.len()).context("read", &survey.path)?;
        }
        let from = index.end_position;
        // No mark of a frame that the checkpoint vouches for goes beyond the checkpoint; only damage could.
        let Scan { breaks, durable_mark } = scan(bytes, seed, true, &mut index);
        survey.verified_bytes = index.end_position - from;
        (survey.breaks, survey.durable_mark) = (breaks, durable_mark);
        survey.index = index;
        Ok(())
    }

    /// After a failed sync, memory holds bytes that count as written and are not on disk. What waits to be written is
    /// written, the rest is forgotten, and what is read from here on is what a power cut would leave.
    fn forget_what_is_not_on_disk(&self, file: &dyn File, path: &Path) -> Result<(), StorageError> {
        if is_planted(Bug::RecoveryTrustsPageCache) {
            return Ok(());
        }
        if self.context.tail == Tail::MaybeUnsynced {
            file.sync_data().context("sync", path)?;
        }
        file.drop_cache().context("read", path)
    }

    fn open_file(&self, base: Offset) -> Result<(Arc<dyn File>, PathBuf, u64), StorageError> {
        let path = segment_path(self.directory, base);
        let open = || self.context.fs.open(&path, OpenMode::Write);
        let file = self.context.open_files.take("open", &path, open)?;
        let len = file.len().context("read", &path)?;
        Ok((file, path, len))
    }
}

fn position_of(path: &Path, len: u64) -> Result<u32, StorageError> {
    u32::try_from(len).map_err(|_| StorageError::corrupt(path, 0, format!("{len} bytes are too many for a segment")))
}
