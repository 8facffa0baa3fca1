//! One hot path a run, so that its instructions can be counted: see `benches/instructions`.
//!
//! `instructions CASE ROUNDS` makes ready and goes so many rounds; the difference of two counts is what rounds cost.
//! Unlike a time, that is the same on a busy machine.

mod common;

use bytes::BytesMut;
use common::queue::EndlessQueue;
use common::{batch, header, index_of, log, set, set_with_headers};
use millstream::filter::Filter;
use millstream::storage::frame::FrameHeader;
use millstream::types::Offset;
use millstream::types::partitioner::partition_of_key;
use millstream::types::record_set::{self, encode_record};
use std::hint::black_box;

/// Name, what one round is, and its rounds.
type Case = (&'static str, &'static str, fn(usize));

const CASES: &[Case] = &[
    ("encode_record", "a record of 100 bytes is encoded", |rounds| {
        let mut set = BytesMut::with_capacity(rounds * 128);
        for _ in 0..rounds {
            encode_record(&mut set, None, Some(black_box(&[b'v'; 100])), std::iter::empty(), None);
        }
        black_box(set);
    }),
    ("check_records", "a set of 1,000 records is checked", |rounds| {
        let set = set(1000 * 104);
        for _ in 0..rounds {
            record_set::check(black_box(&set), usize::MAX).expect("valid");
        }
    }),
    ("match_records", "1,000 records with two headers are matched with a filter of one comparison", |rounds| {
        match_records("attributes.type = \"refund\"", rounds);
    }),
    ("match_records_16", "the same with one of 16 comparisons", |rounds| {
        let terms: Vec<_> =
            (0..16).map(|i| format!("attributes.type = \"t{i}\" AND attributes.region != \"r{i}\"")).collect();
        match_records(&terms[..8].join(" OR "), rounds);
    }),
    ("partition_of_key", "a key of 16 bytes is given its partition", |rounds| {
        for _ in 0..rounds {
            black_box(partition_of_key(black_box(b"customer-0000017"), 12));
        }
    }),
    ("encode_frame", "header and checksum of 64 KiB", |rounds| {
        let (header, payload) = (header(), set(64 << 10));
        for _ in 0..rounds {
            black_box(header.encode(7, black_box(&payload)));
        }
    }),
    ("verify_frame", "a frame of 64 KiB is verified", |rounds| {
        let frame = common::frame(64 << 10);
        for _ in 0..rounds {
            black_box(FrameHeader::decode_verified(7, black_box(&frame)).expect("whole"));
        }
    }),
    ("append_of_64", "64 batches of one small record are appended together", |rounds| {
        let (_directory, mut log) = log();
        let batches = vec![batch(100); 64];
        for _ in 0..rounds {
            black_box(log.append(&batches, 0));
        }
    }),
    ("read_frame", "a frame of 16 KiB is read", |rounds| {
        let (_directory, mut log) = log();
        log.append(&vec![batch(16 << 10); rounds], 0);
        let (reader, end) = (log.reader(), log.next_offset());
        let mut next = Offset(0);
        while next < end {
            next = reader.read(next, end, 1 << 20).expect("readable").last().expect("there is more").next_offset();
        }
    }),
    ("work_queue", "1,000 messages of a queue are taken, delivered and acknowledged", |rounds| {
        let queue = EndlessQueue::new();
        for _ in 0..rounds {
            assert_eq!(queue.work(1_000), 1_000);
        }
    }),
    ("look_up_offset", "an offset is looked up in a segment of 65,536 frames", |rounds| {
        let index = index_of(1 << 16);
        for _ in 0..rounds {
            black_box(index.position_of_offset(black_box(Offset(40_000))));
        }
    }),
    ("look_up_time", "a time is looked up there", |rounds| {
        let index = index_of(1 << 16);
        for _ in 0..rounds {
            black_box(index.position_of_time(black_box(40_000)));
        }
    }),
];

fn match_records(filter: &str, rounds: usize) {
    let filter = Filter::new(filter).expect("it is one");
    let set = set_with_headers();
    for _ in 0..rounds {
        let matching = record_set::bodies_with_ends(black_box(&set)).filter(|(record, _)| filter.matches(record));
        assert_eq!(black_box(matching.count()), 0);
    }
}

fn main() {
    // `cargo bench` calls every benchmark, with a flag of its own; then there is nothing to count with.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match &arguments[..] {
        [name, rounds] => {
            let (_, _, run) = CASES.iter().find(|(known, _, _)| known == name).expect("a case of --list");
            run(rounds.parse().expect("a number of rounds"));
        }
        _ => CASES.iter().for_each(|(name, round, _)| println!("{name}\t{round}")),
    }
}
