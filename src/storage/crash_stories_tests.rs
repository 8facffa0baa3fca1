//! Bugs of the log that the simulation found, each told as the shortest story that shows it.
//!
//! The disk is a simulated one; where a power cut has a choice of what to lose, many choices are tried.

use crate::clock::ManualClock;
use crate::partition::{AppendError, PartitionHandle, PartitionOptions, StoragePool};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::error::StorageError;
use crate::storage::file_system::{FileSystem, OpenMode};
use crate::storage::frame::{FrameHeader, HEADER_BYTES};
use crate::storage::log::{Log, LogOptions, NewBatch};
use crate::storage::retention::RetentionPolicy;
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::storage::sim_disk::{Fault, Loss};
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::record_set::{self, encode_record};
use crate::types::{Durability, Offset, TopicId};
use bytes::BytesMut;
use std::path::Path;
use std::sync::Arc;

const ID: LogId = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
const OPTIONS: LogOptions = LogOptions { segment_bytes: 4096, seal_age_ms: 0, reserve_bytes: 0 };
const OLD_MS: i64 = 1_000_000;
const SEEDS: u64 = 50;

fn open(disk: &SimFileSystem) -> Log {
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    Log::open(fs, Path::new("/log"), ID, OPTIONS).expect("the log opens").0
}

fn batch() -> NewBatch {
    batch_of(600)
}

fn batch_of(bytes: usize) -> NewBatch {
    let mut set = BytesMut::new();
    encode_record(&mut set, None, Some(&vec![7; bytes]), std::iter::empty(), None);
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    NewBatch::new(payload, summary)
}

fn append(log: &mut Log) {
    append_bytes(log, 600);
}

fn append_bytes(log: &mut Log, bytes: usize) {
    let outcome = log.append(&[batch_of(bytes)], 0);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
}

/// Changes the bytes of the first segment, as no crash does.
fn damage(disk: &SimFileSystem, change: impl FnOnce(&mut Vec<u8>)) {
    let file = disk.open(Path::new("/log/00000000000000000000.log"), OpenMode::Write).expect("opens");
    let mut bytes = vec![0; usize::try_from(file.len().expect("known")).expect("small")];
    file.read_exact_at(0, &mut bytes).expect("reads");
    change(&mut bytes);
    file.write_all_at(0, &mut [std::io::IoSlice::new(&bytes)]).expect("writes");
}

/// The header of the first frame in a segment, and the length of the frame.
fn first_frame(segment: &[u8]) -> (FrameHeader, usize) {
    FrameHeader::decode(&segment[SEGMENT_HEADER_BYTES..]).expect("a frame")
}

fn fail_next(disk: &SimFileSystem, fault: Fault) {
    disk.plan(disk.operations() + 1, fault);
}

/// The offsets that can be read, from the first to the last.
fn readable(log: &Log) -> u64 {
    let (mut next, end) = (log.reader().log_start(), log.next_offset());
    while next < end {
        let batches = log.reader().read(next, end, 1 << 20).expect("readable");
        next = batches.last().expect("progress").next_offset();
    }
    assert_eq!(log.reader().damage(), [], "a crash alone is no damage");
    end.0
}

/// The segment was let go before it was cut; when that failed, the next sync knew nothing of it and said that all is
/// well.
#[test]
fn a_segment_that_cannot_be_sealed_is_still_synced() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    append(&mut log);
    fail_next(&disk, Fault::Io);
    log.seal_if_old(OLD_MS).expect_err("the disk fails");
    append(&mut log);
    log.sync().expect("the disk is well again");
    for _ in 0..SEEDS {
        assert_eq!(readable(&open(&disk.crash(Loss::Ordered))), 2);
    }
}

/// The keeper tried a failed sync again at its next round; it succeeded, since the pages counted as clean, and the
/// checkpoint then vouched for bytes that were not on disk.
#[test]
fn a_failed_sync_of_a_sealed_segment_is_final() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    append(&mut log);
    log.seal_if_old(OLD_MS).expect("seals");
    fail_next(&disk, Fault::Sync);
    log.keeper().sync_sealed().expect_err("the sync fails");
    log.keeper().sync_sealed().expect_err("nobody knows what is on disk");
    log.sync().expect_err("nobody knows what is on disk");
}

