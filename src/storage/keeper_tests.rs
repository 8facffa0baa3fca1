//! What upkeep promises: the cost of a start after a crash stays bounded, and deletion never leaves a hole.

use crate::storage::frames::{Frames, Next};
use crate::storage::keeper::LogKeeper;
use crate::storage::log::{Log, LogOptions, NewBatch};
use crate::storage::real_file_system::RealFileSystem;
use crate::storage::recovery::RecoveryReport;
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::storage::segment::index::SparseIndex;
use crate::storage::segment::scan::scan;
use crate::storage::sim_disk::Loss;
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::record_set::{self, encode_record};
use crate::types::{Offset, TopicId};
use bytes::BytesMut;
use std::path::Path;
use std::sync::Arc;

const ID: LogId = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
const ROOMY: LogOptions = LogOptions { segment_bytes: 64 << 20, seal_age_ms: u64::MAX, reserve_bytes: 0 };
const SMALL: LogOptions = LogOptions { segment_bytes: 4096, seal_age_ms: 0, reserve_bytes: 0 };

fn open(directory: &Path) -> (Log, RecoveryReport) {
    Log::open(Arc::new(RealFileSystem), directory, ID, ROOMY).expect("the log opens")
}

fn open_on(disk: &SimFileSystem) -> Log {
    Log::open(Arc::new(disk.clone()), Path::new("/log"), ID, SMALL).expect("the log opens").0
}

/// Appends one record of `bytes` bytes.
fn append(log: &mut Log, bytes: usize) {
    let mut set = BytesMut::new();
    encode_record(&mut set, None, Some(&vec![7; bytes]), std::iter::empty(), None);
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    let outcome = log.append(&[NewBatch::new(payload, summary)], 1000);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
}

/// How many records can be read, from the log start on.
fn readable(log: &Log) -> u64 {
    let (reader, end) = (log.reader(), log.next_offset());
    let mut next = reader.log_start();
    while next < end {
        let batches = reader.read(next, end, 1 << 20).expect("readable");
        next = batches.last().expect("progress").next_offset();
    }
    end.records_since(reader.log_start())
}

fn keep(keeper: &LogKeeper, bytes_min: u64) {
    keeper.sync_sealed().expect("syncs");
    keeper.checkpoint_active(bytes_min).expect("stores");
}

/// A broker that was killed read its whole active segment, up to 1 GiB, before the partition served again.
#[test]
fn a_start_after_a_kill_verifies_a_bounded_part_of_the_active_segment() {
    const STEP_BYTES: u64 = 1 << 20;
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    let mut most = 0;
    for records in [200_u64, 400, 800] {
        while log.next_offset().0 < records {
            append(&mut log, 50_000);
            log.sync().expect("syncs");
            keep(&log.keeper(), STEP_BYTES);
        }
        drop(log);
        let report;
        (log, report) = open(directory.path());
        println!("{} bytes in the log, {} verified", log.reader().size().bytes, report.verified_bytes);
        assert_eq!(log.reader().size().segments, 1, "the test is about the active segment");
        assert!(report.verified_bytes < STEP_BYTES + 100_000, "{report:?}");
        assert_eq!(readable(&log), records);
        most = report.verified_bytes.max(most);
    }
    assert!(most > 0, "a kill leaves something to verify");
}

/// What the checkpoint vouches for is found by the index that was saved with it, and that index is exact.
#[test]
fn the_index_saved_with_a_checkpoint_is_the_one_the_frames_give() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    for i in 0..100 {
        append(&mut log, 3_000 + i);
    }
    log.sync().expect("syncs");
    let synced = log.reader().size().bytes;
    // Written and not synced: the checkpoint must not reach so far, and neither must the index.
    append(&mut log, 10_000);
    keep(&log.keeper(), 1);
    drop(log);
    let read = |name: &str| std::fs::read(directory.path().join(name)).expect("readable");
    let (segment, index) = (read("00000000000000000000.log"), read("00000000000000000000.index"));
    let seed = SegmentHeader::decode_seed(&segment, ID, Offset(0)).expect("a whole header");
    let saved = SparseIndex::decode(&index, seed, Offset(0)).expect("a whole index");
    let mut expected = SparseIndex::new(Offset(0));
    assert_eq!(scan(&segment[..saved.end_position as usize], seed, true, &mut expected).breaks, []);
    assert_eq!(saved, expected);
    assert_eq!(u64::from(saved.end_position), synced);
    let (_, report) = open(directory.path());
    assert!((10_000..11_000).contains(&report.verified_bytes), "{report:?}, {synced} bytes were synced");
}

