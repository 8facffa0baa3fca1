//! What an acknowledgement promises, held against a power cut right after it.

use super::*;
use crate::clock::ManualClock;
use crate::storage::log::LogOptions;
use crate::storage::segment::header::LogId;
use crate::storage::sim_disk::{Fault, Loss};
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

type Answer = oneshot::Receiver<Result<AppendAck, AppendError>>;

fn clock() -> SharedClock {
    Arc::new(ManualClock::new(1_000))
}

fn append(batch: NewBatch, durability: Durability) -> (Request, Answer) {
    let (reply, answer) = oneshot::channel();
    let durability = Some(durability);
    (Request::Append(AppendRequest { batch, durability, reply, written: None, _permit: None }), answer)
}

/// Handles a drain of appends of that batch; the answer to each.
fn drain(writer: &mut Writer, durabilities: &[Durability]) -> Vec<AppendAck> {
    let (shown, _) = watch::channel(Offset::ZERO);
    let (requests, answers): (Vec<_>, Vec<_>) =
        durabilities.iter().map(|durability| append(batch(), *durability)).unzip();
    let (sync, handled) = writer.handle(requests, &clock(), &shown);
    handled.expect("the disk is fine");
    if let Some(sync) = sync {
        let synced = sync.run();
        writer.end_sync(sync, synced, &shown).expect("the disk is fine");
    }
    let answered = |mut answer: Answer| answer.try_recv();
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

/// A writer that was told of a first append, and its sync that has begun.
struct Begun {
    disk: SimFileSystem,
    writer: Writer,
    shown: watch::Sender<Offset>,
    sync: SyncUnderWay,
    answer: Answer,
}

/// One batch that is not a repeat.
fn one() -> NewBatch {
    NewBatch { producer: None, ..batch() }
}

fn begun() -> Begun {
    let disk = SimFileSystem::new(1);
    let (shown, _) = watch::channel(Offset::ZERO);
    let mut writer = Writer::new(open(&disk), Durability::Synced, Arc::default());
    let (request, answer) = append(one(), Durability::Synced);
    let sync = writer.handle(vec![request], &clock(), &shown).0.expect("it is to be synced");
    Begun { disk, writer, shown, sync, answer }
}

/// It is in the log, and may even be on the disk, but nobody knows.
#[test]
fn what_is_written_beside_a_sync_is_shown_and_answered_by_the_next_one() {
    let Begun { mut writer, shown, sync, answer: mut first, .. } = begun();
    let (beside, mut beside_answer) = append(one(), Durability::Synced);
    let (hasty, mut hasty_answer) = append(one(), Durability::Written);
    let synced = sync.run();
    let (second, handled) = writer.handle(vec![beside, hasty], &clock(), &shown);
    handled.expect("the disk is fine");
    assert!(second.is_none(), "one at a time");
    hasty_answer.try_recv().expect("it waits for no sync").expect("written");
    first.try_recv().expect_err("the sync has not ended");

    writer.end_sync(sync, synced, &shown).expect("the disk is fine");
    first.try_recv().expect("answered").expect("synced");
    beside_answer.try_recv().expect_err("it was written after the sync had begun");
    assert_eq!(*shown.borrow(), Offset(1));

    assert!(writer.sync_state().is_wanted);
    let sync = writer.handle(Vec::new(), &clock(), &shown).0.expect("it is to be synced");
    let synced = sync.run();
    writer.end_sync(sync, synced, &shown).expect("the disk is fine");
    beside_answer.try_recv().expect("answered").expect("synced");
    assert_eq!((*shown.borrow(), writer.sync_state().is_wanted), (Offset(3), false));
}

/// The one that waits was written, and is not known to be lost.
#[test]
fn when_a_sync_fails_what_was_written_beside_it_is_unknown_too() {
    let Begun { disk, mut writer, shown, sync, answer: mut first } = begun();
    let (beside, mut beside_answer) = append(one(), Durability::Synced);
    disk.plan(disk.operations() + 1, Fault::Sync);
    let synced = sync.run();
    writer.handle(vec![beside], &clock(), &shown).1.expect("it can still be written");
    writer.end_sync(sync, synced, &shown).expect_err("the sync failed");
    let (sync, result) = writer.handle(Vec::new(), &clock(), &shown);
    assert!(sync.is_none() && result.is_err(), "nothing is synced any more");
    for answer in [&mut first, &mut beside_answer] {
        let error = answer.try_recv().expect("answered").expect_err("the sync failed");
        assert!(matches!(error, AppendError::OutcomeUnknown(_)), "{error}");
    }
    assert_eq!(*shown.borrow(), Offset::ZERO);
}
