//! A segment file written anew: good bytes as they are, and in the place of lost ones frames from a copy, or a frame
//! without records.
//!
//! Order on disk: the new file is written and synced under another name; the damaged one is renamed to `.damaged`; the
//! new one takes its place; the directory is synced. A crash before the end leaves the damaged file, under one of its
//! two names, and the next attempt begins anew.

use super::copy::CopiedFrame;
use super::find::Found;
use super::{Mend, Outcome};
use crate::inspect::{InspectError, LogPlace};
use crate::limits::BATCH_BYTES_LIMIT_MAX;
use crate::storage::checkpoint::Checkpoint;
use crate::storage::error::{IoContext as _, StorageError};
use crate::storage::file_system::{File, FileSystem, OpenMode};
use crate::storage::frame::{FORMAT_RECORD_SET, FrameHeader};
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::storage::segment::index::SparseIndex;
use crate::storage::segment::scan::scan;
use crate::types::{Offset, TimestampMs};
use std::io::IoSlice;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is done about a segment.
#[derive(Debug, Default)]
pub(super) struct Mended {
    /// The header first, if it was damaged; then each lost range in order.
    pub(super) mends: Vec<Mend>,
    /// For each lost range, the frames of the copy.
    pub(super) frames: Vec<Vec<CopiedFrame>>,
}

impl Mended {
    pub(super) fn changes_anything(&self) -> bool {
        self.mends.iter().any(|mend| mend.outcome != Outcome::Left)
    }

    fn outcomes(&self) -> impl Iterator<Item = Outcome> + '_ {
        let ranges = self.mends.len() - self.frames.len();
        self.mends[ranges..].iter().map(|mend| mend.outcome)
    }
}

/// Puts the mended segment in the place of the damaged one.
pub(super) fn replace(
    fs: &Arc<dyn FileSystem>,
    place: &LogPlace,
    found: &Found,
    mended: &Mended,
    checkpoint: &Checkpoint,
) -> Result<(), InspectError> {
    let directory = &place.directory;
    let temporary = found.path.with_extension("tmp");
    let file = fs.open(&temporary, OpenMode::Replace).context("create", &temporary)?;
    write(&*file, place.id, found, mended).context("write", &temporary)?;
    file.sync_data().context("sync", &temporary)?;
    if !found.bytes.is_empty() {
        let kept = unused_name(fs, &found.path)?;
        fs.rename(&found.path, &kept).context("rename", &found.path)?;
    }
    fs.rename(&temporary, &found.path).context("rename", &temporary)?;
    let _ = fs.remove_file(&found.path.with_extension("index"));
    fs.sync_dir(directory).context("sync", directory)?;
    if checkpoint.segment == found.base && checkpoint.position > 0 {
        // Positions in this file have changed: the next start verifies all of it.
        Checkpoint { position: 0, ..*checkpoint }.store(&**fs, directory)?;
    }
    Ok(())
}

/// `<segment>.damaged`, or `.damaged-2` and so on if it was mended before.
fn unused_name(fs: &Arc<dyn FileSystem>, path: &Path) -> Result<PathBuf, StorageError> {
    let directory = path.parent().expect("a segment is in a directory");
    let names = fs.list(directory).context("list", directory)?;
    let candidates = std::iter::once("damaged".to_owned()).chain((2..).map(|number| format!("damaged-{number}")));
    let unused = candidates.map(|extension| path.with_extension(extension)).find(|candidate| {
        !names.iter().any(|name| candidate.file_name().is_some_and(|candidate| candidate == name.as_str()))
    });
    Ok(unused.expect("there are more numbers than files"))
}

/// Writes header, good bytes and mended ranges, one after the other.
fn write(file: &dyn File, id: LogId, found: &Found, mended: &Mended) -> std::io::Result<()> {
    let header = SegmentHeader { log: id, base_offset: found.base, created_at_ms: 0 };
    let (header, seed) = if found.seed_is_known {
        (header.encode_with_seed(found.seed), found.seed)
    } else {
        let header = header.encode();
        let seed = u32::from_le_bytes([header[36], header[37], header[38], header[39]]);
        (header, seed)
    };
    let mut out = Out { file, position: 0 };
    out.put(&header)?;
    let mut good_from = if found.seed_is_known { SEGMENT_HEADER_BYTES } else { found.bytes.len() };
    for ((lost, frames), outcome) in found.lost.iter().zip(&mended.frames).zip(mended.outcomes()) {
        let start = lost.position as usize;
        out.put(&found.bytes[good_from.min(start)..start])?;
        good_from = lost.end_position as usize;
        match outcome {
            Outcome::Left => out.put(&found.bytes[start..good_from])?,
            Outcome::Restored | Outcome::HeaderRestored => {
                for frame in frames {
                    out.put(&frame.header.encode(seed, &frame.payload))?;
                    out.put(&frame.payload)?;
                }
            }
            Outcome::GivenUp => out.give_up(seed, lost.offsets.clone(), append_time_before(found, lost.position))?,
        }
    }
    let end = (found.end_position as usize).max(good_from).min(found.bytes.len());
    out.put(&found.bytes[good_from.min(end)..end])
}

/// The append time of the last good frame before `position`: times never go back.
fn append_time_before(found: &Found, position: u32) -> TimestampMs {
    let mut index = SparseIndex::new(found.base);
    if found.seed_is_known {
        drop(scan(&found.bytes[..position as usize], found.seed, false, &mut index));
    }
    index.first_append_time_ms.map_or(0, |_| index.last_append_time_ms)
}

struct Out<'a> {
    file: &'a dyn File,
    position: u64,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(self.position, &mut [IoSlice::new(bytes)])?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Frames without records that cover `offsets`.
    fn give_up(&mut self, seed: u32, offsets: Range<Offset>, append_time_ms: TimestampMs) -> std::io::Result<()> {
        let mut next = offsets.start;
        while next < offsets.end {
            let count = offsets.end.records_since(next).min(BATCH_BYTES_LIMIT_MAX.into());
            let last_offset_delta = u32::try_from(count - 1).expect("bounded by the line above");
            let header = FrameHeader {
                attributes: FORMAT_RECORD_SET,
                base_offset: next,
                record_count: 0,
                last_offset_delta,
                append_time_ms,
                max_record_time_ms: TimestampMs::MIN,
                leader_epoch: 0,
                producer: None,
                durable_mark: Offset::ZERO,
            };
            self.put(&header.encode(seed, &[]))?;
            next = header.next_offset();
        }
        Ok(())
    }
}
