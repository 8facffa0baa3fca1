//! What a log promises: what was written is read back, after any end of the process and at any offset.

#![expect(clippy::disallowed_methods, reason = "damage is done past the seam on purpose")]

use super::*;
use crate::storage::admission::Admitted;
use crate::storage::frame::{FORMAT_RECORD_SET, FrameHeader};
use crate::storage::reader::LogSize;
use crate::storage::real_file_system::RealFileSystem;
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::record_set;
use crate::types::{ProducerId, ProducerStamp, TopicId, record_set::encode_record};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use std::fs;

const OPTIONS: LogOptions = LogOptions { segment_bytes: 1 << 20, seal_age_ms: u64::MAX, reserve_bytes: 0 };
const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));
const ID: LogId = LogId { topic: TOPIC, partition: 0 };

fn open(directory: &Path) -> (Log, RecoveryReport) {
    Log::open(Arc::new(RealFileSystem), directory, ID, OPTIONS).expect("the log opens")
}

/// A batch of `count` records whose values are `first`, `first + 1`, ... padded to `len` bytes.
fn batch(first: u64, count: u64, len: usize) -> NewBatch {
    let mut set = BytesMut::new();
    for i in first..first + count {
        encode_record(&mut set, None, Some(format!("{i:0len$}").as_bytes()), std::iter::empty(), None);
    }
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    NewBatch::new(payload, summary)
}

fn append(log: &mut Log, batch: NewBatch) {
    let outcome = log.append(&[batch], 1000);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
}

/// Every value from `from` to the end, with its offset.
fn read_all(log: &Log, from: u64, bytes_max: usize) -> Vec<(u64, u64)> {
    let (reader, end) = (log.reader(), log.next_offset());
    let mut found = Vec::new();
    let mut next = Offset(from);
    while next < end {
        let batches = reader.read(next, end, bytes_max).expect("readable");
        assert!(!batches.is_empty(), "no progress at {next}");
        for stored in batches {
            assert_eq!(stored.base_offset, next, "offsets are dense");
            for (i, record) in (0..).zip(record_set::records(&stored.payload)) {
                let value = record.value.expect("every record has one");
                let value = std::str::from_utf8(&value).expect("digits").parse().expect("digits");
                found.push((stored.base_offset.0 + i, value));
            }
            next = stored.next_offset();
        }
    }
    found
}

fn numbered(range: std::ops::Range<u64>) -> Vec<(u64, u64)> {
    range.map(|i| (i, i)).collect()
}

#[test]
fn records_are_read_back_from_any_offset_across_segments() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    for i in 0..60 {
        append(&mut log, batch(i * 50, 50, 1000));
    }
    assert!(log.reader().size().segments >= 3, "the test is about several segments");
    for from in [0, 1, 49, 50, 1234, 2999] {
        assert_eq!(read_all(&log, from, 100_000), numbered(from..3000));
        assert_eq!(read_all(&log, from, 1), numbered(from..3000));
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_verify() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    append(&mut log, batch(0, 100, 100));
    log.close().expect("closes");
    let (mut log, report) = open(directory.path());
    assert_eq!(report, RecoveryReport::default());
    append(&mut log, batch(100, 100, 100));
    assert_eq!(read_all(&log, 0, 4096), numbered(0..200));
    assert_eq!(log.reader().size().segments, 1, "the segment goes on being appended to");
}

#[test]
fn what_was_written_survives_a_process_that_dies() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    for i in 0..40 {
        append(&mut log, batch(i * 50, 50, 1000));
    }
    drop(log);
    let (log, report) = open(directory.path());
    assert!(report.verified_bytes > 2_000_000 && report.torn_tail.is_none(), "{report:?}");
    assert_eq!(read_all(&log, 0, 1 << 20), numbered(0..2000));
    drop(log);
    let (log, report) = open(directory.path());
    assert_eq!(report.verified_bytes, 0, "what was verified once is not verified again");
    assert_eq!(read_all(&log, 0, 1 << 20), numbered(0..2000));
}

