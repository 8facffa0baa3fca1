//! What an acknowledgement promises, held against a power cut right after it.

use super::*;
use crate::clock::ManualClock;
use crate::storage::log::LogOptions;
use crate::storage::segment::header::LogId;
use crate::storage::sim_disk::Loss;
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::{ProducerId, ProducerStamp, TopicId, record_set};
use std::path::Path;
use tokio::sync::oneshot;

const ID: LogId = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };

fn open(disk: &SimFileSystem) -> Log {
    let options = LogOptions { segment_bytes: 4096, seal_age_ms: 50_000, reserve_bytes: 0 };
    Log::open(Arc::new(disk.clone()), Path::new("/log"), ID, options).expect("opens").0
}

/// One batch of one producer, always the same.
fn batch() -> NewBatch {
    let mut set = bytes::BytesMut::new();
    record_set::encode_record(&mut set, None, Some(b"once"), std::iter::empty(), None);
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    let producer = Some(ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: 0 });
    NewBatch { producer, ..NewBatch::new(payload, summary) }
}

/// Handles a drain of appends of that batch; the answer to each.
fn drain(writer: &mut Writer, durabilities: &[Durability]) -> Vec<AppendAck> {
    let (shown, _) = watch::channel(Offset::ZERO);
    let clock: SharedClock = Arc::new(ManualClock::new(1_000));
    let (requests, answers): (Vec<_>, Vec<_>) = durabilities
        .iter()
        .map(|durability| {
            let (reply, answer) = oneshot::channel();
            let durability = Some(*durability);
            (Request::Append(AppendRequest { batch: batch(), durability, reply, written: None, _permit: None }), answer)
        })
        .unzip();
    writer.handle(requests, &clock, &shown).expect("the disk is fine");
    let answered = |mut answer: oneshot::Receiver<Result<AppendAck, AppendError>>| answer.try_recv();
    answers.into_iter().map(|answer| answered(answer).expect("answered").expect("in the log")).collect()
}

/// A repeat finds its original in the log, but that it is there does not mean that it is on the disk.
#[test]
fn a_repeat_that_is_acknowledged_as_synced_survives_a_power_cut() {
    for seed in 0..30 {
        let disk = SimFileSystem::new(seed);
        let mut writer = Writer::new(open(&disk), Durability::Written, Arc::default());
        let first = drain(&mut writer, &[Durability::Written]);
        let again = drain(&mut writer, &[Durability::Written, Durability::Synced]);
        assert!(!first[0].appended.duplicate && again.iter().all(|ack| ack.appended.duplicate));
        assert_eq!(
            again.iter().map(|ack| ack.durability).collect::<Vec<_>>(),
            [Durability::Written, Durability::Synced]
        );
        let log = open(&disk.crash(Loss::Ordered));
        assert_eq!(log.next_offset(), Offset(1), "seed {seed}: it was acknowledged as synced");
    }
}
