//! The frames of one segment file, one after the other, in a window of bounded size; goes on behind damage.
//!
//! The same steps as `storage::segment::scan`, which stops at the first thing that does not fit: here it is the point
//! of the exercise to see what comes after.

use crate::storage::file_system::File;
use crate::storage::frame::{FRAME_BYTES_MAX, FrameError, FrameHeader, HEADER_BYTES};
use crate::storage::segment::scan::find_frame_after;
use std::io;
use std::sync::Arc;

/// A window holds any whole frame that begins in its first half, which is what the search behind damage relies on.
const WINDOW_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// For a walk over headers alone; with large frames most of a larger window would be read for nothing.
const HEADER_WINDOW_BYTES: usize = 64 << 10;

/// What stands at one position.
#[derive(Debug)]
pub(super) enum Step<'w> {
    /// A frame.
    Frame { position: u32, header: FrameHeader, frame_bytes: u32, payload: &'w [u8] },
    /// Bytes that are no valid frame; with a header if it could be read. The walk goes on at the next valid frame.
    Invalid { position: u32, error: FrameError, header: Option<(FrameHeader, u32)> },
    /// Only zeros from here to the end of the file.
    Zeros { position: u32 },
    /// The end of the file.
    End { position: u32 },
}

/// A walk over one segment file.
#[derive(Debug)]
pub(super) struct FrameWalk {
    file: Arc<dyn File>,
    file_bytes: u32,
    seed: Option<u32>,
    position: u32,
    window: Vec<u8>,
    window_start: u32,
}

impl FrameWalk {
    /// Walks whole frames from `position` on and verifies their checksums.
    pub(super) fn verified(file: Arc<dyn File>, file_bytes: u32, seed: u32, position: u32) -> Self {
        Self { file, file_bytes, seed: Some(seed), position, window: Vec::new(), window_start: 0 }
    }

    /// Walks headers from `position` on and believes them; ends at the first that is none.
    pub(super) fn headers(file: Arc<dyn File>, file_bytes: u32, position: u32) -> Self {
        Self { file, file_bytes, seed: None, position, window: Vec::new(), window_start: 0 }
    }

    /// What stands at the present position; moves behind it.
    pub(super) fn step(&mut self) -> io::Result<Step<'_>> {
        let position = self.position;
        if position >= self.file_bytes {
            return Ok(Step::End { position });
        }
        match self.decode()? {
            Ok((header, frame_bytes)) => {
                self.position = position + frame_bytes;
                let payload = self.payload(position, frame_bytes);
                Ok(Step::Frame { position, header, frame_bytes, payload })
            }
            Err(_) if self.is_zero_from(position)? => {
                self.position = self.file_bytes;
                Ok(Step::Zeros { position })
            }
            Err(error) => {
                let header = FrameHeader::decode(self.window_at(position, HEADER_BYTES)?).ok();
                self.position = match self.seed {
                    Some(seed) => self.find_after(position, seed)?.unwrap_or(self.file_bytes),
                    None => self.file_bytes,
                };
                let header = header.map(|(header, bytes)| (header, in_segment(bytes)));
                Ok(Step::Invalid { position, error, header })
            }
        }
    }

    fn decode(&mut self) -> io::Result<Result<(FrameHeader, u32), FrameError>> {
        let (position, left) = (self.position, self.file_bytes - self.position);
        let header = FrameHeader::decode(self.window_at(position, HEADER_BYTES)?);
        let decoded = match (header, self.seed) {
            (Ok((_, bytes)), _) if bytes > left as usize => Err(FrameError::Short),
            (Ok((_, bytes)), Some(seed)) => FrameHeader::decode_verified(seed, self.window_at(position, bytes)?),
            (header, _) => header,
        };
        Ok(decoded.map(|(header, bytes)| (header, in_segment(bytes))))
    }

    /// The payload, as far as it is in the window: whole if the frame was verified.
    fn payload(&self, position: u32, frame_bytes: u32) -> &[u8] {
        let start = (position - self.window_start) as usize;
        let end = (start + frame_bytes as usize).min(self.window.len());
        self.window.get(start + HEADER_BYTES..end).unwrap_or_default()
    }

    /// At least `len` bytes from `position`, or all there are to the end of the file.
    fn window_at(&mut self, position: u32, len: usize) -> io::Result<&[u8]> {
        let wanted = len.min((self.file_bytes - position) as usize);
        let window_end = self.window_start as usize + self.window.len();
        if position < self.window_start || position as usize + wanted > window_end {
            let window = if self.seed.is_some() { WINDOW_BYTES } else { HEADER_WINDOW_BYTES };
            // What is kept must stay true if the read fails.
            self.window.clear();
            let mut fresh = vec![0; window.min((self.file_bytes - position) as usize)];
            self.file.read_exact_at(position.into(), &mut fresh)?;
            (self.window, self.window_start) = (fresh, position);
        }
        Ok(&self.window[(position - self.window_start) as usize..])
    }

    fn is_zero_from(&mut self, mut position: u32) -> io::Result<bool> {
        while position < self.file_bytes {
            let window = self.window_at(position, 1)?;
            if window.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            position += in_segment(window.len());
        }
        Ok(true)
    }

    /// The first valid frame after `from`.
    fn find_after(&mut self, mut from: u32, seed: u32) -> io::Result<Option<u32>> {
        loop {
            let left = (self.file_bytes - from) as usize;
            let window = self.window_at(from, WINDOW_BYTES.min(left))?;
            if let Some(found) = find_frame_after(window, seed, 0) {
                return Ok(Some(from + in_segment(found)));
            }
            if window.len() >= left {
                return Ok(None);
            }
            from += in_segment(FRAME_BYTES_MAX);
        }
    }
}

/// Lengths inside a segment fit its 32-bit positions.
fn in_segment(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a window and a frame are shorter than 4 GiB")
}