/// Cuts the file at every byte of the last batch: the batches before it stay, it goes, and its bytes are kept aside.
#[test]
fn a_torn_tail_is_saved_and_cut_wherever_it_was_torn() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    append(&mut log, batch(0, 3, 20));
    let path = log.shared.segments()[0].path().to_owned();
    let whole = u64::from(log.shared.segments()[0].end_position());
    append(&mut log, batch(3, 3, 20));
    let end = u64::from(log.shared.segments()[0].end_position());
    drop(log);
    let bytes = fs::read(&path).expect("readable");
    for cut in whole..end {
        fs::write(&path, &bytes[..usize::try_from(cut).expect("small")]).expect("writable");
        let _ = fs::remove_file(directory.path().join("checkpoint.json"));
        let (mut log, report) = open(directory.path());
        assert_eq!(report.torn_tail.is_some(), cut > whole, "cut at {cut}");
        assert_eq!(read_all(&log, 0, 4096), numbered(0..3), "cut at {cut}");
        append(&mut log, batch(3, 1, 20));
        assert_eq!(read_all(&log, 0, 4096), numbered(0..4), "cut at {cut}");
    }
}

/// No flipped bit may ever lead to other data, or to fewer records without an error. It costs the batch it is in, and
/// the batches around that are served.
#[test]
fn a_flipped_bit_is_named_and_the_rest_is_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    for i in 0..3 {
        append(&mut log, batch(i * 2, 2, 8));
        log.sync().expect("syncs");
    }
    let path = log.shared.segments()[0].path().to_owned();
    let last_frame = {
        let end = usize::try_from(log.shared.segments()[0].end_position()).expect("small");
        end - (end - 64) / 3
    };
    drop(log);
    let bytes = fs::read(&path).expect("readable");
    for bit in 0..last_frame * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).expect("writable");
        let _ = fs::remove_file(directory.path().join("checkpoint.json"));
        match Log::open(Arc::new(RealFileSystem), directory.path(), ID, OPTIONS) {
            Err(StorageError::Corrupt { .. }) if bit < 64 * 8 => {}
            Err(error) => panic!("bit {bit}: {error}"),
            Ok((log, report)) => {
                let lost = if bit < (64 + (last_frame - 64) / 2) * 8 { 0..2 } else { 2..4 };
                assert_eq!(report.torn_tail, None, "bit {bit}");
                assert_eq!(log.reader().damage().len(), 1, "bit {bit}");
                let error = log.reader().read(Offset(lost.start), Offset(6), 1000).expect_err("damaged");
                assert!(matches!(error, StorageError::Damaged { next_offset, .. } if next_offset.0 == lost.end));
                assert_eq!(read_all(&log, 4, 1000), numbered(4..6), "bit {bit}");
                let before = log.reader().read(Offset(0), Offset(6), 1000);
                assert_eq!(before.is_ok(), lost.start > 0, "bit {bit}");
            }
        }
        assert_eq!(fs::read(&path).expect("readable")[..bytes.len()], bad, "bit {bit}: the file was changed");
    }
}

#[test]
fn a_bit_flipped_under_a_running_broker_is_never_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    append(&mut log, batch(0, 100, 100));
    let path = log.shared.segments()[0].path().to_owned();
    let file = fs::OpenOptions::new().write(true).open(path).expect("writable");
    std::os::unix::fs::FileExt::write_all_at(&file, b"X", 5000).expect("writable");
    let error = log.reader().read(Offset(0), Offset(100), 1 << 20).expect_err("damaged");
    assert!(error.to_string().contains("offsets 0 to 100 (exclusive) are damaged"), "{error}");
}

/// A broker that was killed, or met a full disk, between creating the first segment of a log and writing its header once
/// found the partition offline at the next start.
#[test]
fn a_first_segment_that_was_never_begun_is_begun_again() {
    for bytes in [vec![], vec![0; 300_000]] {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("00000000000000000000.log"), &bytes).expect("writable");
        let (mut log, report) = open(directory.path());
        assert_eq!((log.next_offset(), report.verified_bytes), (Offset(0), 0));
        append(&mut log, batch(0, 10, 100));
        assert_eq!(read_all(&log, 0, 1 << 20), numbered(0..10));
    }
}

/// Zeros at the beginning of a file that was synced are damage, not a segment that was never begun. Its offsets are not
/// given again.
#[test]
fn a_segment_that_has_lost_its_header_is_never_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    append(&mut log, batch(0, 10, 100));
    let path = log.shared.segments()[0].path().to_owned();
    log.close().expect("closes");
    let file = fs::OpenOptions::new().write(true).open(&path).expect("writable");
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 64], 0).expect("writable");
    let (mut log, report) = open(directory.path());
    assert_eq!((log.next_offset(), report.damage.len()), (Offset(10), 1));
    append(&mut log, batch(10, 10, 100));
    assert_eq!(read_all(&log, 10, 1000), numbered(10..20));
    assert!(path.exists());
}

