//! What preparing ahead promises: an append finds its space there, and a log that is not appended to takes none.

use crate::storage::log::{Log, LogOptions, NewBatch};
use crate::storage::segment::header::LogId;
use crate::storage::sim_disk::Loss;
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::record_set::{self, encode_record};
use crate::types::{Offset, TopicId};
use bytes::BytesMut;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const OPTIONS: LogOptions = LogOptions { segment_bytes: 256 << 10, seal_age_ms: u64::MAX, reserve_bytes: 0 };

fn open(disk: &SimFileSystem) -> Log {
    let id = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
    Log::open(Arc::new(disk.clone()), Path::new("/log"), id, OPTIONS).expect("the log opens").0
}

fn append(log: &mut Log, bytes: usize) {
    let mut set = BytesMut::new();
    encode_record(&mut set, None, Some(&vec![7; bytes]), std::iter::empty(), None);
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    let outcome = log.append(&[NewBatch::new(payload, summary)], 0);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
}

fn next_file() -> PathBuf {
    PathBuf::from("/log/next.prepared")
}

fn length(disk: &SimFileSystem, base: u64) -> usize {
    disk.files()[&PathBuf::from(format!("/log/{base:020}.log"))].len()
}

/// Counted in operations on the disk: one write and one sync, whatever the file had to grow by in between.
#[test]
fn an_append_does_nothing_but_write_and_sync() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    let (mut rolls, mut appends) = (0, 0);
    for i in 0..400 {
        let (segments, before) = (log.reader().size().segments, disk.operations());
        append(&mut log, 3_000);
        log.sync().expect("syncs");
        let operations = disk.operations() - before;
        if i == 0 {
            // The very first finds nothing.
        } else if log.reader().size().segments == segments {
            assert_eq!(operations, 2, "append {i}");
            appends += 1;
        } else {
            // Cut the old segment, make its index file and write it; header and name of the new one; the append;
            // then three syncs: of each segment and of the directory. No file is made, and none grows.
            assert_eq!(operations, 9, "append {i}");
            rolls += 1;
        }
        log.prepare_ahead();
    }
    assert!(rolls >= 3 && appends > 300, "the test is about both");
}

#[test]
fn the_next_file_is_made_when_the_segment_is_nearly_full_and_goes_with_the_log() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    while !disk.files().contains_key(&next_file()) {
        append(&mut log, 3_000);
        log.prepare_ahead();
        assert_eq!(log.reader().size().segments, 1, "it was not made in time");
    }
    let bytes = log.reader().size().bytes;
    assert!(bytes > OPTIONS.segment_bytes / 3, "it was made at {bytes} bytes");
    log.close().expect("closes");
    assert!(!disk.files().contains_key(&next_file()));
}

#[test]
fn a_next_file_that_a_crash_left_behind_is_removed() {
    for seed in 0..50 {
        let disk = SimFileSystem::new(seed);
        let mut log = open(&disk);
        for _ in 0..60 {
            append(&mut log, 3_000);
            log.sync().expect("syncs");
            log.prepare_ahead();
        }
        // A new segment in the place of the file, and one more file; some of it reaches the disk.
        for _ in 0..70 {
            append(&mut log, 3_000);
            log.prepare_ahead();
        }
        assert!(log.reader().size().segments > 1 && disk.files().contains_key(&next_file()));
        let disk = disk.crash(Loss::Ordered);
        let log = open(&disk);
        assert!(log.next_offset() >= Offset(60));
        assert!(!disk.files().contains_key(&next_file()));
    }
}

/// With 10,000 partitions, each byte here is 10 kB of the disk.
#[test]
fn a_log_with_little_in_it_takes_little() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    append(&mut log, 100);
    log.sync().expect("syncs");
    log.prepare_ahead();
    let (length, operations) = (length(&disk, 0), disk.operations());
    assert!(length <= 66_000, "{length} bytes for 100");
    for _ in 0..100 {
        log.prepare_ahead();
    }
    assert_eq!(disk.operations(), operations, "without appends there is nothing to prepare");
}

/// Bytes of zeros that were written ahead are the end of the log, in this process and in the next.
#[test]
fn zeros_ahead_are_not_records() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    for _ in 0..30 {
        append(&mut log, 3_000);
        log.sync().expect("syncs");
        log.prepare_ahead();
    }
    for loss in [Loss::Ordered, Loss::AnyOrder] {
        let mut reopened = open(&disk.crash(loss));
        assert_eq!(reopened.next_offset(), Offset(30));
        append(&mut reopened, 10);
        assert_eq!(reopened.reader().read(Offset(30), Offset(31), 1000).expect("readable").len(), 1);
    }
}
