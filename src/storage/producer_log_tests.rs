//! A log and its producers over every way to end: what it knows of them is what is in it, no more and no less.

use super::*;
use crate::storage::file_system::FileSystem as _;
use crate::storage::producers::{ProducerTable, RememberedBatch};
use crate::storage::sim_disk::{Fault, Loss};
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::record_set::{self, encode_identified_record};
use crate::types::{ProducerId, ProducerStamp, TopicId};
use bytes::BytesMut;
use proptest::prelude::*;

const ID: LogId = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
const OPTIONS: LogOptions = LogOptions { segment_bytes: 700, seal_age_ms: 50_000, reserve_bytes: 0 };

fn open(disk: &SimFileSystem) -> Log {
    Log::open(Arc::new(disk.clone()), Path::new("/log"), ID, OPTIONS).expect("opens").0
}

fn batch(producer: ProducerStamp, count: u32, id: Option<&str>) -> NewBatch {
    let mut set = BytesMut::new();
    for number in 0..count {
        let value = format!("{}/{}/{}", producer.id, producer.epoch, producer.base_sequence + number);
        encode_identified_record(&mut set, None, Some(value.as_bytes()), std::iter::empty(), None, id);
    }
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    let terms = AppendTerms { dedup_window_ms: 1_000, ..AppendTerms::default() };
    NewBatch { payload, summary, producer: Some(producer), terms }
}

/// Every batch that was appended, in order, and with that what a log must know.
#[derive(Debug, Default)]
struct Model(Vec<(ProducerStamp, u32, Offset)>);

impl Model {
    fn table(&self) -> ProducerTable {
        let mut table = ProducerTable::default();
        for (stamp, record_count, base_offset) in &self.0 {
            let (base_sequence, base_offset) = (stamp.base_sequence, *base_offset);
            let batch = RememberedBatch { base_sequence, record_count: *record_count, base_offset, append_time_ms: 0 };
            table.apply(stamp.id, stamp.epoch, batch);
        }
        table.keep();
        table
    }

    /// What the next batch of a producer begins with, in its present epoch.
    fn next(&self, id: u64) -> ProducerStamp {
        let last = self.0.iter().rfind(|(stamp, ..)| stamp.id.0 == id);
        last.map_or(ProducerStamp { id: ProducerId(id), epoch: 0, base_sequence: 0 }, |(stamp, count, _)| {
            ProducerStamp { base_sequence: stamp.base_sequence + count, ..*stamp }
        })
    }

    fn check(&mut self, log: &mut Log) {
        // A power cut may have taken the last of them.
        self.0.retain(|(.., base_offset)| *base_offset < log.next_offset());
        let known = log.admission.producers(&log.shared).expect("readable").in_log();
        assert_eq!(known, self.table().in_log());
    }
}

