//! What compaction promises, against a model of the log as a list of keyed records.

use super::test_log::{GRACE_MS, Keyed, Model, POLICY, batch, compact, index, open, read};
use super::{CompactionPolicy, When};
use crate::storage::compaction::frames::SealedFrames;
use crate::storage::file_system::FileSystem;
use crate::storage::log::{Log, NewBatch};
use crate::storage::real_file_system::RealFileSystem;
use crate::storage::segment::header::SEGMENT_HEADER_BYTES;
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::{Offset, ProducerId, ProducerStamp};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DIRECTORY: &str = "/log";

fn new_disk() -> Arc<dyn FileSystem> {
    Arc::new(SimFileSystem::new(1))
}

fn append(log: &mut Log, model: &mut Model, records: &[Keyed], now_ms: i64) {
    let outcome = log.append(&[batch(records)], now_ms);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    model.records.extend(records);
}

#[derive(Debug, Clone)]
enum Operation {
    Append(Vec<Vec<Keyed>>),
    Seal,
    Compact { keys_max: usize },
    CompactIfDue,
    DeleteBefore(prop::sample::Index),
    Wait(i64),
    Close,
    Die,
}

fn operation() -> impl Strategy<Value = Operation> {
    let keyed = (0..6_u8, prop_oneof![3 => (0..1_000_u64).prop_map(Some), 1 => Just(None)]);
    let batches = proptest::collection::vec(proptest::collection::vec(keyed, 1..12), 1..4);
    prop_oneof![
        8 => batches.prop_map(Operation::Append),
        2 => Just(Operation::Seal),
        3 => (1..8_usize).prop_map(|keys_max| Operation::Compact { keys_max }),
        1 => Just(Operation::CompactIfDue),
        1 => any::<prop::sample::Index>().prop_map(Operation::DeleteBefore),
        2 => (1..GRACE_MS).prop_map(Operation::Wait),
        1 => Just(Operation::Close),
        1 => Just(Operation::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_compacted_log_holds_the_last_record_of_each_key(operations in proptest::collection::vec(operation(), 1..40)) {
        let fs = new_disk();
        let mut log = open(&fs, Path::new(DIRECTORY));
        let mut model = Model::default();
        let mut now_ms = 1_000;
        for operation in operations {
            match operation {
                Operation::Append(batches) => {
                    for records in &batches {
                        append(&mut log, &mut model, records, now_ms);
                    }
                    log.sync().expect("syncs");
                }
                Operation::Seal => log.seal_now().expect("seals"),
                Operation::Compact { keys_max } => {
                    compact(&log, CompactionPolicy { keys_max, ..POLICY }, now_ms);
                    model.compacted(&log, now_ms);
                }
                Operation::CompactIfDue => {
                    log.keeper().sync_sealed().expect("syncs");
                    let pass = log.keeper().compact(POLICY, When::IfDue, Some(now_ms), &mut |_| true).expect("compacts");
                    if pass.is_some_and(|pass| pass.is_complete) {
                        model.compacted(&log, now_ms);
                    }
                }
                Operation::DeleteBefore(at) => {
                    let span = model.records.len() - index(Offset(model.log_start));
                    model.log_start += at.index(span + 1) as u64;
                    log.keeper().delete_before(Offset(model.log_start)).expect("deletes");
                }
                Operation::Wait(ms) => now_ms += ms,
                Operation::Close => {
                    log.close().expect("closes");
                    log = open(&fs, Path::new(DIRECTORY));
                }
                Operation::Die => {
                    drop(log);
                    log = open(&fs, Path::new(DIRECTORY));
                }
            }
            model.check(&log, now_ms);
        }
    }
}

/// A log of `segments` sealed segments, in which the same few keys come again and again.
fn written(fs: &Arc<dyn FileSystem>, directory: &Path, segments: u64) -> (Log, Model) {
    let mut log = open(fs, directory);
    let mut model = Model::default();
    for value in 0..segments {
        append(
            &mut log,
            &mut model,
            &[(0, Some(value)), (1, Some(value)), (10 + (value % 9) as u8, Some(value))],
            1_000,
        );
        log.sync().expect("syncs");
        log.seal_now().expect("seals");
    }
    (log, model)
}

#[test]
fn segments_are_merged_and_offsets_stay() {
    let fs = new_disk();
    let (mut log, mut model) = written(&fs, Path::new(DIRECTORY), 20);
    let before = log.reader().size();
    let outcome = compact(&log, POLICY, 2_000);
    model.compacted(&log, 2_000);
    assert_eq!(outcome.removed_records, 60 - 11);
    let after = log.reader().size();
    assert!(after.segments == 2 && after.bytes < before.bytes / 2, "{before:?} became {after:?}");
    model.check(&log, 2_000);
    append(&mut log, &mut model, &[(0, Some(99))], 3_000);
    assert_eq!(log.next_offset(), Offset(61), "offsets go on");
    model.check(&log, 3_000);
    assert_eq!(compact(&log, POLICY, 3_000).removed_records, 0, "what is being written is not touched");
}

#[test]
fn a_tombstone_stays_for_the_grace_time_and_goes_with_the_next_pass() {
    let fs = new_disk();
    let mut log = open(&fs, Path::new(DIRECTORY));
    let mut model = Model::default();
    append(&mut log, &mut model, &[(1, Some(1)), (2, Some(2)), (1, None), (2, Some(3))], 1_000);
    log.sync().expect("syncs");
    log.seal_now().expect("seals");
    // Old when the first pass comes: the time counts from that pass, for only then nobody reads the old value any more.
    let first = 1_000 + 10 * GRACE_MS;
    compact(&log, POLICY, first);
    let offsets = |log: &Log| read(log, 1 << 20).into_keys().collect::<Vec<_>>();
    assert_eq!(offsets(&log), [2, 3]);
    compact(&log, POLICY, first + GRACE_MS - 1);
    assert_eq!(offsets(&log), [2, 3], "1 ms before its time");
    log.close().expect("closes");
    let log = open(&fs, Path::new(DIRECTORY));
    log.keeper().compact(POLICY, When::IfDue, Some(first + GRACE_MS), &mut |_| true).expect("compacts");
    // What is being written since the start is not touched; the next segment begins, and then it goes.
    assert_eq!(offsets(&log), [2, 3]);
    let mut log = log;
    log.seal_now().expect("seals");
    log.keeper().sync_sealed().expect("syncs");
    let pass = log.keeper().compact(POLICY, When::IfDue, Some(first + GRACE_MS), &mut |_| true).expect("compacts");
    assert_eq!(pass.map(|pass| pass.removed_records), Some(1), "it is due without anything new");
    assert_eq!(offsets(&log), [3]);
    assert_eq!(log.keeper().compact(POLICY, When::IfDue, Some(i64::MAX), &mut |_| true).expect("compacts"), None);
}

/// Otherwise whoever has read everything would be behind, for ever.
#[test]
fn the_last_record_of_the_log_stays_even_if_it_is_a_tombstone() {
    let fs = new_disk();
    let mut log = open(&fs, Path::new(DIRECTORY));
    append(&mut log, &mut Model::default(), &[(1, Some(1)), (1, None)], 1_000);
    log.sync().expect("syncs");
    log.seal_now().expect("seals");
    for now_ms in [1_000, 1_000 + 2 * GRACE_MS, 1_000 + 4 * GRACE_MS] {
        compact(&log, POLICY, now_ms);
        let batches = log.reader().read(Offset(0), Offset(2), 1000).expect("readable");
        assert_eq!((batches[0].base_offset, batches[0].next_offset()), (Offset(1), Offset(2)));
    }
    assert_eq!(log.keeper().compact(POLICY, When::IfDue, Some(i64::MAX), &mut |_| true).expect("compacts"), None);
}

/// A power cut takes what was not synced; what it was to replace must be there still.
#[test]
fn nothing_is_replaced_by_what_a_power_cut_can_take() {
    use crate::storage::sim_disk::Loss;
    let disk = SimFileSystem::new(1);
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let mut log = open(&fs, Path::new(DIRECTORY));
    let mut model = Model::default();
    append(&mut log, &mut model, &[(1, Some(1)), (2, Some(2))], 1_000);
    log.sync().expect("syncs");
    log.seal_now().expect("seals");
    append(&mut log, &mut model, &[(3, Some(3))], 1_000);
    log.sync().expect("syncs");
    log.seal_now().expect("seals");
    log.keeper().sync_sealed().expect("syncs");
    append(&mut log, &mut model, &[(1, Some(4)), (2, None)], 1_000);
    log.seal_now().expect("seals");
    append(&mut log, &mut model, &[(3, Some(5))], 1_000);
    // No merging: what is written again is synced, and would hide it.
    let policy = CompactionPolicy { segment_bytes: 1, ..POLICY };
    log.keeper().compact(policy, When::Now, Some(2_000), &mut |_| true).expect("compacts");
    for _ in 0..50 {
        let after: Arc<dyn FileSystem> = Arc::new(disk.crash(Loss::Ordered));
        let found = read(&open(&after, Path::new(DIRECTORY)), 1 << 20);
        for (key, synced_at) in [(1, 0), (2, 1), (3, 2)] {
            let last = found.iter().rev().find(|(_, (found, _))| *found == key);
            assert!(last.is_some_and(|(at, _)| *at >= synced_at), "key {key} is gone: {found:?}");
        }
    }
}

/// A reader goes through the list of segments that it began with, and opens a file only when it comes to it.
#[test]
fn a_reader_that_holds_replaced_segments_reads_what_they_held() {
    let directory = tempfile::tempdir().expect("a directory");
    let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
    let (log, _) = written(&fs, directory.path(), 20);
    let held = log.keeper().shared.segments();
    held.iter().for_each(|segment| segment.close_file());
    compact(&log, POLICY, 2_000);
    held.iter().for_each(|segment| segment.close_file());
    let first = u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits");
    let mut records = 0;
    for segment in held.iter() {
        let mut frames = SealedFrames::from(segment, first);
        while let Some((header, _)) = frames.next().expect("the old bytes") {
            assert_eq!(header.base_offset, Offset(records));
            records += u64::from(header.record_count);
        }
    }
    assert_eq!(records, 60);
}

#[test]
fn reading_goes_on_while_segments_are_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
    let mut log = open(&fs, directory.path());
    let mut model = Model::default();
    let (reader, is_over) = (log.reader(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut rounds = 0;
            while !is_over.load(Ordering::Acquire) || rounds == 0 {
                let (mut next, end) = (reader.log_start(), reader.log_end());
                while next < end {
                    next = reader.read(next, end, 500).expect("readable").next_offset;
                }
                reader.offset_of_time(1_500, end).expect("readable");
                rounds += 1;
            }
        });
        for value in 0..60 {
            append(&mut log, &mut model, &[(1, Some(value)), (2, Some(value)), (3, None)], 1_000 + value.cast_signed());
            log.sync().expect("syncs");
            log.seal_now().expect("seals");
            compact(&log, POLICY, 5_000);
        }
        is_over.store(true, Ordering::Release);
        reading.join().expect("the reader met nothing but records");
    });
    model.compacted(&log, 5_000);
    model.check(&log, 5_000);
}

