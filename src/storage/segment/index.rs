//! The sparse index of a segment: from an offset, or a time, to a byte position near it.
//!
//! Derived from the frames and rebuilt from them on any doubt; losing it loses nothing. One entry each
//! [`INTERVAL_BYTES`] serves both look-ups: its offset is searched for offset look-ups, and the latest record time of
//! all frames *before* it, which never decreases, for time look-ups.

use crate::storage::frame::FrameHeader;
use crate::storage::segment::header::SEGMENT_HEADER_BYTES;
use crate::types::{Offset, TimestampMs};

/// Distance between entries. A look-up walks at most this far through headers: with small frames 200 of them.
pub const INTERVAL_BYTES: u32 = 16 << 10;

const MAGIC: [u8; 8] = *b"MSIDX002";
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    relative_offset: u32,
    position: u32,
    max_record_time_before_ms: TimestampMs,
}

/// Where to look in one segment, and a summary of what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseIndex {
    /// The offset that the segment begins with.
    pub base_offset: Offset,
    entries: Vec<Entry>,
    /// The next frame gets an entry, wherever it is.
    is_behind_break: bool,
    /// Where the last frame that is indexed begins; 0 if there is none.
    pub last_frame_position: u32,
    /// Byte position after the last frame that is indexed.
    pub end_position: u32,
    /// Offset after the last record that is indexed.
    pub next_offset: Offset,
    /// Append time of the first frame; `None` while there is none.
    pub first_append_time_ms: Option<TimestampMs>,
    /// Append time of the last frame.
    pub last_append_time_ms: TimestampMs,
    /// Latest time of any record.
    pub max_record_time_ms: TimestampMs,
}

/// The highest offset that a frame of the segment that begins at `base` can begin with.
pub fn last_possible_offset(base: Offset) -> Offset {
    base.advance(u32::MAX.into())
}

impl SparseIndex {
    /// The index of a segment without frames.
    pub fn new(base_offset: Offset) -> Self {
        Self {
            base_offset,
            entries: Vec::new(),
            is_behind_break: false,
            last_frame_position: 0,
            end_position: u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits"),
            next_offset: base_offset,
            first_append_time_ms: None,
            last_append_time_ms: TimestampMs::MIN,
            max_record_time_ms: TimestampMs::MIN,
        }
    }

    /// Whether the numbers of a frame fit. They always do for frames that a log wrote; a frame that was read may lie,
    /// with a checksum that is right.
    pub fn has_room_for(&self, frame: &FrameHeader, frame_bytes: u32) -> bool {
        u32::try_from(frame.base_offset.records_since(self.base_offset)).is_ok()
            && self.end_position.checked_add(frame_bytes).is_some()
    }

    /// Takes note of the frame that begins where the last one ended, for which there is room.
    ///
    /// # Panics
    /// If there is none: see [`SparseIndex::has_room_for`].
    pub fn push(&mut self, frame: &FrameHeader, frame_bytes: u32) {
        let position = self.end_position;
        let must_enter = std::mem::take(&mut self.is_behind_break);
        if must_enter || self.entries.last().is_none_or(|last| position - last.position >= INTERVAL_BYTES) {
            let relative = frame.base_offset.records_since(self.base_offset);
            self.entries.push(Entry {
                relative_offset: u32::try_from(relative).expect("a log is rolled before offsets outgrow 32 bits"),
                position,
                max_record_time_before_ms: self.max_record_time_ms,
            });
        }
        self.first_append_time_ms.get_or_insert(frame.append_time_ms);
        self.last_append_time_ms = frame.append_time_ms;
        self.max_record_time_ms = self.max_record_time_ms.max(frame.max_record_time_ms);
        self.last_frame_position = position;
        self.end_position = position + frame_bytes;
        self.next_offset = frame.next_offset();
    }

    /// Whether `last` is the header of the last frame that is indexed, as it stands in the segment now. An index file
    /// is not synced; after a crash it may be of frames that were cut since, and of which others took the place.
    pub fn ends_with(&self, last: &FrameHeader, frame_bytes: u32) -> bool {
        last.next_offset() == self.next_offset
            && last.append_time_ms == self.last_append_time_ms
            && self.last_frame_position.checked_add(frame_bytes) == Some(self.end_position)
    }

