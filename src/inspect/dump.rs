//! A log frame by frame, as it stands in its files: what can be read is shown, and what cannot is shown as that.

use crate::inspect::InspectError;
use crate::inspect::data_directory::{DataDirectory, LogPlace};
use crate::inspect::frame_walk::{FrameWalk, Step};
use crate::inspect::log_files::LogFiles;
use crate::inspect::segments::OpenedSegment;
use crate::storage::error::IoContext as _;
use crate::storage::frame::FrameHeader;
use crate::storage::segment::header::SEGMENT_HEADER_BYTES;
use crate::types::Offset;
use bytes::Bytes;
use std::ops::ControlFlow;
use std::path::Path;

/// What stands at one place of a segment file.
#[derive(Debug)]
pub struct DumpedFrame<'d> {
    /// The segment file.
    pub path: &'d Path,
    /// Where it begins.
    pub position: u32,
    /// Its header and its length; `None` if there is none to be read.
    pub header: Option<(FrameHeader, u32)>,
    /// What is wrong with it; `None` if its checksum matches.
    pub trouble: Option<String>,
    /// The payload; empty if the checksum does not match.
    pub payload: Bytes,
}

/// Shows the frames of the log at `place`, from the one that holds `from` on, until `show` has seen enough.
pub fn dump<E>(
    directory: &DataDirectory,
    place: &LogPlace,
    from: Offset,
    show: &mut dyn FnMut(&DumpedFrame<'_>) -> ControlFlow<E>,
) -> Result<ControlFlow<E>, InspectError> {
    let files = LogFiles::list(&*directory.fs, &place.directory)?;
    let first = files.segments.partition_point(|base| *base <= from).saturating_sub(1);
    for base in files.segments.iter().skip(first) {
        if let stop @ ControlFlow::Break(_) = dump_segment(directory, place, *base, from, show)? {
            return Ok(stop);
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn dump_segment<E>(
    directory: &DataDirectory,
    place: &LogPlace,
    base: Offset,
    from: Offset,
    show: &mut dyn FnMut(&DumpedFrame<'_>) -> ControlFlow<E>,
) -> Result<ControlFlow<E>, InspectError> {
    let opened = OpenedSegment::open(directory, place, base)?;
    let path = opened.path.as_path();
    let seed = match &opened.seed {
        Ok(seed) => *seed,
        Err(_) if opened.is_unbegun => return Ok(ControlFlow::Continue(())),
        Err(what) => {
            let trouble = Some(what.clone());
            return Ok(show(&DumpedFrame { path, position: 0, header: None, trouble, payload: Bytes::new() }));
        }
    };
    let saved = opened.saved_index(directory, base, seed).filter(|_| from > base);
    let start = u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits");
    let start = saved.map_or(start, |index| index.position_of_offset(from));
    let mut walk = FrameWalk::verified(opened.file, opened.file_bytes, seed, start);
    loop {
        let frame = match walk.step().context("read", path)? {
            Step::Frame { header, .. } if header.next_offset() <= from => continue,
            Step::Frame { position, header, frame_bytes, payload } => {
                let header = Some((header, frame_bytes));
                DumpedFrame { path, position, header, trouble: None, payload: Bytes::copy_from_slice(payload) }
            }
            Step::Invalid { position, error, header } => {
                let trouble = Some(error.to_string());
                DumpedFrame { path, position, header, trouble, payload: Bytes::new() }
            }
            Step::Zeros { .. } | Step::End { .. } => return Ok(ControlFlow::Continue(())),
        };
        if let stop @ ControlFlow::Break(_) = show(&frame) {
            return Ok(stop);
        }
    }
}
