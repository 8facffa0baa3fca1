//! The frame: what one record batch is on disk. 72 bytes of header, then the payload as the client sent it.
//!
//! Total on any bytes: decoding never panics and allocates nothing. Little-endian throughout. The checksum is seeded
//! with the identity of the segment, so that bytes left over from another file, or from an earlier use of the same
//! disk blocks, never pass for a frame.
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | magic `MSF2` |
//! | 4 | 4 | CRC-32 of everything after this field, header and payload, seeded |
//! | 8 | 4 | length of the frame, header included |
//! | 12 | 2 | attributes: bits 0-2 payload format, 3-5 compression, 6 control, 7 transactional |
//! | 14 | 2 | producer epoch |
//! | 16 | 8 | base offset |
//! | 24 | 4 | record count; 0 for a frame that only says that its offsets were compacted away |
//! | 28 | 4 | last offset delta |
//! | 32 | 8 | append time, ms |
//! | 40 | 8 | latest record time, ms |
//! | 48 | 8 | producer id; 0 = none |
//! | 56 | 4 | base sequence |
//! | 60 | 4 | leader epoch |
//! | 64 | 8 | durable mark: every offset below it was durable when this frame was written |

use crate::limits::BATCH_BYTES_LIMIT_MAX;
use crate::planted::{Bug, is_planted};
use crate::types::{Offset, ProducerId, ProducerStamp, TimestampMs};

/// Length of the header.
pub const HEADER_BYTES: usize = 72;

/// Longest frame there can be; a length above it is damage, whatever else it says.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + BATCH_BYTES_LIMIT_MAX as usize;

/// Payload format 1: an encoded `millstream.v1.RecordSet`. Value 2 is kept for Kafka's record batch v2.
pub const FORMAT_RECORD_SET: u16 = 1;

const MAGIC: [u8; 4] = *b"MSF2";
const CHECKED_FROM: usize = 8;

/// The header of a frame, without magic, checksum and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// See the table of the module.
    pub attributes: u16,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// How many records the payload holds.
    pub record_count: u32,
    /// Offset of the last record, less the base offset. `record_count - 1` unless records were compacted away.
    pub last_offset_delta: u32,
    /// When the broker appended the batch.
    pub append_time_ms: TimestampMs,
    /// The latest time of any record in it.
    pub max_record_time_ms: TimestampMs,
    /// Which owner of the partition appended it.
    pub leader_epoch: u32,
    /// Which idempotent producer sent it, and as which of its records.
    pub producer: Option<ProducerStamp>,
    /// Every offset below this was durable when the frame was written. It tells damage from a tear after a crash:
    /// what stands at an offset below the mark of any valid frame was acknowledged and must be there.
    pub durable_mark: Offset,
}

/// Why bytes are not a frame. Carries no position: the caller knows where it looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the header, or than the length in it.
    #[error("the bytes end inside the frame")]
    Short,
    /// The first four bytes are not the magic. All zero where nothing was written yet.
    #[error("there is no frame here")]
    Magic,
    /// The length is impossible.
    #[error("the frame length is impossible")]
    Length,
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The frame is whole, but its payload is of a kind this broker does not know.
    #[error("the payload has attributes {0:#06x}, which this broker does not know; read it with a newer one")]
    Attributes(u16),
}