    /// Goes on behind bytes that are no valid frame, at one that begins at `position` with `offset`. It gets an entry,
    /// so that a look-up never has to walk over the break.
    pub fn skip_to(&mut self, position: u32, offset: Offset) {
        (self.end_position, self.next_offset, self.is_behind_break) = (position, offset, true);
    }

    /// A position at or before the frame that holds `offset`.
    pub fn position_of_offset(&self, offset: Offset) -> u32 {
        let relative = offset.records_since(self.base_offset);
        self.position_before(|entry| u64::from(entry.relative_offset) <= relative)
    }

    /// A position at or before the first frame that holds a record with a time at or after `time_ms`.
    pub fn position_of_time(&self, time_ms: TimestampMs) -> u32 {
        self.position_before(|entry| entry.max_record_time_before_ms < time_ms)
    }

    /// Memory it takes besides its own size.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Position of the last entry of the leading run for which `holds`; the first frame if there is none.
    fn position_before(&self, holds: impl Fn(&Entry) -> bool) -> u32 {
        let run = self.entries.partition_point(holds);
        let first = u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits");
        run.checked_sub(1).and_then(|last| self.entries.get(last)).map_or(first, |entry| entry.position)
    }

    /// The index as it was a few frames before `position`, which is the end of a frame: push the frames in between, and
    /// it is what it was there. At least one frame is left out, so that the push of the last sets its append time.
    #[must_use]
    pub fn cut_before(mut self, position: u32) -> Self {
        let kept = self.entries.partition_point(|entry| entry.position < position).saturating_sub(1);
        let Some(first_left_out) = self.entries.get(kept).copied() else { return self };
        self.entries.truncate(kept);
        self.end_position = first_left_out.position;
        self.next_offset = self.base_offset.advance(first_left_out.relative_offset.into());
        self.max_record_time_ms = first_left_out.max_record_time_before_ms;
        if kept == 0 {
            return Self::new(self.base_offset);
        }
        self
    }

