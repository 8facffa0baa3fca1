//! What an inspection promises: a whole directory is found whole, and each kind of damage is named where it is.

#![expect(clippy::disallowed_methods, reason = "damage is done past the seam on purpose")]

use super::dump::{DumpedFrame, dump};
use super::segments::{IndexState, summarize};
use super::verify::{Event, Totals, verify};
use super::*;
use crate::storage::data_dir::DataDir;
use crate::storage::log::NewBatch;
use crate::storage::real_file_system::RealFileSystem;
use crate::storage::segment::header::LogId;
use crate::storage::{Log, LogOptions};
use crate::topic::{Catalog, TopicEntry, TopicOptions};
use crate::types::record_set::{self, encode_record};
use crate::types::{Offset, TopicId, TopicName};
use bytes::BytesMut;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const OPTIONS: LogOptions = LogOptions { segment_bytes: 1 << 20, seal_age_ms: u64::MAX, reserve_bytes: 0 };
const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));
/// One record is one frame; with these there are three segments.
const RECORDS: u64 = 40;
const VALUE_BYTES: usize = 64 << 10;

/// A data directory with one topic of one partition, stopped cleanly or not.
struct Sample {
    directory: tempfile::TempDir,
    /// Where the log is.
    log: PathBuf,
}

impl Sample {
    fn new(is_stopped_cleanly: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let data_dir = DataDir::open(&RealFileSystem, directory.path()).expect("opens");
        let id = LogId { topic: TOPIC, partition: 0 };
        let log_path = data_dir.log_path(id);
        fs::create_dir_all(&log_path).expect("created");
        let mut catalog = Catalog::default();
        let entry = TopicEntry { id: TOPIC, partitions: 1, created_at_ms: 1, options: TopicOptions::default() };
        catalog.topics.insert(TopicName::new("orders").expect("valid"), entry);
        catalog.store(&RealFileSystem, &data_dir.catalog_path()).expect("stored");
        let (mut log, _) = Log::open(Arc::new(RealFileSystem), &log_path, id, OPTIONS).expect("opens");
        for number in 0..RECORDS {
            append(&mut log, number);
        }
        log.sync().expect("synced");
        if is_stopped_cleanly {
            log.close().expect("closes");
        }
        Self { directory, log: log_path }
    }

    fn open(&self) -> DataDirectory {
        DataDirectory::open(self.directory.path()).expect("opens")
    }

    fn verify(&self) -> (Vec<Problem>, Totals) {
        let mut problems = Vec::new();
        let totals = verify(&self.open(), &Selection::All, &mut |event| {
            if let Event::Problem(problem) = event {
                problems.push(problem);
            }
        });
        (problems, totals.expect("it can be looked at"))
    }

    /// Base offsets of its segments.
    fn bases(&self) -> Vec<Offset> {
        let files = log_files::LogFiles::list(&RealFileSystem, &self.log).expect("listed");
        assert!(files.segments.len() >= 3, "the tests are about several segments");
        files.segments
    }

    fn segment(&self, base: Offset) -> PathBuf {
        log_files::segment_path(&self.log, base)
    }

    /// The only problem there is.
    #[track_caller]
    fn only_problem(&self) -> Problem {
        let (mut problems, _) = self.verify();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.remove(0)
    }
}

fn append(log: &mut Log, number: u64) {
    let mut set = BytesMut::new();
    let value = vec![number.to_le_bytes()[0]; VALUE_BYTES];
    encode_record(&mut set, Some(b"k\n"), Some(&value), std::iter::empty(), None);
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("valid");
    let outcome = log.append(&[NewBatch::new(payload, summary)], 1000 + number.cast_signed());
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
}

fn flip(path: &Path, position: usize) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[position] ^= 4;
    fs::write(path, bytes).expect("writable");
}

fn cut(path: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("there");
    file.set_len(bytes).expect("cut");
}

/// Where the frame number `n` of a segment begins; all have the same length.
fn frame_position(path: &Path, n: usize) -> usize {
    let bytes = fs::read(path).expect("readable");
    let frame_bytes = u32::from_le_bytes(bytes[72..76].try_into().expect("four bytes"));
    64 + n * frame_bytes as usize
}

#[track_caller]
fn assert_found(
    problem: &Problem,
    kind: ProblemKind,
    path: &Path,
    position: Option<usize>,
    offsets: Option<(u64, u64)>,
) {
    assert_eq!((problem.kind, problem.path.as_path()), (kind, path), "{problem:?}");
    assert_eq!(problem.position, position.map(|position| position as u64), "{problem:?}");
    assert_eq!(problem.offsets, offsets.map(|(first, next)| Offset(first)..Offset(next)), "{problem:?}");
}

