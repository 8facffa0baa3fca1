//! Frames: decoding is total and allocates nothing; what is decoded is encoded as it was; a flipped bit is noticed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::storage::frame::{FrameHeader, HEADER_BYTES};
use millstream::storage::segment::index::SparseIndex;
use millstream::storage::segment::scan::{Scan, find_frame_after, find_frame_beyond, scan};
use millstream::types::Offset;
use millstream_fuzz::{bounded, sealed};

fuzz_target!(|input: (u32, u16, &[u8])| {
    let (seed, choice, bytes) = input;
    bounded(0, || decode(seed, bytes));
    bounded(64 << 10, || walk(seed, bytes));

    let mut frame = bytes.to_vec();
    if sealed::seal_frame(seed, &mut frame).is_some() {
        let (header, len) = FrameHeader::decode_verified(seed, &frame).expect("the checksum was put right");
        assert_eq!(len, frame.len());
        let payload = &frame[HEADER_BYTES..];
        let again = [&header.encode(seed, payload)[..], payload].concat();
        // Without a producer its other two fields say nothing, and are not kept.
        if header.producer.is_some() {
            assert_eq!(again, frame);
        }
        assert_eq!(FrameHeader::decode_verified(seed, &again), Ok((header, len)));
        bounded(64 << 10, || walk(seed, &[&[0; 64][..], &frame].concat()));
        let bit = usize::from(choice) % (frame.len() * 8);
        frame[bit / 8] ^= 1 << (bit % 8);
        assert!(FrameHeader::decode_verified(seed, &frame).is_err(), "bit {bit} was flipped");
    }
});

fn decode(seed: u32, bytes: &[u8]) {
    let verified = FrameHeader::decode_verified(seed, bytes);
    if let Ok((header, len)) = verified {
        assert_eq!(FrameHeader::decode(bytes), Ok((header, len)));
        assert!(len <= bytes.len());
        let _ = (header.next_offset(), header.check_readable());
    }
    if let Some(position) = find_frame_after(bytes, seed, 0) {
        assert!(FrameHeader::decode_verified(seed, &bytes[position..]).is_ok());
    }
}

fn walk(seed: u32, bytes: &[u8]) {
    for verify in [true, false] {
        for base in [Offset::ZERO, Offset(bytes.first().copied().unwrap_or(0).into())] {
            let mut index = SparseIndex::new(base);
            let Scan { breaks, .. } = scan(bytes, seed, verify, &mut index);
            assert!(index.end_position as usize <= bytes.len().max(64));
            for found in breaks {
                assert!((found.position as usize) < bytes.len());
                assert!(found.resumes.is_none_or(|(at, offset)| at >= found.position && offset >= found.expected));
            }
            let _ = find_frame_beyond(bytes, seed, base, 0, base);
        }
    }
}
