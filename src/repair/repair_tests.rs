//! Damage done by hand, and what is there after it was mended.

#![expect(clippy::disallowed_methods, reason = "damage is done past the seam on purpose")]

use super::*;
use crate::inspect::DataDirectory;
use crate::storage::log::{Log, LogOptions, NewBatch};
use crate::storage::segment::header::LogId;
use crate::types::TopicId;
use crate::types::record_set::{self, encode_record};
use bytes::BytesMut;
use std::fs;

const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));
const ID: LogId = LogId { topic: TOPIC, partition: 0 };
const OPTIONS: LogOptions = LogOptions { segment_bytes: 4096, seal_age_ms: u64::MAX, reserve_bytes: 0 };
const RECORDS: u64 = 20;

/// A data directory with one log of several segments, closed cleanly. One record is one frame.
struct Damaged {
    directory: tempfile::TempDir,
    copy: tempfile::TempDir,
    place: LogPlace,
    segments: Vec<PathBuf>,
}

impl Damaged {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let copy = tempfile::tempdir().expect("a directory");
        let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
        let data_dir = DataDir::open(&*fs, directory.path()).expect("opens");
        let log_path = data_dir.log_path(ID);
        drop(data_dir);
        fs.create_dir_all(&log_path).expect("created");
        let (mut log, _) = Log::open(fs, &log_path, ID, OPTIONS).expect("opens");
        for number in 0..RECORDS {
            let mut set = BytesMut::new();
            encode_record(&mut set, None, Some(&value(number)), std::iter::empty(), None);
            let payload = set.freeze();
            let summary = record_set::check(&payload, usize::MAX).expect("valid");
            let outcome = log.append(&[NewBatch::new(payload, summary)], 1000);
            assert!(outcome.error.is_none());
            log.sync().expect("syncs");
        }
        log.close().expect("closes");
        let mut segments: Vec<_> =
            fs::read_dir(&log_path).expect("readable").map(|entry| entry.expect("one").path()).collect();
        for file in &segments {
            fs::copy(file, copy.path().join(file.file_name().expect("a name"))).expect("copied");
        }
        segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        segments.sort();
        assert!(segments.len() >= 3, "the tests are about several segments");
        let directories = DataDirectory::open(directory.path()).expect("opens");
        let within = log_path.strip_prefix(directory.path()).expect("inside").to_owned();
        let place = directories.find(&crate::inspect::Selection::Path(within)).expect("found").remove(0);
        Self { directory, copy, place, segments }
    }

    fn repair(&self, with_copy: bool, accept_loss: bool) -> Vec<Outcome> {
        let copy = with_copy.then(|| self.copy.path().to_owned());
        let options = RepairOptions { copy, accept_loss, dry_run: false };
        let mends = repair(self.directory.path(), &self.place, &options).expect("runs");
        mends.iter().map(|mend| mend.outcome).collect()
    }

    /// The numbers of the records that can be read, and how many ranges are damaged.
    fn read(&self) -> (Vec<u64>, usize) {
        let (log, _) = Log::open(Arc::new(RealFileSystem), &self.place.directory, ID, OPTIONS).expect("opens");
        assert_eq!(log.next_offset(), Offset(RECORDS));
        let (mut found, mut damaged, mut next) = (Vec::new(), 0, Offset(0));
        while next < Offset(RECORDS) {
            match log.reader().read(next, Offset(RECORDS), 1) {
                Ok(batches) => {
                    for batch in batches {
                        for (record, number) in record_set::records(&batch.payload).zip(batch.base_offset.0..) {
                            assert_eq!(record.value.expect("it has one"), value(number), "at its offset");
                            found.push(number);
                        }
                        next = batch.next_offset();
                    }
                }
                Err(crate::storage::StorageError::Damaged { next_offset, .. }) => {
                    damaged += 1;
                    next = next_offset;
                }
                Err(error) => panic!("{error}"),
            }
        }
        (found, damaged)
    }

    fn flip(&self, segment: usize, byte: usize) {
        let mut bytes = fs::read(&self.segments[segment]).expect("readable");
        bytes[byte] ^= 0x10;
        fs::write(&self.segments[segment], bytes).expect("writable");
        let _ = fs::remove_file(self.segments[segment].with_extension("index"));
    }
}