#[test]
fn what_a_broker_leaves_behind_is_whole() {
    for is_stopped_cleanly in [true, false] {
        let sample = Sample::new(is_stopped_cleanly);
        let (problems, totals) = sample.verify();
        assert_eq!(problems, []);
        assert_eq!((totals.partitions, totals.frames, totals.records), (1, RECORDS, RECORDS));
        assert_eq!(totals.segments, sample.bases().len() as u64);
    }
}

#[test]
fn a_flipped_bit_is_named_and_what_is_behind_it_is_looked_at() {
    let sample = Sample::new(true);
    let path = sample.segment(Offset::ZERO);
    let position = frame_position(&path, 3);
    for byte in [0, 4, 9, 16, 24, 64, 5000] {
        flip(&path, position + byte);
        let (problems, totals) = sample.verify();
        assert_eq!(problems.len(), 1, "byte {byte}: {problems:#?}");
        assert_found(&problems[0], ProblemKind::Frame, &path, Some(position), Some((3, 4)));
        assert_eq!(totals.frames, RECORDS - 1);
        flip(&path, position + byte);
    }
    flip(&path, 20);
    let next = sample.bases()[1].0;
    assert_found(&sample.only_problem(), ProblemKind::SegmentHeader, &path, Some(0), Some((0, next)));
}

#[test]
fn damage_at_the_end_of_a_log_is_a_torn_tail_only_behind_the_checkpoint() {
    for (is_stopped_cleanly, kind) in [(true, ProblemKind::Frame), (false, ProblemKind::TornTail)] {
        let sample = Sample::new(is_stopped_cleanly);
        let base = *sample.bases().last().expect("there are some");
        let path = sample.segment(base);
        let position = frame_position(&path, usize::try_from(RECORDS - base.0 - 1).expect("small"));
        flip(&path, position + 100);
        let offsets = is_stopped_cleanly.then_some((RECORDS - 1, RECORDS));
        assert_found(&sample.only_problem(), kind, &path, Some(position), offsets);
    }
}

#[test]
fn what_was_cut_off_is_named() {
    let sample = Sample::new(true);
    let bases = sample.bases();
    let sealed = sample.segment(bases[0]);
    let position = frame_position(&sealed, 3);
    cut(&sealed, position as u64 + 10);
    let problem = sample.verify().0.remove(0);
    assert_found(&problem, ProblemKind::Truncated, &sealed, Some(position), Some((3, bases[1].0)));
    cut(&sealed, position as u64);
    let problem = sample.verify().0.remove(0);
    assert_found(&problem, ProblemKind::Truncated, &sealed, Some(position), Some((3, bases[1].0)));

    let sample = Sample::new(true);
    let base = *sample.bases().last().expect("there are some");
    let active = sample.segment(base);
    let position = frame_position(&active, 1);
    cut(&active, position as u64);
    let problem = sample.verify().0.remove(0);
    assert_found(&problem, ProblemKind::Truncated, &active, Some(position), Some((base.0 + 1, RECORDS)));
}

#[test]
fn a_missing_segment_is_named_wherever_it_was() {
    for gone in 0..3 {
        let sample = Sample::new(true);
        let bases = sample.bases();
        let path = sample.segment(bases[gone]);
        fs::remove_file(&path).expect("it was there");
        fs::remove_file(path.with_extension("index")).ok();
        let next = bases.get(gone + 1).map_or(RECORDS, |next| next.0);
        assert_found(&sample.only_problem(), ProblemKind::MissingSegment, &path, None, Some((bases[gone].0, next)));
    }
}

#[test]
fn an_index_that_does_not_fit_is_named_and_one_that_is_not_there_is_fine() {
    let sample = Sample::new(true);
    let bases = sample.bases();
    let index = sample.segment(bases[0]).with_extension("index");
    let whole = fs::read(&index).expect("a sealed segment has one");
    flip(&index, 70);
    assert_found(&sample.only_problem(), ProblemKind::Index, &index, None, None);
    fs::copy(sample.segment(bases[1]).with_extension("index"), &index).expect("copied");
    assert_found(&sample.only_problem(), ProblemKind::Index, &index, None, None);
    // Whole and of this segment, but it says something else than the frames: the offset of its second entry.
    let mut stale = whole[..whole.len() - 4].to_vec();
    stale[80] ^= 1;
    let checksum = crc32fast::hash(&stale);
    stale.extend_from_slice(&checksum.to_le_bytes());
    fs::write(&index, stale).expect("writable");
    assert_found(&sample.only_problem(), ProblemKind::Index, &index, None, None);
    fs::remove_file(&index).expect("there");
    assert_eq!(sample.verify().0, []);
}

