//! Reading sealed segments again, to find damage before a reader does.
//!
//! Every frame's checksum is verified over bytes that come from the disk, as far as that can be had: what the operating
//! system keeps in memory of a segment that nobody reads is dropped first, and again afterwards, so that a pass over all
//! data takes nobody's memory. With plain reads, not through maps: a sector that cannot be read is a finding.
//!
//! Who calls decides when and how fast. Nothing is changed on disk.

use crate::planted::{Bug, is_planted};
use crate::storage::damage::DamagedRange;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, OpenMode};
use crate::storage::frame::{FrameError, FrameHeader, HEADER_BYTES};
use crate::storage::keeper::next_offset_of;
use crate::storage::log_state::LogState;
use crate::storage::segment::header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::types::Offset;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// Read in one go; a frame may need more.
const WINDOW_BYTES: usize = 1 << 20;

/// After a read that failed, what can be read is read in pieces of this size.
const BLOCK_BYTES: usize = 4 << 10;

/// Most ranges that are kept apart for one segment; the last takes in the rest.
const RANGES_MAX: usize = 100;

/// What one scrub of one segment gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Damage that was not known before.
    pub found: Vec<DamagedRange>,
    /// Whether it came to the end; it does not if `pace` says so.
    pub is_complete: bool,
}

/// A handle for scrubbing one log.
#[derive(Debug, Clone)]
pub struct LogScrubber {
    shared: Arc<LogState>,
}

impl LogScrubber {
    pub(super) fn new(shared: Arc<LogState>) -> Self {
        Self { shared }
    }

    /// Base offsets of the segments that are sealed now.
    pub fn sealed_segments(&self) -> Vec<Offset> {
        let segments = self.shared.segments();
        segments.iter().filter(|segment| segment.is_sealed()).map(|segment| segment.base_offset()).collect()
    }

    /// Reads the segment that begins at `base` again. Before so many bytes are read, `pace` is told; it may wait, and
    /// says whether to go on. What is found takes the place of what was known of this segment.
    pub fn scrub(&self, base: Offset, pace: &mut dyn FnMut(u64) -> bool) -> Result<Scrubbed, StorageError> {
        let segments = self.shared.segments();
        let gone = Scrubbed { is_complete: true, ..Scrubbed::default() };
        let Ok(at) = segments.binary_search_by_key(&base, |segment| segment.base_offset()) else { return Ok(gone) };
        let segment = &segments[at];
        let file = match self.shared.fs.open(segment.path(), OpenMode::Read) {
            // Retention was here.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(gone),
            opened => opened.context("open", segment.path())?,
        };
        let is_read_by_others = segment.is_open();
        let forget = || if is_read_by_others { Ok(()) } else { file.drop_cache() };
        forget().context("forget what is in memory of", segment.path())?;
        let header = SegmentHeader { log: self.shared.id, base_offset: base, created_at_ms: 0 };
        let mut walk = Walk {
            file: &*file,
            path: segment.path(),
            end: segment.end_position(),
            window: Window::default(),
            pace,
            next_offset: next_offset_of(segment, segments.get(at + 1)).unwrap_or(base),
            ranges: Vec::new(),
        };
        let is_complete = walk.run(&header).is_ok();
        let ranges = walk.ranges;
        forget().context("forget what is in memory of", segment.path())?;
        if !is_complete {
            return Ok(Scrubbed::default());
        }
        let known = self.shared.damage.replace_of(segment.path(), ranges.clone());
        Ok(Scrubbed { found: ranges.into_iter().filter(|range| !known.contains(range)).collect(), is_complete })
    }
}

/// A walk over one segment file.
struct Walk<'a> {
    file: &'a dyn File,
    path: &'a Path,
    end: u32,
    window: Window,
    pace: &'a mut dyn FnMut(u64) -> bool,
    /// Offset after the last record of the segment.
    next_offset: Offset,
    ranges: Vec<DamagedRange>,
}

/// Whoever sets the pace wants no more.
struct Stopped;

/// Bytes of the file that were read.
#[derive(Default)]
struct Window {
    position: u32,
    bytes: Vec<u8>,
    /// Why some of them could not be; those are zero here.
    unreadable: Option<String>,
}

