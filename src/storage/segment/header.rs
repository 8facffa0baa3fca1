//! The first 64 bytes of a segment file: whose it is, and the seed of its checksums.
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | magic `MSSEG` `001` |
//! | 8 | 8 | base offset |
//! | 16 | 16 | topic UUID |
//! | 32 | 4 | partition |
//! | 36 | 4 | seed of the frame checksums |
//! | 40 | 8 | created at, ms |
//! | 48 | 12 | zero |
//! | 60 | 4 | CRC-32 of the 60 bytes before |

use crate::types::{Offset, TimestampMs, TopicId};

/// Length of the header; the first frame begins here.
pub const SEGMENT_HEADER_BYTES: usize = 64;

const MAGIC: [u8; 8] = *b"MSSEG001";

/// Which log a file belongs to. In every segment header, so that a file in the wrong directory is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId {
    /// The topic.
    pub topic: TopicId,
    /// Its partition, 0-based.
    pub partition: u32,
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The header of one segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose it is.
    pub log: LogId,
    /// Offset of the first record that is, or will be, in it.
    pub base_offset: Offset,
    /// When it was created.
    pub created_at_ms: TimestampMs,
}

impl SegmentHeader {
    /// The bytes to write.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let fields = self.fields();
        // Two files of one log never have the same base offset and creation time, so this tells them apart.
        finish(fields, crc32fast::hash(&fields[8..48]))
    }

    /// The bytes of a header that was lost, of a segment whose frames are known to have this seed.
    pub fn encode_with_seed(&self, seed: u32) -> [u8; SEGMENT_HEADER_BYTES] {
        finish(self.fields(), seed)
    }

    fn fields(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.base_offset.0.to_le_bytes());
        out[16..32].copy_from_slice(self.log.topic.0.as_bytes());
        out[32..36].copy_from_slice(&self.log.partition.to_le_bytes());
        out[40..48].copy_from_slice(&self.created_at_ms.to_le_bytes());
        out
    }

    /// When the file with this header was created.
    pub fn created_at_of(header: &[u8; SEGMENT_HEADER_BYTES]) -> TimestampMs {
        let (_, rest) = header.split_at(40);
        rest.first_chunk().map_or(TimestampMs::MIN, |bytes| i64::from_le_bytes(*bytes))
    }

    /// Reads a header that must be this log's, with this base offset. Gives the seed, or what is wrong.
    pub fn decode_seed(bytes: &[u8], log: LogId, base_offset: Offset) -> Result<u32, String> {
        let Some(header) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(format!("the file has {} bytes, a segment has at least {SEGMENT_HEADER_BYTES}", bytes.len()));
        };
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if header[..8] != MAGIC {
            return Err("it does not begin as a segment file".into());
        }
        if word(60) != crc32fast::hash(&header[..60]) {
            return Err("the checksum of the segment header does not match".into());
        }
        let expected = SegmentHeader { log, base_offset, created_at_ms: 0 }.encode();
        if header[8..36] != expected[8..36] {
            return Err(format!("it belongs to another log or offset than {log} at {base_offset}"));
        }
        Ok(word(36))
    }
}

fn finish(mut header: [u8; SEGMENT_HEADER_BYTES], seed: u32) -> [u8; SEGMENT_HEADER_BYTES] {
    header[36..40].copy_from_slice(&seed.to_le_bytes());
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}