impl FrameHeader {
    /// The offset after the last record.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.advance(u64::from(self.last_offset_delta) + 1)
    }

    /// Whether this broker can read the payload: an uncompressed record set, nothing else. Asked by readers, not by
    /// recovery: a frame of a newer broker is whole, and not to be cut.
    pub fn check_readable(&self) -> Result<(), FrameError> {
        if self.attributes == FORMAT_RECORD_SET { Ok(()) } else { Err(FrameError::Attributes(self.attributes)) }
    }

    /// The header bytes to write before `payload`, checksum included: one pass over the payload.
    ///
    /// # Panics
    /// If the payload is longer than any frame may be; callers check batches against their limit first.
    pub fn encode(&self, seed: u32, payload: &[u8]) -> [u8; HEADER_BYTES] {
        let frame_bytes = HEADER_BYTES + payload.len();
        assert!(frame_bytes <= FRAME_BYTES_MAX, "a payload of {} bytes was not refused earlier", payload.len());
        let frame_bytes = u32::try_from(frame_bytes).expect("FRAME_BYTES_MAX fits 32 bits");
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &frame_bytes.to_le_bytes());
        put(12, &self.attributes.to_le_bytes());
        put(16, &self.base_offset.0.to_le_bytes());
        put(24, &self.record_count.to_le_bytes());
        put(28, &self.last_offset_delta.to_le_bytes());
        put(32, &self.append_time_ms.to_le_bytes());
        put(40, &self.max_record_time_ms.to_le_bytes());
        put(60, &self.leader_epoch.to_le_bytes());
        put(64, &self.durable_mark.0.to_le_bytes());
        if let Some(producer) = self.producer {
            put(14, &producer.epoch.to_le_bytes());
            put(48, &producer.id.0.to_le_bytes());
            put(56, &producer.base_sequence.to_le_bytes());
        }
        let crc = checksum(seed, &out[CHECKED_FROM..], payload);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header at the start of `bytes`; also the length of the whole frame. Does not look at the checksum.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), FrameError> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(FrameError::Short)?;
        if header[..4] != MAGIC {
            return Err(FrameError::Magic);
        }
        let frame_bytes = u32_at(header, 8) as usize;
        if !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&frame_bytes) {
            return Err(FrameError::Length);
        }
        let producer = ProducerId::new(u64::from_le_bytes(array_at(header, 48))).map(|id| ProducerStamp {
            id,
            epoch: u16::from_le_bytes(array_at(header, 14)),
            base_sequence: u32_at(header, 56),
        });
        let decoded = Self {
            attributes: u16::from_le_bytes(array_at(header, 12)),
            base_offset: Offset(u64::from_le_bytes(array_at(header, 16))),
            record_count: u32_at(header, 24),
            last_offset_delta: u32_at(header, 28),
            append_time_ms: i64::from_le_bytes(array_at(header, 32)),
            max_record_time_ms: i64::from_le_bytes(array_at(header, 40)),
            leader_epoch: u32_at(header, 60),
            producer,
            durable_mark: Offset(u64::from_le_bytes(array_at(header, 64))),
        };
        Ok((decoded, frame_bytes))
    }

    /// Reads and verifies the frame at the start of `bytes`: header, length and checksum.
    pub fn decode_verified(seed: u32, bytes: &[u8]) -> Result<(Self, usize), FrameError> {
        let (header, frame_bytes) = Self::decode(bytes)?;
        let frame = bytes.get(..frame_bytes).ok_or(FrameError::Short)?;
        let expected = u32_at(frame, 4);
        let (head, payload) = frame.split_at(HEADER_BYTES);
        if checksum(seed, &head[CHECKED_FROM..], payload) == expected {
            Ok((header, frame_bytes))
        } else {
            Err(FrameError::Checksum)
        }
    }
}

fn checksum(seed: u32, header: &[u8], payload: &[u8]) -> u32 {
    let seed = if is_planted(Bug::SeedIgnored) { 0 } else { seed };
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

/// `N` bytes of a header that is known to have them.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the header has 72 bytes")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> FrameHeader {
        FrameHeader {
            attributes: FORMAT_RECORD_SET,
            base_offset: Offset(7),
            record_count: 3,
            last_offset_delta: 2,
            append_time_ms: 1_700_000_000_000,
            max_record_time_ms: -5,
            leader_epoch: 4,
            producer: Some(ProducerStamp { id: ProducerId(9), epoch: 3, base_sequence: 77 }),
            durable_mark: Offset(5),
        }
    }

    fn frame(seed: u32, payload: &[u8]) -> Vec<u8> {
        [header().encode(seed, payload).as_slice(), payload].concat()
    }

    #[test]
    fn a_frame_is_read_back() {
        assert_eq!(FrameHeader::decode_verified(9, &frame(9, b"payload")), Ok((header(), 79)));
    }

    #[test]
    fn a_frame_of_another_segment_does_not_validate() {
        assert_eq!(FrameHeader::decode_verified(8, &frame(9, b"payload")), Err(FrameError::Checksum));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = frame(9, b"payload");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::decode_verified(9, &bad).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
            let mut bytes = bytes;
            if magic && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&MAGIC);
            }
            prop_assert!(FrameHeader::decode_verified(1, &bytes).is_err());
        }
    }
}