/// After a failed sync of the active segment it was still sealed when it was old, and the keeper synced it anew.
#[test]
fn after_a_failed_sync_nothing_is_sealed() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    append(&mut log);
    fail_next(&disk, Fault::Sync);
    log.sync().expect_err("the sync fails");
    log.seal_if_old(OLD_MS).expect_err("the log is closed to changes");
}

/// Readers were told the new log start, the checkpoint could not be stored, and the second attempt found nothing to do.
#[test]
fn a_log_start_that_was_not_stored_is_not_confirmed() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    append(&mut log);
    append(&mut log);
    log.sync().expect("syncs");
    fail_next(&disk, Fault::Full);
    log.keeper().delete_before(Offset(1)).expect_err("the disk is full");
    log.keeper().delete_before(Offset(1)).expect("there is space again");
    assert_eq!(open(&disk.crash(Loss::Ordered)).reader().log_start(), Offset(1));
}

/// A segment whose frames were all synced counted as synced when it was sealed, although the cut of its end was not on
/// disk. The checkpoint moved behind it, the power failed, and the zeros that came back made it unreadable.
#[test]
fn a_sealed_segment_is_readable_after_a_power_cut() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    // Two of them: the one that the checkpoint stands in is looked at again, those before it are not.
    for _ in 0..2 {
        append(&mut log);
        log.sync().expect("syncs");
        log.seal_if_old(OLD_MS).expect("seals");
    }
    append(&mut log);
    log.sync().expect("syncs");
    log.keeper().sync_sealed().expect("syncs");
    for _ in 0..SEEDS {
        assert_eq!(readable(&open(&disk.crash(Loss::Ordered))), 3);
    }
}

/// A segment that was begun and has no frames was not taken for empty, once the header of a frame was longer than that of
/// a segment: a batch that does not fit was to go into the next one, of the same name.
#[test]
fn a_large_batch_goes_into_a_segment_that_was_only_begun() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    append(&mut log);
    log.seal_if_old(OLD_MS).expect("seals");
    append(&mut log);
    log.sync().expect("syncs");
    drop(log);
    let path = Path::new("/log/00000000000000000001.log");
    disk.open(path, OpenMode::Write).and_then(|file| file.set_len(64)).expect("the frames are lost");
    let mut log = open(&disk);
    assert_eq!(readable(&log), 1);
    append_bytes(&mut log, 5000);
    assert_eq!(readable(&log), 2);
}

/// Records that were written but not synced were deleted, and a power cut took them: the log start was above the end of
/// the last segment, and the next append went there with an offset that did not follow.
#[test]
fn a_log_goes_on_where_it_starts_if_what_was_deleted_is_gone() {
    for seed in 0..SEEDS {
        let disk = SimFileSystem::new(seed);
        let mut log = open(&disk);
        (0..3).for_each(|_| append(&mut log));
        log.keeper().delete_before(Offset(3)).expect("deletes");
        let disk = disk.crash(Loss::Ordered);
        let mut log = open(&disk);
        append(&mut log);
        log.sync().expect("syncs");
        assert_eq!(readable(&open(&disk.crash(Loss::Ordered))), 4);
    }
}

/// A sync failed, and its producer heard that the outcome is unknown. The append after it was refused, since the log was
/// closed to changes; having nothing to sync, it counted as synced, and showed readers the record before it.
#[tokio::test]
async fn a_record_whose_sync_failed_is_never_shown() {
    let disk = SimFileSystem::new(1);
    let pool = StoragePool::start(1).expect("a thread");
    let retention = RetentionPolicy { retention_ms: 0, retention_bytes: 0 };
    let options = PartitionOptions { log: OPTIONS, durability: Durability::Synced, retention, compaction: None };
    let partition = PartitionHandle::new(open(&disk), options, &pool, Arc::new(ManualClock::new(0)), Arc::default());
    fail_next(&disk, Fault::Sync);
    assert!(matches!(partition.append(batch(), None, None).await, Err(AppendError::OutcomeUnknown(_))));
    assert!(matches!(partition.append(batch(), None, None).await, Err(AppendError::Refused(_))));
    assert_eq!(partition.high_watermark(), Offset::ZERO);
}

