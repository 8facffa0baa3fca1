//! Records, frames, logs and queues for measuring.
#![allow(dead_code, reason = "each benchmark uses some of it")]

pub(crate) mod queue;

use bytes::{Bytes, BytesMut};
use millstream::storage::frame::{FORMAT_RECORD_SET, FrameHeader, HEADER_BYTES};
use millstream::storage::log::NewBatch;
use millstream::storage::real_file_system::RealFileSystem;
use millstream::storage::segment::header::LogId;
use millstream::storage::segment::index::SparseIndex;
use millstream::storage::{Log, LogOptions};
use millstream::types::record_set::{self, encode_record};
use millstream::types::{Offset, TopicId};
use std::sync::Arc;

pub(crate) const OPTIONS: LogOptions = LogOptions { segment_bytes: 128 << 20, seal_age_ms: u64::MAX, reserve_bytes: 0 };

/// Records of 100 bytes, as many as make a set of about this size.
pub(crate) fn set(bytes: usize) -> Bytes {
    let mut set = BytesMut::new();
    while set.len() < bytes {
        encode_record(&mut set, None, Some(&[b'v'; 100]), std::iter::empty(), None);
    }
    set.freeze()
}

pub(crate) fn batch(bytes: usize) -> NewBatch {
    let payload = set(bytes);
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    NewBatch::new(payload, summary)
}

/// A log in a directory that goes away with it.
pub(crate) fn log() -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let id = LogId { topic: TopicId(uuid::Uuid::from_u128(1)), partition: 0 };
    let (log, _) = Log::open(Arc::new(RealFileSystem), directory.path(), id, OPTIONS).expect("opens");
    (directory, log)
}

/// A frame header as a batch of one record gets it.
pub(crate) fn header() -> FrameHeader {
    FrameHeader {
        attributes: FORMAT_RECORD_SET,
        base_offset: Offset(1000),
        record_count: 1,
        last_offset_delta: 0,
        append_time_ms: 1000,
        max_record_time_ms: 1000,
        leader_epoch: 0,
        producer: None,
        durable_mark: Offset(900),
    }
}

/// A whole frame, checksummed with the seed 7.
pub(crate) fn frame(bytes: usize) -> Vec<u8> {
    let payload = set(bytes);
    [&header().encode(7, &payload)[..], &payload].concat()
}

/// The index of a segment of so many frames of 4 KiB, one record and one millisecond each.
pub(crate) fn index_of(frames: u32) -> SparseIndex {
    let mut index = SparseIndex::new(Offset(0));
    for number in 0..frames {
        let time = i64::from(number);
        let base_offset = Offset(number.into());
        let frame = FrameHeader { base_offset, append_time_ms: time, max_record_time_ms: time, ..header() };
        index.push(&frame, u32::try_from(HEADER_BYTES).expect("small") + 4096);
    }
    index
}

/// 1,000 records of 100 bytes with two headers.
pub(crate) fn set_with_headers() -> Bytes {
    let mut set = BytesMut::new();
    for _ in 0..1_000 {
        let headers = [("region", b"eu-west".as_slice()), ("type", b"order")];
        encode_record(&mut set, None, Some(&[b'v'; 100]), headers.into_iter(), None);
    }
    set.freeze()
}