#[test]
fn damaged_small_files_are_named_and_the_logs_are_still_read() {
    for (name, kind) in [("catalog.json", ProblemKind::Catalog), ("format.json", ProblemKind::Format)] {
        let sample = Sample::new(true);
        flip(&sample.directory.path().join(name), 5);
        let (problems, totals) = sample.verify();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!((problems[0].kind, totals.frames), (kind, RECORDS));
        let by_path = Selection::Path(format!("topics/{}/0", TOPIC.0).into());
        assert_eq!(sample.open().find(&by_path).expect("found")[0].directory, sample.log);
    }
    let sample = Sample::new(true);
    flip(&sample.log.join("checkpoint.json"), 5);
    assert_eq!(sample.only_problem().kind, ProblemKind::Checkpoint);
}

#[test]
fn files_that_nobody_knows_are_named() {
    let sample = Sample::new(true);
    let strangers = ["note.txt", "topics/x", &format!("topics/{}/1", TOPIC.0), &format!("topics/{}/0/y", TOPIC.0)]
        .map(|name| sample.directory.path().join(name));
    for path in &strangers {
        fs::write(path, "").expect("writable");
    }
    let (problems, _) = sample.verify();
    let found: Vec<_> = problems.iter().map(|problem| (problem.kind, problem.path.clone())).collect();
    assert_eq!(found, strangers.map(|path| (ProblemKind::UnknownFile, path)));
}

#[test]
fn segments_are_summed_up_and_frames_are_shown_from_any_offset() {
    let sample = Sample::new(true);
    let directory = sample.open();
    let place = directory.find(&Selection::All).expect("found").remove(0);
    let log = summarize(&directory, place.clone()).expect("readable");
    let bases = sample.bases();
    assert_eq!(log.segments.iter().map(|segment| segment.base_offset).collect::<Vec<_>>(), bases);
    assert_eq!((log.segments[0].next_offset, log.segments[0].is_sealed), (bases[1], true));
    assert_eq!(log.segments[0].index, IndexState::Whole);
    assert_eq!(log.segments[0].append_times_ms, Some((1000, 1000 + bases[1].0.cast_signed() - 1)));
    let last = log.segments.last().expect("there are some");
    assert_eq!((last.next_offset, last.is_sealed), (Offset(RECORDS), false));
    assert_eq!(log.troubles, [""; 0]);

    flip(&sample.segment(Offset::ZERO), frame_position(&sample.segment(Offset::ZERO), 3) + 100);
    for from in [0, 2, 4, 39] {
        let mut shown = Vec::new();
        let mut show = |frame: &DumpedFrame<'_>| {
            let (header, _) = frame.header.expect("only a payload is damaged");
            shown.push((header.base_offset.0, frame.trouble.is_none()));
            ControlFlow::<()>::Continue(())
        };
        assert!(dump(&directory, &place, Offset(from), &mut show).expect("readable").is_continue());
        shown.retain(|(offset, _)| *offset >= from);
        assert_eq!(shown, (from..RECORDS).map(|offset| (offset, offset != 3)).collect::<Vec<_>>());
    }
}

/// The next start goes on with it, so nothing of what it replaces is missing or damaged.
#[test]
fn an_interrupted_compaction_is_named_as_that() {
    let sample = Sample::new(true);
    let bases = sample.bases();
    let swap = format!("{:020}-{:020}.swap", bases[0].0, bases[2].0);
    fs::copy(sample.segment(bases[0]), sample.log.join(swap)).expect("copied");
    fs::write(sample.log.join("00000000000000000000.cleaned"), b"half").expect("writable");
    fs::remove_file(sample.segment(bases[1])).expect("removable");
    fs::remove_file(sample.segment(bases[1]).with_extension("index")).expect("removable");
    let (problems, totals) = sample.verify();
    let kinds: Vec<_> = problems.iter().map(|problem| problem.kind).collect();
    assert_eq!((kinds, totals.segments), (vec![ProblemKind::UnfinishedCompaction], 1), "{problems:?}");
}

/// Records behind the recovery point were deleted: the checkpoint's offset had moved up without its position, and a log
/// that is whole was reported as damaged.
#[test]
fn a_log_start_behind_the_recovery_point_is_no_damage() {
    let sample = Sample::new(false);
    let id = LogId { topic: TOPIC, partition: 0 };
    let (mut log, _) = Log::open(Arc::new(RealFileSystem), &sample.log, id, OPTIONS).expect("opens");
    append(&mut log, RECORDS);
    log.keeper().delete_before(Offset(RECORDS + 1)).expect("deletes");
    drop(log);
    assert_eq!(sample.verify().0, []);
}