/// Not found by the simulation, which cannot tell: records that were refused must not be there when the process dies, and
/// a part of them must not pass for a torn tail.
#[test]
fn an_append_that_was_refused_leaves_nothing_behind() {
    for seed in 0..SEEDS {
        let disk = SimFileSystem::new(seed);
        let mut log = open(&disk);
        append(&mut log);
        log.sync().expect("syncs");
        fail_next(&disk, Fault::ShortWrite);
        assert!(log.append(&[batch()], 0).error.is_some(), "the disk is full");
        drop(log);
        let fs: Arc<dyn FileSystem> = Arc::new(disk);
        let (log, report) = Log::open(fs, Path::new("/log"), ID, OPTIONS).expect("the log opens");
        assert_eq!((log.next_offset(), report.torn_tail), (Offset(1), None));
    }
}

/// The name of a segment to which nothing was ever written once said how far the log went, but only at the first start:
/// that removed it, and the second went on from where the checkpoint stood (fuzzing).
#[test]
fn a_segment_that_was_never_written_does_not_say_where_the_log_ends() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    append(&mut log);
    log.close().expect("closes");
    let moved = Path::new("/log/00000000000000000061.log");
    disk.rename(Path::new("/log/00000000000000000000.log"), moved).expect("renames");
    disk.open(moved, OpenMode::Write).expect("opens").set_len(0).expect("cuts");
    for start in ["first", "second"] {
        let log = open(&disk);
        assert_eq!(log.next_offset(), Offset(1), "at the {start} start");
        let damage = log.reader().damage();
        let ranges: Vec<_> = damage.iter().map(|range| (range.first_offset.0, range.next_offset.0)).collect();
        assert_eq!(ranges, [(0, 1)], "at the {start} start");
    }
}

/// With a damaged checkpoint the base of the first segment is all that is known of where the log begins; the first start
/// removed that segment, because nothing was written to it, and the second began at offset 0 again (fuzzing).
#[test]
fn what_the_name_of_the_only_segment_said_outlives_it() {
    let disk = SimFileSystem::new(1);
    drop(open(&disk));
    let place = Path::new("/log/00000000000000000061.log");
    disk.open(place, OpenMode::CreateNew).expect("creates");
    disk.open(Path::new("/log/checkpoint.json"), OpenMode::Replace).expect("damages");
    for start in ["first", "second"] {
        let log = open(&disk);
        assert_eq!((log.reader().log_start(), log.next_offset()), (Offset(61), Offset(61)), "at the {start} start");
    }
}

/// The checkpoint named a segment that was not there. The one before its place was trusted to end there, all behind it was
/// set aside as torn, and the next start read that segment and found a later end (fuzzing).
#[test]
fn a_checkpoint_in_a_missing_segment_vouches_for_no_end() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    for _ in 0..2 {
        (0..5).for_each(|_| append(&mut log));
        log.seal_if_old(OLD_MS).expect("seals");
    }
    append(&mut log);
    log.close().expect("closes");
    let forged = Checkpoint { segment: Offset(3), position: 30_149, ..Checkpoint::EMPTY };
    forged.store(&disk, Path::new("/log")).expect("stores");
    for start in ["first", "second"] {
        let log = open(&disk);
        assert_eq!((log.next_offset(), readable(&log)), (Offset(11), 11), "at the {start} start");
    }
}

/// The header of the only segment with records was damaged, and behind it stood one that was never written. The first
/// start took the name of that for the end of the damage and removed it; the second knew no end, and refused (fuzzing).
#[test]
fn a_damaged_header_is_refused_at_each_start_unless_something_written_follows() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    append(&mut log);
    drop(log);
    let damaged = Path::new("/log/00000000000000000000.log");
    let file = disk.open(damaged, OpenMode::Write).expect("opens");
    file.write_all_at(20, &mut [std::io::IoSlice::new(&[0xa5; 8])]).expect("writes");
    disk.open(Path::new("/log/00000000000000000001.log"), OpenMode::CreateNew).expect("creates");
    for start in ["first", "second"] {
        let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
        let refused = Log::open(fs, Path::new("/log"), ID, OPTIONS);
        let is_refused = matches!(refused, Err(StorageError::Corrupt { .. }));
        assert!(is_refused, "at the {start} start");
    }
}