#[test]
fn times_are_found_in_what_is_left() {
    let fs = new_disk();
    let mut log = open(&fs, Path::new(DIRECTORY));
    for (now_ms, key) in [(100, 1), (200, 1), (300, 2), (400, 1), (500, 3)] {
        append(&mut log, &mut Model::default(), &[(key, Some(1))], now_ms);
    }
    log.sync().expect("syncs");
    log.seal_now().expect("seals");
    compact(&log, POLICY, 1_000);
    for (time_ms, offset) in [(0, 2), (100, 2), (300, 2), (301, 3), (400, 3), (500, 4), (501, 5)] {
        let found = log.reader().offset_of_time(time_ms, Offset(5)).expect("readable");
        assert_eq!(found, Offset(offset), "time {time_ms}");
    }
}

#[test]
fn a_pass_that_is_stopped_has_done_no_harm() {
    let fs = new_disk();
    let (log, mut model) = written(&fs, Path::new(DIRECTORY), 10);
    log.keeper().sync_sealed().expect("syncs");
    for frames in 0..60 {
        let mut left = frames;
        let mut pace = |_| {
            left -= 1;
            left >= 0
        };
        let pass = log.keeper().compact(POLICY, When::Now, Some(2_000), &mut pace).expect("compacts");
        model.check(&log, 2_000);
        if pass.is_some_and(|pass| !pass.is_stopped) {
            assert!(frames > 20, "it read all that there is");
            model.compacted(&log, 2_000);
            model.check(&log, 2_000);
            return;
        }
    }
    panic!("it never came to its end");
}

