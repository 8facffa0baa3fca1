//! A directory with a log in it, made from fuzzer bytes: written by the library and then damaged, or arbitrary bytes in
//! files of the right names.
//!
//! What the library writes is whole; each [`Damage`] changes bytes or files as no crash would, and may put checksums
//! right again, so that numbers reach the code behind them.

use crate::memory_file_system::MemoryFileSystem;
use crate::sealed::{seal_frames, seal_tail, sealed_text};
use arbitrary::Arbitrary;
use bytes::{Bytes, BytesMut};
use millstream::storage::checkpoint::Checkpoint;
use millstream::storage::log::{Log, LogOptions, NewBatch};
use millstream::storage::segment::file_stem;
use millstream::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use millstream::types::record_set::{self, encode_record};
use millstream::types::{Offset, ProducerId, ProducerStamp, TopicId};
use std::path::{Path, PathBuf};

/// Whose log it is.
pub const ID: LogId = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };

/// Small, so that a few batches fill several segments.
pub const OPTIONS: LogOptions = LogOptions { segment_bytes: 2048, seal_age_ms: 5_000, reserve_bytes: 0 };

const STEPS_MAX: usize = 16;
const DAMAGES_MAX: usize = 8;
/// Files do not grow past this by damage.
const FILE_BYTES_MAX: usize = 64 << 10;

/// The data directory; nothing of that name is on the real disk.
pub const DATA_DIRECTORY: &str = "/nowhere/millstream-fuzz";

/// The directory of the log.
pub fn directory() -> PathBuf {
    Path::new(DATA_DIRECTORY).join("topics").join(ID.topic.to_string()).join(ID.partition.to_string())
}

/// How a directory comes about.
#[derive(Debug, Arbitrary)]
pub struct Plan {
    steps: Vec<Step>,
    is_closed: bool,
    /// What is done to it then.
    pub damages: Vec<Damage>,
}

/// One thing that a broker does with a log.
#[derive(Debug, Arbitrary)]
enum Step {
    Append { records: u8, value_bytes: u16, later_ms: i16, producer: Option<u8>, batches: u8 },
    Sync,
    Keep { later_ms: u16 },
    DeleteBefore(u8),
    Reopen,
}

/// One thing that happens to the files.
#[derive(Debug, Arbitrary)]
pub enum Damage {
    Change { file: u8, at: u16, mask: u8 },
    Put { file: u8, at: u16, bytes: Vec<u8> },
    PutNumber { file: u8, at: u16, number: Number },
    Cut { file: u8, len: u16 },
    Grow { file: u8, zeros: u16 },
    Take { from: u8, at: u16, len: u16, file: u8, to: u16 },
    Remove { file: u8 },
    Rename { file: u8, base: Number },
    SealFrames { file: u8, which: u16 },
    SealHeader { file: u8 },
    SealTail { file: u8 },
    Checkpoint { log_start: Number, segment: Number, position: u32, next: Number, time_ms: i64 },
    Segment { base: Number, bytes: Vec<u8> },
    Index { base: Number, bytes: Vec<u8>, is_sealed: bool },
    File { name: u8, bytes: Vec<u8>, is_sealed: bool },
}

/// Numbers near those that matter, or any other.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Number {
    Small(u8),
    NearWord(i8),
    NearLong(u8),
    Any(u64),
}

impl Number {
    /// The number.
    pub fn get(self) -> u64 {
        match self {
            Self::Small(small) => small.into(),
            Self::NearWord(delta) => (1_u64 << 32).saturating_add_signed(delta.into()),
            Self::NearLong(below) => u64::MAX - u64::from(below),
            Self::Any(any) => any,
        }
    }
}

