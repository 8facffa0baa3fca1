//! Records that can be recognised: who sent them, which one it is, and when it was meant to be sent.
//!
//! ```text
//! 0  sender u16 | sequence u48     counted for each sender and partition, from 0
//! 8  intended u64                  nanoseconds since the run began
//! 16 pseudo-random bytes           the same in every run
//! ```
//!
//! A block is stamped in place before each send: two stores a record, no allocation. All blocks of a sender have the
//! same bytes behind the stamp, so a system that compresses across batches gains; none of those here does.

/// The stamp in front of each record: the smallest record there can be.
pub const STAMP_BYTES: usize = 16;

const SEQUENCE_BITS: u32 = 48;

/// Most senders of one run.
pub const SENDERS_MAX: u32 = 1 << 16;

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Who sent it.
    pub sender: u32,
    /// Which one it is of those this sender sent to the partition.
    pub sequence: u64,
    /// When it was meant to be sent, in nanoseconds since the run began.
    pub intended_ns: u64,
}

impl Stamp {
    /// The stamp of a record; `None` if it is too short to have one.
    #[inline]
    pub fn of(record: &[u8]) -> Option<Self> {
        let (head, rest) = record.split_first_chunk::<8>()?;
        let intended = rest.first_chunk::<8>()?;
        let head = u64::from_le_bytes(*head);
        let sender = u32::try_from(head >> SEQUENCE_BITS).unwrap_or(SENDERS_MAX);
        Some(Self { sender, sequence: head & ((1 << SEQUENCE_BITS) - 1), intended_ns: u64::from_le_bytes(*intended) })
    }

    #[inline]
    fn write(self, record: &mut [u8]) {
        let head = u64::from(self.sender) << SEQUENCE_BITS | self.sequence;
        record[..8].copy_from_slice(&head.to_le_bytes());
        record[8..STAMP_BYTES].copy_from_slice(&self.intended_ns.to_le_bytes());
    }
}

/// Records that lie one behind the other, all of the same size.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    bytes: &'a [u8],
    record_bytes: usize,
}

impl<'a> Block<'a> {
    /// The records.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks_exact(self.record_bytes)
    }

    /// How many there are.
    pub fn record_count(&self) -> usize {
        self.bytes.len() / self.record_bytes
    }
}

/// The memory of a sender's blocks.
#[derive(Debug)]
pub struct BlockBuffer {
    bytes: Vec<u8>,
    record_bytes: usize,
    sender: u32,
}

impl BlockBuffer {
    /// Room for `records` records. `record_bytes` is at least [`STAMP_BYTES`], `sender` below [`SENDERS_MAX`].
    pub fn new(sender: u32, records: u32, record_bytes: usize) -> Self {
        assert!(record_bytes >= STAMP_BYTES, "a record has room for its stamp");
        assert!(sender < SENDERS_MAX, "a sender's number fits its stamp");
        let bytes = pseudo_random(u64::from(sender) + 1, records as usize * record_bytes);
        Self { bytes, record_bytes, sender }
    }

    /// Stamps the first `count` records. `intended_ns` says when each was meant to be sent.
    #[inline]
    pub fn stamp(&mut self, first_sequence: u64, count: u32, intended_ns: impl Fn(u32) -> u64) -> Block<'_> {
        let bytes = &mut self.bytes[..count as usize * self.record_bytes];
        for (number, record) in (0..count).zip(bytes.chunks_exact_mut(self.record_bytes)) {
            let sequence = first_sequence + u64::from(number);
            Stamp { sender: self.sender, sequence, intended_ns: intended_ns(number) }.write(record);
        }
        Block { bytes, record_bytes: self.record_bytes }
    }
}

/// The generator known as `SplitMix64`: quick, spread well, and the same everywhere.
fn pseudo_random(seed: u64, len_bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len_bytes + 8);
    while bytes.len() < len_bytes {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len_bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_tells_what_it_was_stamped_with() {
        let mut buffer = BlockBuffer::new(65_535, 3, 20);
        let block = buffer.stamp((1 << 47) + 5, 2, |number| 100 + u64::from(number));
        assert_eq!(block.record_count(), 2);
        let stamps: Vec<_> = block.records().filter_map(Stamp::of).collect();
        let expected =
            |number: u64| Stamp { sender: 65_535, sequence: (1 << 47) + 5 + number, intended_ns: 100 + number };
        assert_eq!(stamps, [expected(0), expected(1)]);
        assert_eq!(Stamp::of(&[0; 15]), None);
    }

    #[test]
    fn the_bytes_behind_the_stamp_are_the_same_in_every_run_and_do_not_repeat() {
        assert_eq!(pseudo_random(1, 100), pseudo_random(1, 100));
        assert_ne!(pseudo_random(1, 100), pseudo_random(2, 100));
        let bytes = pseudo_random(1, 256);
        assert_ne!(bytes[..128], bytes[128..]);
    }
}