/// A log that a newer broker wrote to is not cut, and what is in it is not taken for something else.
#[test]
fn a_payload_of_an_unknown_kind_is_kept_and_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    append(&mut log, batch(0, 2, 10));
    let segment = Arc::clone(&log.shared.segments()[0]);
    let NewBatch { payload, summary, producer, .. } = batch(2, 2, 10);
    let next = Admitted { payload, summary, producer, duplicates: Vec::new() };
    let unknown =
        FrameHeader { attributes: FORMAT_RECORD_SET | 1 << 3, ..frame_header(&next, Offset(2), 1000, Offset(0)) };
    let seed = segment.open().expect("opens").seed;
    let frame = [unknown.encode(seed, b"compressed").as_slice(), b"compressed"].concat();
    let file = fs::OpenOptions::new().write(true).open(segment.path()).expect("writable");
    std::os::unix::fs::FileExt::write_all_at(&file, &frame, segment.end_position().into()).expect("writable");
    drop(log);
    let (log, report) = open(directory.path());
    assert_eq!((log.next_offset(), report.torn_tail), (Offset(4), None));
    assert_eq!(log.reader().read(Offset(0), Offset(2), 1000).expect("the frames before it are known").len(), 1);
    let error = log.reader().read(Offset(2), Offset(4), 1000).expect_err("nobody can read it");
    assert!(error.to_string().contains("0x0009"), "{error}");
}

#[test]
fn a_lost_or_damaged_index_is_rebuilt() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    for i in 0..60 {
        append(&mut log, batch(i * 50, 50, 1000));
    }
    log.close().expect("closes");
    for entry in fs::read_dir(directory.path()).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "index") {
            fs::write(&path, b"rubbish").expect("writable");
        }
    }
    let (log, _) = open(directory.path());
    assert_eq!(read_all(&log, 1777, 1000), numbered(1777..3000));
}

#[test]
fn deleting_before_an_offset_hides_it_at_once_and_stays_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    for i in 0..60 {
        append(&mut log, batch(i * 50, 50, 1000));
    }
    let before = log.reader().size();
    let held = log.reader().read(Offset(0), Offset(3000), 60_000).expect("readable");
    assert_eq!(log.keeper().delete_before(Offset(1500)).expect("deletes"), Offset(1500));
    assert!(log.reader().size().bytes < before.bytes);
    assert!(matches!(
        log.reader().read(Offset(1499), Offset(3000), 1000),
        Err(StorageError::OutOfRange { earliest: Offset(1500), latest: Offset(3000), .. })
    ));
    assert_eq!(record_set::records(&held[0].payload).count(), 50, "a reader keeps what it holds");
    drop(log);
    let (log, _) = open(directory.path());
    assert_eq!(log.reader().log_start(), Offset(1500));
    assert_eq!(read_all(&log, 1500, 4096), numbered(1500..3000));
}

#[test]
fn offsets_go_on_after_everything_was_deleted() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    append(&mut log, batch(0, 10, 10));
    log.set_options(LogOptions { seal_age_ms: 10, ..OPTIONS });
    log.seal_if_old(5000).expect("seals");
    log.keeper().delete_before(Offset(10)).expect("deletes");
    assert_eq!(log.reader().size().segments, 0);
    drop(log);
    let (mut log, _) = open(directory.path());
    append(&mut log, batch(10, 1, 10));
    assert_eq!(read_all(&log, 10, 4096), [(10, 10)]);
}

#[test]
fn a_missing_segment_file_is_named_and_the_rest_is_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    for i in 0..60 {
        append(&mut log, batch(i * 50, 50, 1000));
    }
    let first = log.shared.segments()[0].path().to_owned();
    log.close().expect("closes");
    fs::remove_file(first).expect("removable");
    let (log, _) = open(directory.path());
    let error = log.reader().read(Offset(5), Offset(3000), 1000).expect_err("a file is missing");
    let StorageError::Damaged { first_offset, next_offset, .. } = error else { panic!("{error}") };
    assert!(first_offset <= Offset(5) && next_offset > Offset(500), "{error}");
    assert_eq!(read_all(&log, next_offset.0, 100_000), numbered(next_offset.0..3000));
}