fn value(number: u64) -> Vec<u8> {
    format!("{number:0500}").into_bytes()
}

fn all() -> Vec<u64> {
    (0..RECORDS).collect()
}

#[test]
fn a_damaged_batch_comes_back_from_a_copy() {
    let damaged = Damaged::new();
    damaged.flip(1, 64 + 200);
    assert_eq!(damaged.read().1, 1);
    assert_eq!(damaged.repair(false, false), [Outcome::Left]);
    assert_eq!(damaged.repair(true, false), [Outcome::Restored]);
    assert_eq!(damaged.read(), (all(), 0));
    assert_eq!(damaged.repair(true, false), [], "nothing is damaged any more");
    assert!(damaged.segments[1].with_extension("damaged").exists(), "what was there is kept");
}

#[test]
fn a_missing_segment_comes_back_from_a_copy() {
    for segment in [0, 1] {
        let damaged = Damaged::new();
        fs::remove_file(&damaged.segments[segment]).expect("removed");
        assert_eq!(damaged.read().1, 1);
        assert_eq!(damaged.repair(true, false), [Outcome::Restored]);
        assert_eq!(damaged.read(), (all(), 0), "segment {segment}");
    }
}

#[test]
fn a_cut_segment_comes_back_from_a_copy() {
    let damaged = Damaged::new();
    let last = damaged.segments.last().expect("there are some");
    for path in [&damaged.segments[1], last] {
        let bytes = fs::read(path).expect("readable");
        fs::write(path, &bytes[..bytes.len() - 700]).expect("writable");
    }
    assert_eq!(damaged.repair(true, false), [Outcome::Restored, Outcome::Restored]);
    assert_eq!(damaged.read(), (all(), 0));
}

/// Nothing of a segment can be verified without its header. The seed stands in it twice over: in the file and in the
/// index beside it.
#[test]
fn a_damaged_header_is_written_anew() {
    for byte in [0, 20, 44, 61] {
        let damaged = Damaged::new();
        damaged.flip(1, byte);
        assert_eq!(damaged.repair(false, false), [Outcome::HeaderRestored], "byte {byte}");
        assert_eq!(damaged.read(), (all(), 0), "byte {byte}");
    }
}

/// The header of the last segment takes the whole partition offline: where the log ends is not known.
#[test]
fn a_damaged_header_of_the_last_segment_is_written_anew() {
    let damaged = Damaged::new();
    damaged.flip(damaged.segments.len() - 1, 20);
    let opened = Log::open(Arc::new(RealFileSystem), &damaged.place.directory, ID, OPTIONS);
    assert!(opened.is_err(), "{opened:?}");
    assert_eq!(damaged.repair(false, false), [Outcome::HeaderRestored]);
    assert_eq!(damaged.read(), (all(), 0));
}

#[test]
fn what_no_copy_has_is_given_up_only_when_asked() {
    let damaged = Damaged::new();
    damaged.flip(1, 64 + 200);
    fs::remove_file(&damaged.segments[2]).expect("removed");
    let (before, ranges) = damaged.read();
    assert_eq!(ranges, 2);
    assert_eq!(damaged.repair(false, false), [Outcome::Left, Outcome::Left]);
    assert_eq!(damaged.read().1, 2);
    assert_eq!(damaged.repair(false, true), [Outcome::GivenUp, Outcome::GivenUp]);
    assert_eq!(damaged.read(), (before, 0), "readers step over what was given up");
}

#[test]
fn a_dry_run_changes_nothing() {
    let damaged = Damaged::new();
    damaged.flip(1, 64 + 200);
    let before = fs::read(&damaged.segments[1]).expect("readable");
    let options = RepairOptions { accept_loss: true, dry_run: true, ..RepairOptions::default() };
    let mends = repair(damaged.directory.path(), &damaged.place, &options).expect("runs");
    assert_eq!(mends[0].outcome, Outcome::GivenUp);
    assert_eq!(fs::read(&damaged.segments[1]).expect("readable"), before);
}
