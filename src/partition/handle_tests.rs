//! Reading near the end: once for all who follow it, and nothing that is not there any more.

use super::*;
use crate::clock::ManualClock;
use crate::storage::log::LogOptions;
use crate::storage::retention::RetentionPolicy;
use crate::storage::segment::header::LogId;
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::{TopicId, record_set};
use std::path::Path;

/// A partition with three batches of one record, on a disk of which one bit can be flipped.
async fn three_records(disk: &SimFileSystem, pool: &StoragePool) -> PartitionHandle {
    let id = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
    let log = LogOptions { segment_bytes: 1 << 20, seal_age_ms: 0, reserve_bytes: 0 };
    let (opened, _) = Log::open(Arc::new(disk.clone()), Path::new("/log"), id, log).expect("opens");
    let retention = RetentionPolicy { retention_ms: 0, retention_bytes: 0 };
    let options = PartitionOptions { log, durability: Durability::Written, retention, compaction: None };
    let partition = PartitionHandle::new(opened, options, pool, Arc::new(ManualClock::new(0)), Arc::default());
    for _ in 0..3 {
        let mut set = bytes::BytesMut::new();
        record_set::encode_record(&mut set, None, Some(b"a record"), std::iter::empty(), None);
        let payload = set.freeze();
        let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
        partition.append(NewBatch::new(payload, summary), None, None).await.expect("appended");
    }
    partition
}

fn flip_a_bit_of_the_first_record(disk: &SimFileSystem) {
    let (path, bytes) = disk.files().into_iter().find(|(_, bytes)| bytes.len() > 100).expect("there is a segment");
    let at = bytes.windows(8).position(|window| window == b"a record").expect("it holds the record");
    disk.flip_bit(&path, at * 8);
}

/// Shown by what must not be done later: bytes that are read anew are verified anew, and these would not pass.
#[tokio::test]
async fn who_follows_the_end_is_given_what_the_first_has_read() {
    let (disk, pool) = (SimFileSystem::new(1), StoragePool::start(1).expect("a thread"));
    let partition = three_records(&disk, &pool).await;
    let _followers = [partition.watch_high_watermark(), partition.watch_high_watermark()];
    let first = partition.read(Offset(0), 10_000).await.expect("it is whole");
    flip_a_bit_of_the_first_record(&disk);
    assert_eq!(partition.read(Offset(0), 10_000).await.expect("read before"), first);
    let bytes: usize = first.iter().map(|batch| batch.payload.len()).sum();
    partition.read(Offset(0), bytes - 1).await.expect_err("it was not read with that limit");
    partition.delete_before(Offset(1)).await.expect("deleted");
    let gone = partition.read(Offset(0), 10_000).await.expect_err("deleted records are not given from memory");
    assert!(matches!(gone, StorageError::OutOfRange { .. }), "{gone}");
}

#[tokio::test]
async fn who_follows_alone_keeps_nothing() {
    let (disk, pool) = (SimFileSystem::new(1), StoragePool::start(1).expect("a thread"));
    let partition = three_records(&disk, &pool).await;
    let _follower = partition.watch_high_watermark();
    partition.read(Offset(0), 10_000).await.expect("it is whole");
    flip_a_bit_of_the_first_record(&disk);
    partition.read(Offset(0), 10_000).await.expect_err("it is read anew");
}