/// A closed log may be open again, or deleted, before a pass that began earlier comes to its end.
#[test]
fn a_closed_log_is_not_compacted() {
    let fs = new_disk();
    let (log, model) = written(&fs, Path::new(DIRECTORY), 10);
    let keeper = log.keeper();
    log.close().expect("closes");
    let pass = keeper.compact(POLICY, When::Now, Some(2_000), &mut |_| true).expect("stops");
    assert!(pass.is_none_or(|pass| pass.is_stopped));
    model.check(&open(&fs, Path::new(DIRECTORY)), 2_000);
}

#[test]
fn damage_is_never_written_again_as_if_it_were_right() {
    let disk = SimFileSystem::new(1);
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let (log, _) = written(&fs, Path::new(DIRECTORY), 4);
    log.keeper().sync_sealed().expect("syncs");
    let files = disk.files();
    let (path, bytes) = files.iter().find(|(path, _)| path.extension().is_some_and(|e| e == "log")).expect("a segment");
    disk.flip_bit(path, (bytes.len() - 1) * 8);
    let before = disk.files();
    let error = log.keeper().compact(POLICY, When::Now, Some(2_000), &mut |_| true).expect_err("damaged");
    assert!(error.to_string().contains("corrupt"), "{error}");
    assert_eq!(disk.files(), before, "nothing was changed");
    let again = log.keeper().compact(POLICY, When::IfDue, Some(2_001), &mut |_| true).expect("waits");
    assert_eq!(again, None, "it does not try at every round");
}

