//! What a scrub promises: every damaged byte of a sealed segment is found, and whole segments give nothing.

#![expect(clippy::disallowed_methods, reason = "damage is done past the seam on purpose")]

use super::*;
use crate::storage::log::{Log, LogOptions, NewBatch};
use crate::storage::real_file_system::RealFileSystem;
use crate::storage::segment::header::LogId;
use crate::types::TopicId;
use crate::types::record_set::{self, encode_record};
use bytes::BytesMut;
use std::fs;
use std::path::PathBuf;

const ID: LogId = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
const OPTIONS: LogOptions = LogOptions { segment_bytes: 1 << 20, seal_age_ms: 0, reserve_bytes: 0 };
const RECORD_BYTES: usize = 300;

/// A log with ten records, one a batch, in a sealed segment, and one more behind it.
fn log(directory: &Path) -> Log {
    let (mut log, _) = Log::open(Arc::new(RealFileSystem), directory, ID, OPTIONS).expect("opens");
    (0..10).for_each(|_| append(&mut log));
    log.seal_if_old(1_000_000).expect("seals");
    append(&mut log);
    log.keeper().sync_sealed().expect("syncs");
    log
}

fn append(log: &mut Log) {
    let mut set = BytesMut::new();
    encode_record(&mut set, None, Some(&[b'M'; RECORD_BYTES]), std::iter::empty(), None);
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    assert!(log.append(&[NewBatch::new(payload, summary)], 0).error.is_none());
}

fn scrub_all(log: &Log) -> Vec<DamagedRange> {
    let scrubber = log.scrubber();
    let scrub = |base| scrubber.scrub(base, &mut |_| true).expect("scrubs");
    scrubber.sealed_segments().into_iter().flat_map(|base| scrub(base).found).collect()
}

fn first_segment(directory: &Path) -> PathBuf {
    directory.join("00000000000000000000.log")
}

#[test]
fn a_whole_log_gives_nothing_and_the_active_segment_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = log(directory.path());
    assert_eq!(log.scrubber().sealed_segments(), [Offset(0)]);
    let mut bytes = 0;
    let scrubbed = log.scrubber().scrub(Offset(0), &mut |more| {
        bytes += more;
        true
    });
    assert_eq!(scrubbed.expect("scrubs"), Scrubbed { found: Vec::new(), is_complete: true });
    assert_eq!(bytes, fs::metadata(first_segment(directory.path())).expect("there").len(), "all of it was read");
}

/// Each byte of a sealed segment in turn: it is found, and the range is that of the one batch it belongs to.
#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = log(directory.path());
    let path = first_segment(directory.path());
    let whole = fs::read(&path).expect("readable");
    let frame_bytes = (whole.len() - SEGMENT_HEADER_BYTES) / 10;
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 0x04;
        fs::write(&path, &bad).expect("writable");
        let found = scrub_all(&log);
        let [range] = &found[..] else { panic!("byte {at}: {found:?}") };
        if let Some(inside) = at.checked_sub(SEGMENT_HEADER_BYTES) {
            let frame = inside / frame_bytes;
            let offsets = Offset(frame as u64)..Offset(frame as u64 + 1);
            assert_eq!(range.first_offset..range.next_offset, offsets, "byte {at}");
            assert_eq!(range.position, (SEGMENT_HEADER_BYTES + frame * frame_bytes) as u64, "byte {at}");
        } else {
            assert_eq!((range.first_offset, range.next_offset, range.position), (Offset(0), Offset(10), 0));
        }
        // Restored, so that the next damage is new again.
        fs::write(&path, &whole).expect("writable");
        assert_eq!(scrub_all(&log), []);
    }
}

#[test]
fn damage_is_told_once_shown_until_it_is_gone_and_forgotten_with_its_segment() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = log(directory.path());
    let path = first_segment(directory.path());
    let mut bad = fs::read(&path).expect("readable");
    let last = bad.len() - 1;
    (bad[1000], bad[last]) = (!bad[1000], !bad[last]);
    fs::write(&path, &bad).expect("writable");
    let found = scrub_all(&log);
    let offsets: Vec<_> = found.iter().map(|range| (range.first_offset.0, range.next_offset.0)).collect();
    assert_eq!(offsets, [(2, 3), (9, 10)]);
    assert_eq!(scrub_all(&log), [], "it is known by now");
    assert_eq!(log.reader().damage(), found);
    log.keeper().delete_before(Offset(10)).expect("deletes");
    assert_eq!(log.reader().damage(), []);
}

#[test]
fn a_file_that_was_cut_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = log(directory.path());
    let path = first_segment(directory.path());
    let whole = fs::read(&path).expect("readable");
    fs::write(&path, &whole[..whole.len() / 2]).expect("writable");
    let found = scrub_all(&log);
    let [range] = &found[..] else { panic!("{found:?}") };
    assert_eq!((range.first_offset, range.next_offset), (Offset(4), Offset(10)), "the first four are whole: {range:?}");
    assert!(range.what.contains("the file ends at byte"), "{range:?}");
}

#[test]
fn a_scrub_that_is_stopped_says_nothing_of_the_segment() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = log(directory.path());
    let stopped = log.scrubber().scrub(Offset(0), &mut |_| false).expect("stops");
    assert_eq!(stopped, Scrubbed::default());
}