/// A batch of `records` records with values of `value_bytes` bytes each.
pub fn batch(records: u8, value_bytes: u16, producer: Option<u8>) -> NewBatch {
    let value = vec![b'v'; usize::from(value_bytes)];
    let mut set = BytesMut::new();
    for number in 0..records {
        encode_record(&mut set, Some(&[number]), Some(&value), std::iter::empty(), Some(number.into()));
    }
    let payload: Bytes = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    let stamp = |id: u8| ProducerStamp { id: ProducerId(u64::from(id) + 1), epoch: 0, base_sequence: 0 };
    NewBatch { producer: producer.map(stamp), ..NewBatch::new(payload, summary) }
}

impl Plan {
    /// The directory.
    pub fn carry_out(&self) -> MemoryFileSystem {
        let files = MemoryFileSystem::default();
        files.add_directory(&directory());
        self.write(&files);
        for damage in self.damages.iter().take(DAMAGES_MAX) {
            damage.happen_to(&files);
        }
        files
    }

    fn write(&self, files: &MemoryFileSystem) {
        let open = || Log::open(files.shared(), &directory(), ID, OPTIONS).expect("nothing is damaged yet").0;
        let mut log = open();
        let mut now_ms = 1_000;
        for step in self.steps.iter().take(STEPS_MAX) {
            match *step {
                Step::Append { records, value_bytes, later_ms, producer, batches } => {
                    now_ms += i64::from(later_ms);
                    let batch = batch(records % 8 + 1, value_bytes % 600, producer);
                    let batches = vec![batch; usize::from(batches % 4) + 1];
                    let outcome = log.append(&batches, now_ms);
                    assert!(outcome.error.is_none(), "{:?}", outcome.error);
                }
                Step::Sync => log.sync().expect("memory does not fail"),
                Step::Keep { later_ms } => {
                    now_ms += i64::from(later_ms);
                    log.seal_if_old(now_ms).expect("memory does not fail");
                    log.keeper().sync_sealed().expect("memory does not fail");
                }
                Step::DeleteBefore(offset) => {
                    let offset = Offset(offset.into()).min(log.next_offset());
                    log.keeper().delete_before(offset).expect("memory does not fail");
                }
                Step::Reopen => {
                    drop(log);
                    log = open();
                }
            }
        }
        if self.is_closed {
            log.close().expect("memory does not fail");
        }
    }
}

impl Damage {
    fn happen_to(&self, files: &MemoryFileSystem) {
        match self {
            Self::Change { file, at, mask } => edit(files, *file, |bytes| {
                if let Some(byte) = at_of(bytes, *at) {
                    *byte ^= mask;
                }
            }),
            Self::Put { file, at, bytes: new } => edit(files, *file, |bytes| put(bytes, *at, new)),
            Self::PutNumber { file, at, number } => {
                edit(files, *file, |bytes| put(bytes, *at, &number.get().to_le_bytes()));
            }
            Self::Cut { file, len } => edit(files, *file, |bytes| bytes.truncate((*len).into())),
            Self::Grow { file, zeros } => {
                edit(files, *file, |bytes| bytes.resize((bytes.len() + usize::from(*zeros)).min(FILE_BYTES_MAX), 0));
            }
            Self::Take { from, at, len, file, to } => {
                let taken = nth(files, *from).map(|(_, bytes)| bytes).unwrap_or_default();
                let taken: Vec<u8> = taken.into_iter().skip((*at).into()).take((*len).into()).collect();
                edit(files, *file, |bytes| put(bytes, *to, &taken));
            }
            Self::Remove { file } => {
                if let Some((path, _)) = nth(files, *file) {
                    files.remove(&path);
                }
            }
            Self::Rename { file, base } => {
                if let Some((path, bytes)) = nth(files, *file) {
                    files.remove(&path);
                    let name = path.extension().map_or_else(|| "log".into(), |name| name.to_string_lossy());
                    files.put(segment(*base).with_extension(&*name), bytes);
                }
            }
            Self::SealFrames { file, which } => {
                let Some((path, bytes)) = nth(files, *file) else { return };
                let seed = seed_of(&path, &bytes);
                let mut which = u32::from(*which) << 1;
                edit(files, *file, |bytes| {
                    seal_frames(seed, bytes, SEGMENT_HEADER_BYTES, || {
                        which >>= 1;
                        which & 1 == 1
                    });
                });
            }
            Self::SealHeader { file } => edit(files, *file, |bytes| {
                if let Some(header) = bytes.get_mut(..SEGMENT_HEADER_BYTES) {
                    seal_tail(header);
                }
            }),
            Self::SealTail { file } => edit(files, *file, |bytes| seal_tail(bytes)),
            Self::Checkpoint { log_start, segment, position, next, time_ms } => {
                let checkpoint = Checkpoint {
                    log_start_offset: Offset(log_start.get()),
                    segment: Offset(segment.get()),
                    position: *position,
                    next_offset: Offset(next.get()),
                    last_append_time_ms: *time_ms,
                    ..Checkpoint::EMPTY
                };
                checkpoint.store(files, &directory()).expect("memory does not fail");
            }
            Self::Segment { base, bytes } => {
                let header = SegmentHeader { log: ID, base_offset: Offset(base.get()), created_at_ms: 1 };
                files.put(segment(*base), [&header.encode()[..], bytes].concat());
            }
            Self::Index { base, bytes, is_sealed } => {
                let mut bytes = bytes.clone();
                if *is_sealed {
                    seal_index(files, *base, &mut bytes);
                }
                files.put(segment(*base).with_extension("index"), bytes);
            }
            Self::File { name, bytes, is_sealed } => {
                const NAMES: [&str; 6] = [
                    "checkpoint.json",
                    "checkpoint.tmp",
                    "x.deleted",
                    "producers.snapshot",
                    "compaction.json",
                    "..log",
                ];
                let bytes = if *is_sealed { sealed_text(bytes) } else { bytes.clone() };
                files.put(directory().join(NAMES[usize::from(*name) % NAMES.len()]), bytes);
            }
        }
    }
}