    /// The bytes of an index file: header, entries, CRC-32 of both. `seed` ties it to its segment file.
    pub fn encode(&self, seed: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&seed.to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.entries.len()).expect("positions are 32-bit").to_le_bytes());
        out.extend_from_slice(&self.base_offset.0.to_le_bytes());
        out.extend_from_slice(&self.next_offset.0.to_le_bytes());
        out.extend_from_slice(&self.first_append_time_ms.unwrap_or(TimestampMs::MIN).to_le_bytes());
        out.extend_from_slice(&self.last_append_time_ms.to_le_bytes());
        out.extend_from_slice(&self.max_record_time_ms.to_le_bytes());
        out.extend_from_slice(&self.end_position.to_le_bytes());
        out.extend_from_slice(&self.last_frame_position.to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.relative_offset.to_le_bytes());
            out.extend_from_slice(&entry.position.to_le_bytes());
            out.extend_from_slice(&entry.max_record_time_before_ms.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads an index file; `None` if it is anything but a whole index of the segment with this seed and base offset.
    pub fn decode(bytes: &[u8], seed: u32, base_offset: Offset) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let (header, entries) = body.split_first_chunk::<HEADER_BYTES>()?;
        let long = |at: usize| header[at..at + 8].first_chunk::<8>().copied().map(u64::from_le_bytes);
        let word = |at: usize| header[at..at + 4].first_chunk::<4>().copied().map(u32::from_le_bytes);
        let genuine = u32::from_le_bytes(*crc) == crc32fast::hash(body)
            && header[..8] == MAGIC
            && word(8)? == seed
            && word(12)? as usize * ENTRY_BYTES == entries.len()
            && long(16)? == base_offset.0;
        if !genuine {
            return None;
        }
        let first_append_time_ms = long(32)?.cast_signed();
        let index = Self {
            base_offset,
            is_behind_break: false,
            entries: entries.as_chunks::<ENTRY_BYTES>().0.iter().map(decode_entry).collect(),
            next_offset: Offset(long(24)?),
            first_append_time_ms: (first_append_time_ms != TimestampMs::MIN).then_some(first_append_time_ms),
            last_append_time_ms: long(40)?.cast_signed(),
            max_record_time_ms: long(48)?.cast_signed(),
            end_position: word(56)?,
            last_frame_position: word(60)?,
        };
        index.is_possible().then_some(index)
    }

    /// Whether frames could have led to this index. A checksum that is right does not make numbers possible, and
    /// look-ups and [`SparseIndex::push`] rely on them.
    fn is_possible(&self) -> bool {
        let first = u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits");
        let relative_end = self.next_offset.records_since(self.base_offset);
        let before_end =
            |entry: &Entry| entry.position < self.end_position && u64::from(entry.relative_offset) < relative_end;
        let ascends = |pair: &[Entry]| {
            pair[0].position < pair[1].position
                && pair[0].relative_offset < pair[1].relative_offset
                && pair[0].max_record_time_before_ms <= pair[1].max_record_time_before_ms
        };
        self.end_position >= first
            && self.next_offset >= self.base_offset
            && (self.last_frame_position == 0 || (first..self.end_position).contains(&self.last_frame_position))
            && self.entries.first().is_none_or(|entry| entry.position >= first)
            && self.entries.last().is_none_or(before_end)
            && self.entries.windows(2).all(ascends)
    }
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> Entry {
    let (words, time) = bytes.split_at(8);
    let (offset, position) = words.split_at(4);
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("half of eight bytes"));
    Entry {
        relative_offset: word(offset),
        position: word(position),
        max_record_time_before_ms: i64::from_le_bytes(time.try_into().expect("the other half of sixteen bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<FrameHeader> {
        let frame = |i: u32| FrameHeader {
            attributes: 1,
            base_offset: Offset(100 + u64::from(i) * 10),
            record_count: 10,
            last_offset_delta: 9,
            append_time_ms: 1000 + i64::from(i),
            max_record_time_ms: if i == 20 { 5000 } else { 1000 + i64::from(i) },
            leader_epoch: 0,
            producer: None,
            durable_mark: Offset(0),
        };
        (0..50).map(frame).collect()
    }

    fn filled() -> SparseIndex {
        let mut index = SparseIndex::new(Offset(100));
        for frame in frames() {
            index.push(&frame, 5_000);
        }
        index
    }

    /// The promise of every look-up: never a position behind the frame that is wanted.
    #[test]
    fn positions_are_at_or_before_what_is_looked_for() {
        let index = filled();
        for offset in 100..600_u64 {
            let frame = u32::try_from((offset - 100) / 10 * 5_000 + 64).expect("small");
            let found = index.position_of_offset(Offset(offset));
            assert!(found <= frame && frame - found < INTERVAL_BYTES + 5_000, "offset {offset}: {found} for {frame}");
        }
        assert!(index.position_of_time(1010) <= 64 + 10 * 5_000);
        assert!(index.position_of_time(4000) <= 64 + 20 * 5_000, "the out-of-order record at frame 20 is the first");
    }

    #[test]
    fn an_index_cut_back_and_pushed_again_is_what_it_was() {
        let (whole, frames) = (filled(), frames());
        for count in 1..=frames.len() {
            let mut expected = SparseIndex::new(Offset(100));
            frames[..count].iter().for_each(|frame| expected.push(frame, 5_000));
            let mut cut = whole.clone().cut_before(expected.end_position);
            let from = usize::try_from(cut.next_offset.records_since(Offset(100)) / 10).expect("small");
            assert!(from < count, "at least one frame is left out");
            frames[from..count].iter().for_each(|frame| cut.push(frame, 5_000));
            assert_eq!(cut, expected, "after {count} frames");
        }
    }

    #[test]
    fn an_index_file_is_read_back_and_any_damage_is_noticed() {
        let index = filled();
        let bytes = index.encode(7);
        assert_eq!(SparseIndex::decode(&bytes, 7, Offset(100)), Some(index));
        assert_eq!(SparseIndex::decode(&bytes, 8, Offset(100)), None, "of another segment file");
        assert_eq!(SparseIndex::decode(&bytes[..bytes.len() - 1], 7, Offset(100)), None, "cut short");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(SparseIndex::decode(&bad, 7, Offset(100)), None, "byte {at}");
        }
    }
}
