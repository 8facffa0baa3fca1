//! Index files: whatever is read leads to positions inside the segment, and goes on growing without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::storage::frame::FrameHeader;
use millstream::storage::segment::index::SparseIndex;
use millstream::types::Offset;
use millstream_fuzz::{bounded, damaged_log::Number, sealed};

fuzz_target!(|input: (u32, Number, [Number; 4], Vec<u8>)| {
    let (seed, base, numbers, bytes) = input;
    let base = Offset(base.get());
    // The decoded entries, and the file written again.
    let bytes_max = 2 * bytes.len() + 4096;
    bounded(bytes_max, || use_index(&bytes, seed, base, numbers));

    let mut file = bytes;
    let entries = file.len().saturating_sub(64) / 16;
    file.resize(64 + entries * 16 + 4, 0);
    file[..8].copy_from_slice(b"MSIDX002");
    file[8..12].copy_from_slice(&seed.to_le_bytes());
    file[12..16].copy_from_slice(&(entries as u32).to_le_bytes());
    file[16..24].copy_from_slice(&base.0.to_le_bytes());
    sealed::seal_tail(&mut file);
    bounded(2 * file.len() + 4096, || use_index(&file, seed, base, numbers));
});

fn use_index(bytes: &[u8], seed: u32, base: Offset, numbers: [Number; 4]) {
    let Some(mut index) = SparseIndex::decode(bytes, seed, base) else { return };
    let again = index.encode(seed);
    assert_eq!(SparseIndex::decode(&again, seed, base).as_ref(), Some(&index));
    let [offset, time, delta, later] = numbers.map(Number::get);
    for _ in 0..2 {
        let end = index.end_position;
        assert!((64..=end).contains(&index.position_of_offset(Offset(offset))));
        assert!((64..=end).contains(&index.position_of_time(time.cast_signed())));
        let frame = FrameHeader {
            attributes: 1,
            base_offset: index.next_offset,
            record_count: 1,
            last_offset_delta: delta as u32,
            append_time_ms: time.cast_signed(),
            max_record_time_ms: later.cast_signed(),
            leader_epoch: 0,
            producer: None,
            durable_mark: Offset::ZERO,
        };
        let frame_bytes = 72 + (later as u32 & 0xffff);
        if !index.has_room_for(&frame, frame_bytes) {
            return;
        }
        index.push(&frame, frame_bytes);
    }
}