/// The stamp of a producer is of a first record, and a batch has only one of them.
#[test]
fn a_frame_names_its_producer_only_with_the_first_record_of_the_batch() {
    let fs = new_disk();
    let mut log = open(&fs, Path::new(DIRECTORY));
    let stamped = |base_sequence, records: &[Keyed]| NewBatch {
        producer: Some(ProducerStamp { id: ProducerId(3), epoch: 1, base_sequence }),
        ..batch(records)
    };
    let batches = [
        stamped(0, &[(1, Some(1)), (2, Some(1)), (3, Some(1))]),
        stamped(3, &[(2, Some(2)), (1, Some(2))]),
        stamped(5, &[(2, Some(3)), (9, Some(3))]),
    ];
    assert!(log.append(&batches, 1_000).error.is_none());
    log.sync().expect("syncs");
    log.seal_now().expect("seals");
    compact(&log, POLICY, 2_000);
    let segments = log.keeper().shared.segments();
    let mut frames = SealedFrames::from(&segments[0], u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits"));
    let mut found = Vec::new();
    while let Some((header, _)) = frames.next().expect("readable") {
        found.push((header.base_offset.0, header.record_count, header.next_offset().0, header.producer.is_some()));
    }
    assert_eq!(found, [(0, 0, 2, false), (2, 1, 4, false), (4, 1, 5, false), (5, 2, 7, true)]);
}

#[test]
fn tombstones_stay_while_the_clock_cannot_be_believed() {
    let fs = new_disk();
    let mut log = open(&fs, Path::new(DIRECTORY));
    append(&mut log, &mut Model::default(), &[(1, Some(1)), (1, None), (2, Some(2))], 1_000);
    log.sync().expect("syncs");
    log.seal_now().expect("seals");
    log.keeper().sync_sealed().expect("syncs");
    let pass = |when, now_ms| log.keeper().compact(POLICY, when, now_ms, &mut |_| true).expect("compacts");
    let offsets = || read(&log, 1 << 20).into_keys().collect::<Vec<_>>();
    for _ in 0..3 {
        pass(When::Now, None);
        assert_eq!(offsets(), [1, 2]);
    }
    // The grace time begins when there is a time.
    pass(When::IfDue, Some(9_000));
    pass(When::IfDue, Some(9_000 + GRACE_MS - 1));
    assert_eq!(offsets(), [1, 2]);
    pass(When::IfDue, Some(9_000 + GRACE_MS));
    assert_eq!(offsets(), [2]);
}

/// The message id of a record that is gone is not found any more after a restart, and what has it would be appended again,
/// behind what replaced it.
#[test]
fn what_is_younger_than_the_dedup_window_is_not_touched() {
    let fs = new_disk();
    let (log, model) = written(&fs, Path::new(DIRECTORY), 10);
    let policy = CompactionPolicy { age_ms_min: 5_000, ..POLICY };
    log.keeper().sync_sealed().expect("syncs");
    let pass = |now_ms| log.keeper().compact(policy, When::Now, Some(now_ms), &mut |_| true).expect("compacts");
    assert_eq!(pass(5_999), None);
    model.check(&log, 5_999);
    assert!(pass(6_000).is_some_and(|pass| pass.removed_records > 0));
}