fn segment(base: Number) -> PathBuf {
    directory().join(file_stem(Offset(base.get()))).with_extension("log")
}

/// The seed in the header of a segment file, for whatever the file is.
fn seed_of(path: &Path, bytes: &[u8]) -> u32 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let base = millstream::storage::segment::base_offset_of(&name).unwrap_or_default();
    SegmentHeader::decode_seed(bytes, ID, base).unwrap_or_default()
}

/// Makes an index file of arbitrary bytes one that is taken for the index of that segment.
fn seal_index(files: &MemoryFileSystem, base: Number, bytes: &mut Vec<u8>) {
    let path = segment(base);
    let seed = files.files().get(&path).map(|segment| seed_of(&path, segment)).unwrap_or_default();
    let entries = bytes.len().saturating_sub(64) / 16;
    bytes.resize(64 + entries * 16 + 4, 0);
    bytes[..8].copy_from_slice(b"MSIDX002");
    bytes[8..12].copy_from_slice(&seed.to_le_bytes());
    bytes[12..16].copy_from_slice(&(entries as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&base.get().to_le_bytes());
    seal_tail(bytes);
}

fn nth(files: &MemoryFileSystem, number: u8) -> Option<(PathBuf, Vec<u8>)> {
    let all = files.files();
    let number = usize::from(number) % all.len().max(1);
    all.into_iter().nth(number)
}

fn edit(files: &MemoryFileSystem, number: u8, change: impl FnOnce(&mut Vec<u8>)) {
    if let Some((path, mut bytes)) = nth(files, number) {
        change(&mut bytes);
        files.put(path, bytes);
    }
}

fn at_of(bytes: &mut [u8], at: u16) -> Option<&mut u8> {
    let len = bytes.len().max(1);
    bytes.get_mut(usize::from(at) % len)
}

fn put(bytes: &mut Vec<u8>, at: u16, new: &[u8]) {
    let at = usize::from(at) % (bytes.len() + 1);
    let new = &new[..new.len().min(FILE_BYTES_MAX - at.min(FILE_BYTES_MAX))];
    let len = bytes.len().max(at + new.len());
    bytes.resize(len, 0);
    bytes[at..at + new.len()].copy_from_slice(new);
}
