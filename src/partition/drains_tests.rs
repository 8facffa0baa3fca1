//! Who writes: with storage threads that are asleep, or not there at all, so that what is written was written in place.

use super::*;
use crate::clock::ManualClock;
use crate::partition::{PartitionHandle, StoragePool};
use crate::storage::Log;
use crate::storage::log::{LogOptions, NewBatch};
use crate::storage::retention::RetentionPolicy;
use crate::storage::segment::header::LogId;
use crate::storage::sim_disk::Fault;
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::{Durability, TopicId, record_set};
use futures_util::FutureExt as _;
use std::path::Path;
use std::time::Duration;

const LITTLE: usize = 100;
const MUCH: usize = 20_000;

fn batch(value_bytes: usize) -> NewBatch {
    let mut set = bytes::BytesMut::new();
    record_set::encode_record(&mut set, None, Some(&vec![7; value_bytes]), std::iter::empty(), None);
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    NewBatch::new(payload, summary)
}

/// A partition that promises no more than to write, with one record in it, and `threads` that work for it.
fn partition(disk: &SimFileSystem, threads: usize) -> (StoragePool, PartitionHandle) {
    let id = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
    let log = LogOptions { segment_bytes: 1 << 20, seal_age_ms: 0, reserve_bytes: 0 };
    let (mut opened, _) = Log::open(Arc::new(disk.clone()), Path::new("/log"), id, log).expect("opens");
    assert!(opened.append(&[batch(LITTLE)], 0).error.is_none());
    let retention = RetentionPolicy { retention_ms: 0, retention_bytes: 0 };
    let options = PartitionOptions { log, durability: Durability::Written, retention, compaction: None };
    let pool = StoragePool::start(threads).expect("threads");
    let clock = Arc::new(ManualClock::new(0));
    let partition = PartitionHandle::new(opened, options, &pool, clock, Arc::default());
    (pool, partition)
}

/// With nobody else to do it: the offset it was written at at once, if it was.
fn offset_in_place(append: PendingAppend) -> Option<Offset> {
    let answer = append.now_or_never()?;
    Some(answer.expect("the disk is fine").appended.base_offset)
}

#[test]
fn a_little_that_needs_no_sync_is_written_by_whoever_waits_for_it() {
    let disk = SimFileSystem::new(1);
    let (_pool, partition) = partition(&disk, 0);
    assert_eq!(offset_in_place(partition.append(batch(LITTLE), None, None)), Some(Offset(1)));
    assert_eq!(offset_in_place(partition.append(batch(LITTLE), Some(Durability::Written), None)), Some(Offset(2)));
    assert_eq!(partition.high_watermark(), Offset(3));
}

#[test]
fn what_is_much_or_must_be_synced_is_left_to_a_storage_thread() {
    for (bytes, durability) in [(MUCH, None), (LITTLE, Some(Durability::Synced))] {
        let disk = SimFileSystem::new(1);
        let (_pool, partition) = partition(&disk, 0);
        assert_eq!(offset_in_place(partition.append(batch(bytes), durability, None)), None);
        assert_eq!(offset_in_place(partition.append(batch(LITTLE), None, None)), None, "its turn comes after that");
    }
}

#[test]
fn many_that_came_together_are_one_write() {
    let disk = SimFileSystem::new(1);
    let (_pool, partition) = partition(&disk, 0);
    let mut appends: Vec<_> = (0..10).map(|_| partition.append(batch(LITTLE), None, None)).collect();
    let before = disk.operations();
    appends.iter_mut().for_each(PendingAppend::write);
    assert_eq!(disk.operations(), before + 1);
    let offsets: Vec<_> = appends.into_iter().filter_map(offset_in_place).collect();
    assert_eq!(offsets, (1..11).map(Offset).collect::<Vec<_>>());
}

/// Whoever asked may be gone before it began to wait.
#[tokio::test]
async fn what_nobody_waits_for_is_written_all_the_same() {
    let disk = SimFileSystem::new(1);
    let (_pool, partition) = partition(&disk, 1);
    drop(partition.append(batch(LITTLE), None, None));
    let mut shown = partition.watch_high_watermark();
    let written = tokio::time::timeout(Duration::from_secs(20), shown.wait_for(|end| *end == Offset(2))).await;
    written.expect("it is written").expect("the partition is there");
}

#[test]
fn a_write_in_place_that_fails_closes_the_log_and_stops_the_broker() {
    let disk = SimFileSystem::new(1);
    let (pool, partition) = partition(&disk, 0);
    disk.plan(disk.operations(), Fault::Io);
    let answer = partition.append(batch(LITTLE), None, None).now_or_never().expect("nobody else would answer");
    answer.expect_err("the disk refused it");
    pool.failure().now_or_never().expect("it is told");
    assert_eq!(partition.high_watermark(), Offset(1));
}