/// One thing that happens to a log.
#[derive(Debug, Clone)]
enum Step {
    /// A drain: of each producer the next batch, one that was sent before, one behind a gap, or one of the next epoch.
    Append(Vec<(u64, u8, u32)>),
    FullDisk,
    Sync,
    Upkeep,
    Close,
    Kill,
    PowerCut,
    LoseSnapshot,
    DamageSnapshot(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let drain = proptest::collection::vec((1_u64..4, 0_u8..8, 1_u32..4), 1..8);
    prop_oneof![
        8 => drain.prop_map(Step::Append),
        1 => Just(Step::FullDisk),
        2 => Just(Step::Sync),
        2 => Just(Step::Upkeep),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
        1 => Just(Step::LoseSnapshot),
        1 => any::<usize>().prop_map(Step::DamageSnapshot),
    ]
}

fn append(log: &mut Log, model: &mut Model, sent: &[(u64, u8, u32)]) {
    let (mut batches, mut ahead) = (Vec::new(), Model(model.0.clone()));
    for (id, kind, count) in sent {
        let next = ahead.next(*id);
        let (stamp, count) = match kind {
            0 => (ProducerStamp { base_sequence: next.base_sequence + 1, ..next }, *count),
            1 => (ProducerStamp { epoch: next.epoch + 1, base_sequence: 0, ..next }, *count),
            2 => ahead.0.iter().rfind(|(stamp, ..)| stamp.id.0 == *id).map_or((next, *count), |last| (last.0, last.1)),
            _ => (next, *count),
        };
        let place = ahead.table().check(stamp, count, 0);
        if place == Ok(crate::storage::producers::Place::Next) {
            let base = ahead.0.last().map_or(log.next_offset(), |(_, count, base)| base.advance(u64::from(*count)));
            ahead.0.push((stamp, count, base.max(log.next_offset())));
        }
        batches.push((batch(stamp, count, None), place));
    }
    let (sent, places): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
    let outcome = log.append(&sent, 0);
    for ((result, place), batch) in outcome.results.iter().zip(places).zip(&sent) {
        use crate::storage::producers::{Place, SequenceError};
        match (result, place) {
            (Ok(appended), Ok(Place::Next)) if !appended.duplicate => {
                let stamp = batch.producer.expect("it has one");
                model.0.push((stamp, appended.record_count, appended.base_offset));
            }
            (Ok(appended), Ok(Place::Repeat(first))) if appended.duplicate => {
                assert_eq!(appended.base_offset, first.base_offset);
            }
            (
                Err(BatchRefusal::OutOfSequence { expected, .. }),
                Err(SequenceError::OutOfSequence { expected: wanted }),
            ) => {
                assert_eq!(*expected, wanted);
            }
            (Err(BatchRefusal::ProducerFenced { .. }), Err(SequenceError::Fenced { .. }))
            | (Err(BatchRefusal::ProducerUnknown { .. }), Err(SequenceError::Unknown)) => {}
            (result, place) => panic!("{result:?}, but it is {place:?}"),
        }
    }
}

fn snapshot_of(disk: &SimFileSystem) -> Option<Vec<u8>> {
    disk.files().remove(Path::new("/log/producers.snapshot"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn what_a_log_knows_of_its_producers_is_what_is_in_it(
        seed in any::<u64>(),
        steps in proptest::collection::vec(any_step(), 1..40),
    ) {
        let mut disk = SimFileSystem::new(seed);
        let mut log = open(&disk);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Append(sent) => append(&mut log, &mut model, &sent),
                Step::FullDisk => {
                    disk.plan(disk.operations() + 1, Fault::Full);
                    append(&mut log, &mut model, &[(1, 7, 1), (1, 7, 1), (2, 2, 1)]);
                    disk.plan(u64::MAX, Fault::Full);
                }
                Step::Sync => log.sync().expect("the disk is fine"),
                Step::Upkeep => log.keeper().sync_sealed().expect("the disk is fine"),
                Step::Close => {
                    log.close().expect("the disk is fine");
                    log = open(&disk);
                }
                Step::Kill => {
                    drop(log);
                    log = open(&disk);
                }
                Step::PowerCut => {
                    drop(log);
                    disk = disk.crash(Loss::Ordered);
                    log = open(&disk);
                }
                Step::LoseSnapshot => {
                    let _ = disk.remove_file(Path::new("/log/producers.snapshot"));
                }
                Step::DamageSnapshot(at) => {
                    if let Some(bytes) = snapshot_of(&disk).filter(|bytes| !bytes.is_empty()) {
                        disk.flip_bit(Path::new("/log/producers.snapshot"), at % (bytes.len() * 8));
                    }
                }
            }
            model.check(&mut log);
        }
    }
}

/// The cache must not know what the log does not hold: a repeat of a batch that was never written would be lost.
#[test]
fn a_snapshot_taken_while_a_batch_waits_to_be_written_does_not_have_it() {
    let stamp = |base_sequence| ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence };
    let mut failed = 0;
    for operation in 1..8 {
        let disk = SimFileSystem::new(1);
        let mut log = open(&disk);
        assert!(log.append(&[batch(stamp(0), 60, None)], 0).error.is_none());
        log.sync().expect("the disk is fine");
        // The second batch needs a new segment: the one before is sealed, and what is known is saved, before its file
        // cannot be made.
        disk.plan(disk.operations() + operation, Fault::Full);
        if log.append(&[batch(stamp(60), 60, None)], 0).error.is_none() {
            continue;
        }
        failed += usize::from(log.shared.segments()[0].is_sealed());
        log.keeper().sync_sealed().expect("the disk is fine again");
        drop(log);
        let again = open(&disk).append(&[batch(stamp(60), 60, None)], 0);
        assert!(again.results[0].as_ref().is_ok_and(|appended| !appended.duplicate), "{operation}: {again:?}");
    }
    assert!(failed > 0, "the test is about an append that fails behind a sealed segment");
}

#[test]
fn damage_in_the_log_hides_only_what_it_covers() {
    let disk = SimFileSystem::new(3);
    let mut log = open(&disk);
    for sequence in 0..8 {
        let stamp =
            ProducerStamp { id: ProducerId(u64::from(sequence % 2) + 1), epoch: 0, base_sequence: sequence / 2 };
        log.append(&[batch(stamp, 1, Some(&format!("m{sequence}")))], 0);
    }
    let known = log.admission.producers(&log.shared).expect("readable").in_log();
    assert_eq!(known.len(), 2);
    let segment = Arc::clone(&log.shared.segments()[0]);
    // The magic of the second frame.
    let second = 64 + log.reader().read(Offset(0), Offset(1), 1).expect("readable")[0].payload.len() + HEADER_BYTES;
    disk.flip_bit(segment.path(), second * 8);
    let rebuilt = producers_file::rebuild(&log.shared).expect("what is damaged is passed over").in_log();
    assert_eq!(rebuilt[&ProducerId(1)].recent(), known[&ProducerId(1)].recent());
    assert_eq!(rebuilt[&ProducerId(2)].recent(), &known[&ProducerId(2)].recent()[1..]);
}

/// Offsets of a repeat within the window, found again after the process died.
#[test]
fn message_ids_are_read_from_the_log_after_a_kill() {
    let disk = SimFileSystem::new(5);
    let mut log = open(&disk);
    let stamp = |base_sequence| ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence };
    for (sequence, time_ms) in (0..20).zip((0_i64..).step_by(100)) {
        log.append(&[batch(stamp(sequence), 1, Some(&format!("m{sequence}")))], time_ms);
    }
    assert!(log.shared.segments().len() > 2, "it is about more than one segment");
    drop(log);
    let mut log = open(&disk);
    let sent: Vec<_> = (0..20).map(|n| batch(stamp(20 + n), 1, Some(&format!("m{n}")))).collect();
    let outcome = log.append(&sent, 1_950);
    let repeats: Vec<_> =
        outcome.results.iter().map(|result| result.as_ref().expect("accepted").duplicates.len()).collect();
    // 1,000 ms before is 950: what was appended at 1,000 or later is known, what was before is not.
    assert_eq!(repeats, [vec![0; 10], vec![1; 10]].concat());
}