impl Walk<'_> {
    fn run(&mut self, header: &SegmentHeader) -> Result<(), Stopped> {
        let mut position = u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits");
        let mut expected = header.base_offset;
        let first = self.bytes_at(0, SEGMENT_HEADER_BYTES)?;
        let seed = match SegmentHeader::decode_seed(first, header.log, header.base_offset) {
            Ok(seed) => seed,
            Err(what) => {
                self.found(0, expected, self.next_offset, what);
                return Ok(());
            }
        };
        while position < self.end {
            match self.frame_at(position, seed)? {
                Ok((header, frame_bytes)) => {
                    if header.base_offset != expected {
                        let what = format!("the frame has offset {}, expected {expected}", header.base_offset);
                        let (first, next) = (expected.min(header.base_offset), expected.max(header.base_offset));
                        self.found(position, first, next, what);
                    }
                    (position, expected) = (position + frame_bytes, header.next_offset());
                }
                Err(what) => {
                    let next = self.next_frame(position, expected, seed)?;
                    let (next_position, next_offset) = next.unwrap_or((self.end, self.next_offset));
                    self.found(position, expected, next_offset, what);
                    (position, expected) = (next_position, next_offset);
                }
            }
        }
        if expected != self.next_offset {
            let what = format!("it ends before offset {}", self.next_offset);
            self.found(self.end, expected.min(self.next_offset), self.next_offset.max(expected), what);
        }
        Ok(())
    }

    /// The verified frame at `position`, or what is wrong there.
    fn frame_at(&mut self, position: u32, seed: u32) -> Result<Result<(FrameHeader, u32), String>, Stopped> {
        let head = self.bytes_at(position, HEADER_BYTES)?;
        let mut decoded = FrameHeader::decode(head);
        if let Ok((_, frame_bytes)) = decoded {
            let frame = self.bytes_at(position, frame_bytes)?;
            if !is_planted(Bug::ScrubSkipsChecksum) {
                decoded = FrameHeader::decode_verified(seed, frame);
            }
            if frame.len() < frame_bytes {
                decoded = Err(FrameError::Short);
            }
        }
        let described = |error: FrameError| match &self.window.unreadable {
            Some(why) => format!("{error}; {why}"),
            None => error.to_string(),
        };
        let as_u32 = |frame_bytes| u32::try_from(frame_bytes).expect("frames are bounded by FRAME_BYTES_MAX");
        Ok(decoded.map(|(header, frame_bytes)| (header, as_u32(frame_bytes))).map_err(described))
    }

    /// Position and offset of the first valid frame behind `position` that may stand there, if there is one.
    fn next_frame(&mut self, position: u32, expected: Offset, seed: u32) -> Result<Option<(u32, Offset)>, Stopped> {
        let mut position = position + 1;
        while position < self.end {
            let rest = self.bytes_at(position, HEADER_BYTES)?;
            match memchr::memchr(b'M', rest) {
                None => position += u32::try_from(rest.len().max(1)).expect("a header is small"),
                Some(0) => {
                    let plausible = FrameHeader::decode(rest).is_ok_and(|(header, _)| {
                        header.base_offset >= expected && header.next_offset() <= self.next_offset
                    });
                    if plausible && let Ok((header, _)) = self.frame_at(position, seed)? {
                        return Ok(Some((position, header.base_offset)));
                    }
                    position += 1;
                }
                Some(skip) => position += u32::try_from(skip).expect("a header is small"),
            }
        }
        Ok(None)
    }

    /// `len` bytes of the file from `position` on, fewer at its end.
    fn bytes_at(&mut self, position: u32, len: usize) -> Result<&[u8], Stopped> {
        let len = len.min((self.end - position.min(self.end)) as usize);
        let start = position.checked_sub(self.window.position).map_or(usize::MAX, |start| start as usize);
        if start.saturating_add(len) > self.window.bytes.len() {
            let more = len.max(WINDOW_BYTES).min((self.end - position) as usize);
            if !(self.pace)(more as u64) {
                return Err(Stopped);
            }
            self.window.read(self.file, position, more);
        }
        let start = (position - self.window.position) as usize;
        Ok(&self.window.bytes[start..start + len])
    }

    fn found(&mut self, position: u32, first_offset: Offset, next_offset: Offset, what: String) {
        if self.ranges.len() == RANGES_MAX {
            let last = self.ranges.last_mut().expect("there are some");
            last.next_offset = next_offset.max(last.next_offset);
            return;
        }
        let (path, position) = (self.path.to_owned(), position.into());
        self.ranges.push(DamagedRange { first_offset, next_offset, path, position, what });
    }
}

impl Window {
    /// Reads `len` bytes from `position` on; what cannot be read is zero.
    fn read(&mut self, file: &dyn File, position: u32, len: usize) {
        (self.position, self.unreadable) = (position, None);
        self.bytes.clear();
        self.bytes.resize(len, 0);
        let mut at = u64::from(position);
        // A file that was cut is no unreadable one: what is left of it is looked at.
        let left = file.len().map_or(len, |file_bytes| usize::try_from(file_bytes.saturating_sub(at)).unwrap_or(len));
        let readable = &mut self.bytes[..left.min(len)];
        if left < len {
            self.unreadable = Some(format!("the file ends at byte {}", at + left as u64));
        }
        if file.read_exact_at(at, readable).is_ok() {
            return;
        }
        for block in readable.chunks_mut(BLOCK_BYTES) {
            block.fill(0);
            if let Err(error) = file.read_exact_at(at, block) {
                block.fill(0);
                self.unreadable.get_or_insert_with(|| format!("the disk says: {error}"));
            }
            at += block.len() as u64;
        }
    }
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
