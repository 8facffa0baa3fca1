//! What [`crate::inspect::verify`] can find wrong, with the place.

use crate::types::Offset;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Something that is not as the storage format says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing is wrong.
    pub kind: ProblemKind,
    /// The file, or the directory if the file is missing and has no name.
    pub path: PathBuf,
    /// Where in the file, in bytes; `None` if it is about the file as a whole.
    pub position: Option<u64>,
    /// The offsets that it concerns; `None` if they are not known or none are lost.
    pub offsets: Option<Range<Offset>>,
    /// What is wrong there, and what follows from it.
    pub what: String,
}

/// The kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// `format.json` is damaged: the broker does not start.
    Format,
    /// `catalog.json` is damaged: the broker does not start.
    Catalog,
    /// The checkpoint is damaged or does not fit the log: the next start reads all of it.
    Checkpoint,
    /// The header of a segment is damaged: none of its frames can be verified.
    SegmentHeader,
    /// Bytes inside a segment are no valid frame.
    Frame,
    /// A frame is whole, but not what is in it.
    Payload,
    /// A segment is shorter than it was.
    Truncated,
    /// A segment file is not there.
    MissingSegment,
    /// The directory of a log is not there.
    MissingDirectory,
    /// Offsets do not follow one from the other.
    Offsets,
    /// An append time is before the one before it.
    Time,
    /// An index file is damaged or does not fit its segment. Harmless: the index is rebuilt.
    Index,
    /// The last batch was being written at a crash. The next start keeps a copy and cuts it.
    TornTail,
    /// A cleaned file has not taken the place of its segments yet. The next start goes on with that.
    UnfinishedCompaction,
    /// A file or directory that is not the broker's.
    UnknownFile,
    /// The operating system cannot read it.
    Unreadable,
}

impl ProblemKind {
    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Catalog => "catalog",
            Self::Checkpoint => "checkpoint",
            Self::SegmentHeader => "segment_header",
            Self::Frame => "frame",
            Self::Payload => "payload",
            Self::Truncated => "truncated",
            Self::MissingSegment => "missing_segment",
            Self::MissingDirectory => "missing_directory",
            Self::Offsets => "offsets",
            Self::Time => "time",
            Self::Index => "index",
            Self::TornTail => "torn_tail",
            Self::UnfinishedCompaction => "unfinished_compaction",
            Self::UnknownFile => "unknown_file",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, path: &Path, what: impl Into<String>) -> Self {
        Self { kind, path: path.into(), position: None, offsets: None, what: what.into() }
    }

    pub(super) fn at(self, position: impl Into<u64>) -> Self {
        Self { position: Some(position.into()), ..self }
    }

    /// Names the offsets from `first` up to `next`; nothing, if that is not known or not ahead.
    pub(super) fn concerning(self, first: Offset, next: Option<Offset>) -> Self {
        Self { offsets: next.filter(|next| *next > first).map(|next| first..next), ..self }
    }
}
