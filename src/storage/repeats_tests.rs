//! What must hold of batches that an idempotent producer sends again, over restarts and power cuts.

use crate::clock::ManualClock;
use crate::partition::{PartitionHandle, PartitionOptions, StoragePool};
use crate::storage::file_system::FileSystem;
use crate::storage::log::{Log, LogOptions, NewBatch};
use crate::storage::retention::RetentionPolicy;
use crate::storage::segment::header::LogId;
use crate::storage::sim_disk::Loss;
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::record_set::{self, encode_record};
use crate::types::{Durability, Offset, ProducerId, ProducerStamp, TopicId};
use bytes::BytesMut;
use std::path::Path;
use std::sync::Arc;

const OPTIONS: LogOptions = LogOptions { segment_bytes: 4096, seal_age_ms: 0, reserve_bytes: 0 };
const SEEDS: u64 = 20;

fn open(disk: &SimFileSystem) -> Log {
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let id = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
    Log::open(fs, Path::new("/log"), id, OPTIONS).expect("the log opens").0
}

fn batch() -> NewBatch {
    let mut set = BytesMut::new();
    encode_record(&mut set, None, Some(b"once"), std::iter::empty(), None);
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    let stamp = ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: 0 };
    NewBatch { producer: Some(stamp), ..NewBatch::new(payload, summary) }
}

#[test]
fn a_repeat_after_a_restart_is_known() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    log.append(&[batch()], 0).results.remove(0).expect("appended");
    drop(log);
    let mut log = open(&disk);
    let repeated = log.append(&[batch()], 0).results.remove(0).expect("known");
    assert_eq!((repeated.duplicate, repeated.base_offset, log.next_offset()), (true, Offset(0), Offset(1)));
}

/// The original was acknowledged as written; who repeats it and asks for more is answered when there is more.
#[tokio::test]
async fn a_repeat_is_acknowledged_as_synced_when_the_original_is() {
    for seed in 0..SEEDS {
        let disk = SimFileSystem::new(seed);
        let pool = StoragePool::start(1).expect("a thread");
        let retention = RetentionPolicy { retention_ms: 0, retention_bytes: 0 };
        let options = PartitionOptions { log: OPTIONS, durability: Durability::Written, retention, compaction: None };
        let clock = Arc::new(ManualClock::new(0));
        let partition = PartitionHandle::new(open(&disk), options, &pool, clock, Arc::default());
        partition.append(batch(), None, None).await.expect("appended");
        let ack = partition.append(batch(), Some(Durability::Synced), None).await.expect("known");
        let left = open(&disk.crash(Loss::Ordered)).next_offset();
        assert_eq!((ack.appended.duplicate, ack.durability, left), (true, Durability::Synced, Offset(1)));
    }
}
