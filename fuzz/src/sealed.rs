//! Checksums put right: without that, arbitrary bytes would never get past them.

use millstream::storage::frame::{FRAME_BYTES_MAX, HEADER_BYTES};

const FRAME_MAGIC: &[u8; 4] = b"MSF2";

/// Makes a frame of `frame` as it is: magic, length and checksum. `None` if it is too short or too long for one.
pub fn seal_frame(seed: u32, frame: &mut [u8]) -> Option<()> {
    if !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&frame.len()) {
        return None;
    }
    let len = frame.len() as u32;
    frame[..4].copy_from_slice(FRAME_MAGIC);
    frame[8..12].copy_from_slice(&len.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&frame[8..]);
    let crc = hasher.finalize();
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    Some(())
}

/// Walks what looks like frames from `position` on, by their lengths, and puts their checksums right where `chosen`
/// says so.
pub fn seal_frames(seed: u32, file: &mut [u8], mut position: usize, mut chosen: impl FnMut() -> bool) {
    while let Some(rest) = file.get_mut(position..).filter(|rest| rest.len() >= HEADER_BYTES) {
        let len = u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        if rest[..4] != *FRAME_MAGIC || !(HEADER_BYTES..=rest.len()).contains(&len) {
            return;
        }
        if chosen() {
            let _ = seal_frame(seed, &mut rest[..len]);
        }
        position += len;
    }
}

/// Puts the CRC-32 of everything before into the last four bytes.
pub fn seal_tail(bytes: &mut [u8]) {
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32fast::hash(body).to_le_bytes();
    }
}

/// A small file: the text and its checksum line.
pub fn sealed_text(text: &[u8]) -> Vec<u8> {
    let mut file = text.to_vec();
    if !file.ends_with(b"\n") {
        file.push(b'\n');
    }
    let line = format!("crc32 {:08x}\n", crc32fast::hash(&file));
    file.extend_from_slice(line.as_bytes());
    file
}