#[test]
fn times_are_found_even_when_they_are_out_of_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    let mut set = BytesMut::new();
    for time in [100, 300, 200, 400] {
        encode_record(&mut set, None, Some(b"v"), std::iter::empty(), Some(time));
    }
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("valid");
    append(&mut log, NewBatch::new(payload, summary));
    let reader = log.reader();
    let cases = [(0, 0), (100, 0), (101, 1), (250, 1), (301, 3), (400, 3), (401, 4)];
    for (time, offset) in cases {
        assert_eq!(reader.offset_of_time(time, Offset(4)).expect("readable"), Offset(offset), "time {time}");
    }
}

#[test]
fn what_is_unread_is_measured_across_segments() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    for i in 0..60 {
        let outcome = log.append(&[batch(i * 50, 50, 1000)], 1000 + i64::try_from(i).expect("small"));
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
    }
    let (reader, end) = (log.reader(), log.next_offset());
    let whole = reader.unread(Offset::ZERO, end).expect("readable").expect("there are records");
    assert_eq!((whole.first_append_time_ms, whole.last_append_time_ms), (1000, 1059));
    let LogSize { bytes, segments } = reader.size();
    assert!(segments >= 3, "the test is about several segments");
    assert_eq!(whole.bytes, bytes - 64 * u64::from(segments), "everything but the headers of segments");
    let one_batch = whole.bytes / 60;
    for (from, below, batches, times) in [
        (0, 50, 1, (1000, 1000)),
        (49, 51, 2, (1000, 1001)),
        (1234, 3000, 36, (1024, 1059)),
        (2999, 3000, 1, (1059, 1059)),
    ] {
        let unread = reader.unread(Offset(from), Offset(below)).expect("readable").expect("there are records");
        assert_eq!((unread.first_append_time_ms, unread.last_append_time_ms), times, "{from} to {below}");
        assert!(unread.bytes.abs_diff(batches * one_batch) < one_batch / 2, "{from} to {below}: {unread:?}");
    }
    assert_eq!(reader.unread(end, end).expect("readable"), None);
    let lost = reader.unread(Offset(2999), end.advance(100)).expect("readable");
    assert_eq!(lost, None, "of offsets without records nothing is known");
}

/// A frame with a right checksum, whose payload is not the records that its header counts: a read that had room for a part
/// of it gave nothing and ended where it had begun, so that whoever read on never came further (fuzzing).
#[test]
fn records_that_cannot_be_told_apart_are_damage_and_reading_goes_on_behind_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    let good = batch(0, 3, 100);
    let lying = NewBatch { payload: Bytes::from_static(&[0xff; 900]), ..good.clone() };
    let outcome = log.append(&[good.clone(), lying, good], 1_000);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let (reader, end) = (log.reader(), log.next_offset());
    let read = reader.read(Offset(3), end, 100);
    let Err(StorageError::Damaged { first_offset, next_offset, .. }) = read else { panic!("{read:?}") };
    assert_eq!((first_offset, next_offset), (Offset(3), Offset(6)));
    let behind = reader.read(next_offset, end, 100).expect("readable");
    assert_eq!(behind.first().map(|batch| batch.base_offset), Some(Offset(6)));
}

#[test]
fn append_times_never_go_back_with_the_clock() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(directory.path());
    assert_eq!(log.append(&[batch(0, 1, 1)], 5000).append_time_ms(), 5000);
    assert_eq!(log.append(&[batch(1, 1, 1)], 3000).append_time_ms(), 5000);
    log.close().expect("closes");
    let (mut log, _) = open(directory.path());
    assert_eq!(log.append(&[batch(2, 1, 1)], 4000).append_time_ms(), 5000);
}