/// The first start stepped over a frame whose checksum is wrong and found the copy of it behind; the second went by
/// headers, as far as the checkpoint of the first vouched, took the frame for good and the copy for none.
#[test]
fn a_second_start_finds_behind_damage_what_the_first_found() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    (0..3).for_each(|_| append(&mut log));
    drop(log);
    damage(&disk, |bytes| {
        let (_, frame_bytes) = first_frame(bytes);
        let [first, second, third] = [0, 1, 2].map(|frame| SEGMENT_HEADER_BYTES + frame * frame_bytes);
        bytes.copy_within(first..second, third);
        bytes[second..third].fill(0xa5);
        bytes[second - 1] ^= 1;
    });
    let forged = Checkpoint { next_offset: Offset(10), ..Checkpoint::EMPTY };
    forged.store(&disk, Path::new("/log")).expect("stored");
    let checkpoint_after_a_start = || {
        assert_eq!(open(&disk).next_offset(), Offset(10));
        Checkpoint::load(&disk, Path::new("/log")).expect("it is there")
    };
    assert_eq!(checkpoint_after_a_start(), checkpoint_after_a_start());
}

/// The checkpoint stood behind a segment that was never written: that was looked at alone, its name taken for the end of
/// the log, and the next start looked at the segment before it.
#[test]
fn a_segment_that_was_never_written_is_not_all_that_is_looked_at() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    append(&mut log);
    log.close().expect("closed");
    disk.open(Path::new("/log/00000000000000000900.log"), OpenMode::CreateNew).expect("creates");
    let forged = Checkpoint { segment: Offset(1_000), position: 64, next_offset: Offset(1), ..Checkpoint::EMPTY };
    forged.store(&disk, Path::new("/log")).expect("stored");
    let after_a_start = || {
        let end = open(&disk).next_offset();
        (end, Checkpoint::load(&disk, Path::new("/log")).expect("it is there"))
    };
    let first = after_a_start();
    assert_eq!((first.0, first.1.segment), (Offset(1), Offset(0)));
    assert_eq!(first, after_a_start());
}

/// Frames with a right checksum that count more records than they have offsets, or offsets that were never given, were
/// given to readers as they are, or hid what was appended behind them.
#[test]
fn a_frame_that_counts_offsets_that_are_not_its_own_is_damage() {
    let forgeries: [fn(&mut FrameHeader); 2] =
        [|header| header.record_count = 1_000, |header| (header.record_count, header.last_offset_delta) = (0, 1_000)];
    for forge in forgeries {
        let disk = SimFileSystem::new(1);
        let mut log = open(&disk);
        append(&mut log);
        damage(&disk, |bytes| {
            let seed = SegmentHeader::decode_seed(&bytes[..SEGMENT_HEADER_BYTES], ID, Offset(0)).expect("a header");
            let (mut header, frame_bytes) = first_frame(bytes);
            forge(&mut header);
            let frame = &mut bytes[SEGMENT_HEADER_BYTES..][..frame_bytes];
            let forged = header.encode(seed, &frame[HEADER_BYTES..]);
            frame[..HEADER_BYTES].copy_from_slice(&forged);
        });
        append(&mut log);
        let read = log.reader().read(Offset(0), log.next_offset(), 1 << 20);
        assert!(matches!(read, Err(StorageError::Damaged { first_offset: Offset(0), .. })), "{read:?}");
    }
}

/// A header whose offset was changed to a lower one was taken for a frame before the one that is read; the next frame did
/// not follow from it, and the reader said that the broker does not know its kind: nobody came further.
#[test]
fn a_header_that_lies_about_its_offset_is_damage_and_reading_goes_on_behind_it() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    (0..3).for_each(|_| append(&mut log));
    log.close().expect("closed");
    damage(&disk, |bytes| {
        let (_, frame_bytes) = first_frame(bytes);
        // The base offset of the second frame; see the table of `storage::frame`.
        bytes[SEGMENT_HEADER_BYTES + frame_bytes + 16..][..8].fill(0);
    });
    let log = open(&disk);
    let read = log.reader().read(Offset(1), log.next_offset(), 1 << 20);
    let is_named = matches!(read, Err(StorageError::Damaged { first_offset: Offset(1), next_offset: Offset(2), .. }));
    assert!(is_named, "{read:?}");
}