/// Records that were only written are lost by the power cut; the checkpoint has not vouched for them, so the log opens.
#[test]
fn the_checkpoint_never_vouches_for_what_is_not_synced() {
    for seed in 0..50 {
        let disk = SimFileSystem::new(seed);
        let mut log = open_on(&disk);
        append(&mut log, 600);
        log.sync().expect("syncs");
        append(&mut log, 600);
        keep(&log.keeper(), 1);
        let log = open_on(&disk.crash(Loss::Ordered));
        assert!(readable(&log) >= 1);
    }
}

/// The new log start is durable before a name goes, and a name before its bytes: cut off at each operation, the log opens
/// with the old start or the new one, and all records from there on.
#[test]
fn deletion_cut_off_at_any_operation_leaves_no_hole() {
    let mut cuts = 0_u32;
    for seed in 0..40 {
        for operation in 1.. {
            let disk = SimFileSystem::new(seed);
            let mut log = open_on(&disk);
            for _ in 0..30 {
                append(&mut log, 600);
            }
            log.sync().expect("syncs");
            keep(&log.keeper(), 1);
            assert!(log.reader().size().segments >= 5, "the test is about several segments");
            disk.stop_at(Some(disk.operations() + operation));
            let deleted = log.keeper().delete_before(Offset(20));
            let is_over = !disk.is_stopped();
            let confirmed = deleted.is_ok();
            drop(log);
            for loss in [Loss::Ordered, Loss::AnyOrder] {
                let disk = disk.crash(loss);
                let log = open_on(&disk);
                let start = log.reader().log_start();
                assert!(start == Offset(20) || (start == Offset(0) && !confirmed), "it starts at {start}");
                assert_eq!(readable(&log), 30 - start.0);
                let names = disk.files().into_keys().map(|path| path.display().to_string());
                let left: Vec<_> = names.filter(|name| name.contains(".deleted") || name.contains(".tmp")).collect();
                assert!(left.is_empty(), "a start cleans up: {left:?}");
                cuts += 1;
            }
            if is_over {
                break;
            }
        }
    }
    println!("{cuts} power cuts during a deletion");
}

/// A reader that found its segment before a deletion reads on in it: the name goes, the bytes stay.
#[test]
fn a_reader_that_holds_a_segment_keeps_it() {
    let disk = SimFileSystem::new(1);
    let mut log = open_on(&disk);
    for _ in 0..30 {
        append(&mut log, 600);
    }
    log.sync().expect("syncs");
    keep(&log.keeper(), 1);
    let held = Arc::clone(&log.keeper().shared.segments()[0]);
    let next_offset = log.keeper().shared.segments()[1].base_offset();
    let walk = || Frames::new(&held, u32::try_from(SEGMENT_HEADER_BYTES).expect("small"));
    assert!(walk().peek().is_ok_and(|first| first.is_some()), "the reader has the file open");
    log.keeper().delete_before(Offset(20)).expect("deletes");
    assert!(!disk.files().contains_key(held.path()), "its name is gone");

    let mut frames = walk();
    for offset in 0..next_offset.0 {
        let read = frames.next_batch(Offset(offset), offset == 0).expect("readable");
        assert!(matches!(read, Next::Batch(batch, _) if batch.base_offset == Offset(offset)), "offset {offset}");
    }
    assert!(matches!(frames.next_batch(next_offset, false), Ok(Next::End)));
}