#[derive(Debug, Clone)]
enum Operation {
    Append { count: u64, len: usize, batches: usize },
    DeleteBefore(prop::sample::Index),
    SealOld,
    SyncSealed,
    Close,
    Crash,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (1..40_u64, prop_oneof![1..50_usize, 5_000..30_000_usize], 1..5_usize)
            .prop_map(|(count, len, batches)| Operation::Append { count, len, batches }),
        1 => any::<prop::sample::Index>().prop_map(Operation::DeleteBefore),
        1 => Just(Operation::SealOld),
        1 => Just(Operation::SyncSealed),
        1 => Just(Operation::Close),
        1 => Just(Operation::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The model is two numbers: the log holds `start..end`, each record its own offset.
    #[test]
    fn the_log_behaves_as_a_list_of_records(operations in proptest::collection::vec(operation(), 1..40)) {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut log, _) = open(directory.path());
        log.set_options(LogOptions { seal_age_ms: 0, ..OPTIONS });
        let (mut start, mut end) = (0_u64, 0_u64);
        for operation in operations {
            match operation {
                Operation::Append { count, len, batches } => {
                    let new: Vec<_> = (0..batches as u64).map(|i| batch(end + i * count, count, len)).collect();
                    let outcome = log.append(&new, 1000);
                    prop_assert!(outcome.error.is_none());
                    prop_assert_eq!(outcome.results.len(), batches);
                    end += count * batches as u64;
                    log.sync().expect("syncs");
                }
                Operation::DeleteBefore(at) => {
                    let offset = start + at.index(usize::try_from(end - start).expect("small") + 1) as u64;
                    log.keeper().delete_before(Offset(offset)).expect("deletes");
                    start = offset;
                }
                Operation::SealOld => log.seal_if_old(2000).expect("seals"),
                Operation::SyncSealed => log.keeper().sync_sealed().expect("syncs"),
                Operation::Close => {
                    log.close().expect("closes");
                    let (reopened, report) = open(directory.path());
                    prop_assert_eq!(report.verified_bytes, 0);
                    log = reopened;
                }
                Operation::Crash => {
                    drop(log);
                    log = open(directory.path()).0;
                }
            }
            prop_assert_eq!(log.next_offset(), Offset(end));
            prop_assert_eq!(log.reader().log_start(), Offset(start));
        }
        let expected: Vec<_> = (start..end).map(|i| (i, i)).collect();
        prop_assert_eq!(read_all(&log, start, 50_000), expected);
    }
}

/// Whoever is told so does it on a thread that others wait for too.
#[test]
fn an_append_that_is_called_one_write_is_one_operation_on_the_disk() {
    const BATCHES: usize = 3000;
    let disk = SimFileSystem::new(1);
    let options = LogOptions { segment_bytes: 256 << 10, ..OPTIONS };
    let (mut log, _) = Log::open(Arc::new(disk.clone()), Path::new("/log"), ID, options).expect("the log opens");
    let mut in_one = 0;
    for i in 0..BATCHES {
        let batches = [batch(0, 1, i * 37 % 900 + 1), batch(0, 2, i * 101 % 300 + 1)];
        let is_one_write = log.is_one_write(batches.iter());
        let (before, segments, is_prepared) = (disk.operations(), log.shared.segments().len(), log.next_file.is_some());
        assert!(log.append(&batches, 1000).error.is_none());
        let begins_a_segment = segments > 0 && log.shared.segments().len() > segments;
        assert!(!begins_a_segment || is_prepared, "batch {i}: what prepares the next segment was not left out");
        if is_one_write {
            assert_eq!(disk.operations(), before + 1, "batch {i}");
            in_one += 1;
        } else {
            log.prepare_ahead();
        }
        if i % 1000 == 999 {
            log.sync().expect("the disk is fine");
            assert!(!log.is_one_write(batches.iter()), "its file may be closed");
        }
    }
    assert!(log.shared.segments().len() > 5, "it comes to the end of a segment several times");
    assert!(in_one > BATCHES * 9 / 10, "{in_one} of {BATCHES}");
}

#[test]
fn what_must_be_looked_up_on_the_disk_is_not_called_one_write() {
    let disk = SimFileSystem::new(1);
    let (mut log, _) = Log::open(Arc::new(disk), Path::new("/log"), ID, OPTIONS).expect("the log opens");
    let plain = batch(0, 1, 10);
    assert!(!log.is_one_write([&plain].into_iter()), "there is no segment");
    append(&mut log, plain.clone());
    log.prepare_ahead();
    assert!(log.is_one_write([&plain].into_iter()));

    let stamp = |base_sequence| Some(ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence });
    let stamped = |base_sequence| NewBatch { producer: stamp(base_sequence), ..plain.clone() };
    assert!(!log.is_one_write([&stamped(0)].into_iter()), "the producers of this log are not known yet");
    append(&mut log, stamped(0));
    assert!(log.is_one_write([&stamped(1)].into_iter()));

    let mut identified = plain.clone();
    identified.summary.some_identified = true;
    assert!(log.is_one_write([&identified].into_iter()), "nobody looks at ids");
    identified.terms.dedup_window_ms = 1000;
    assert!(!log.is_one_write([&identified].into_iter()), "the ids of this log are not known yet");

    let fenced = NewBatch { terms: AppendTerms { fencing_token: Some(1), ..AppendTerms::default() }, ..plain };
    assert!(!log.is_one_write([&fenced].into_iter()), "a token is stored first");
}