/// Behind a header that was damaged stood good frames, then a tear with one more frame behind it. What was left of the
/// segment was indexed anew by headers alone, ended at the damage, and the file was cut there.
#[test]
fn a_tear_takes_nothing_that_stands_between_damage_and_itself() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    (0..2).for_each(|_| append(&mut log));
    log.sync().expect("syncs");
    (0..3).for_each(|_| append(&mut log));
    drop(log);
    damage(&disk, |bytes| {
        let (_, frame_bytes) = first_frame(bytes);
        let frame = |number: usize| SEGMENT_HEADER_BYTES + number * frame_bytes;
        // The last offset delta of the second frame; see the table of `storage::frame`. Then the end of the fourth.
        bytes[frame(1) + 30] = 0xff;
        bytes[frame(4) - 1] ^= 1;
    });
    for start in ["first", "second"] {
        let log = open(&disk);
        assert_eq!(log.next_offset(), Offset(3), "at the {start} start");
        let read = log.reader().read(Offset(2), Offset(3), 1 << 20).expect("it is whole");
        assert_eq!(read.first().map(|batch| batch.base_offset), Some(Offset(2)), "at the {start} start");
    }
}

/// What the checkpoint vouches for is not verified again, and the mark in a header of it was believed: one flipped bit
/// moved the end of the log.
#[test]
fn a_mark_in_a_damaged_header_does_not_say_where_the_log_ends() {
    let disk = SimFileSystem::new(1);
    let mut log = open(&disk);
    (0..2).for_each(|_| append(&mut log));
    log.close().expect("closed");
    disk.remove_file(Path::new("/log/00000000000000000000.index")).expect("it was saved");
    // The durable mark of the first frame; see the table of `storage::frame`.
    damage(&disk, |bytes| bytes[SEGMENT_HEADER_BYTES + 64 + 2] ^= 1);
    assert_eq!(open(&disk).next_offset(), Offset(2));
}

/// Somebody forged frames, their checksums included: one that begins before the frame in front of it ends, one whose
/// offsets are beyond all that its segment can hold. A start that looked at all frames stepped over them; readers that
/// came by headers got the records of the first, or were told that everything up to the second is damaged.
#[test]
fn a_frame_of_offsets_that_cannot_be_its_own_is_damage_and_no_more_than_itself() {
    let forgeries: [fn(&mut FrameHeader); 2] = [
        |header| (header.base_offset, header.last_offset_delta) = (Offset(0), 1),
        |header| header.base_offset = Offset(1 << 40),
    ];
    for forge in forgeries {
        let disk = SimFileSystem::new(1);
        let mut log = open(&disk);
        (0..4).for_each(|_| append(&mut log));
        log.sync().expect("syncs");
        // Its mark tells a start that all before it is no tear.
        append(&mut log);
        damage(&disk, |bytes| {
            let seed = SegmentHeader::decode_seed(&bytes[..SEGMENT_HEADER_BYTES], ID, Offset(0)).expect("a header");
            let (mut header, frame_bytes) = first_frame(bytes);
            forge(&mut header);
            let frame = &mut bytes[SEGMENT_HEADER_BYTES + frame_bytes..][..frame_bytes];
            let forged = header.encode(seed, &frame[HEADER_BYTES..]);
            frame[..HEADER_BYTES].copy_from_slice(&forged);
        });
        let check = |log: &Log| {
            let read = log.reader().read(Offset(1), Offset(5), 1 << 20);
            let named = matches!(read, Err(StorageError::Damaged { first_offset, next_offset, .. })
                if (first_offset, next_offset) == (Offset(1), Offset(2)));
            assert!(named, "{read:?}");
            let before = log.reader().read(Offset(0), Offset(5), 1 << 20).expect("the first frame is whole");
            assert_eq!(before.next_offset, Offset(1));
            let behind = log.reader().read(Offset(2), Offset(5), 1 << 20).expect("they are whole");
            assert_eq!(behind.next_offset, Offset(5));
        };
        check(&log);
        drop(log);
        check(&open(&disk));
        check(&open(&disk));
    }
}
