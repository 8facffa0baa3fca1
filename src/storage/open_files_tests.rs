//! The bound on open segment files, and what must never be closed for it.

use crate::storage::context::StorageContext;
use crate::storage::error::StorageError;
use crate::storage::file_system::{File, FileSystem, OpenMode, View};
use crate::storage::log::{Log, LogOptions, NewBatch};
use crate::storage::real_file_system::RealFileSystem;
use crate::storage::segment::header::LogId;
use crate::storage::sim_disk::Random;
use crate::types::record_set::{self, encode_record};
use crate::types::{Offset, TopicId};
use bytes::BytesMut;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What became of the segment files that were opened.
#[derive(Debug, Default)]
struct Account {
    open: AtomicUsize,
    most_open: AtomicUsize,
    /// Files that were closed although they had bytes that were not synced.
    closed_unsynced: AtomicUsize,
    /// How many opens are refused, as by a system that has no more files.
    refusals: AtomicUsize,
}

/// Real files whose segments are counted.
#[derive(Debug, Default, Clone)]
struct CountingFileSystem {
    real: RealFileSystem,
    account: Arc<Account>,
}

#[derive(Debug)]
struct CountedFile {
    real: Arc<dyn File>,
    account: Arc<Account>,
    is_unsynced: AtomicBool,
}

impl FileSystem for CountingFileSystem {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.real.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.real.list(path)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if path.extension().is_none_or(|extension| extension != "log") {
            return self.real.open(path, mode);
        }
        let refusals = &self.account.refusals;
        if refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()));
        }
        let real = self.real.open(path, mode)?;
        let open = self.account.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.account.most_open.fetch_max(open, Ordering::SeqCst);
        Ok(Arc::new(CountedFile { real, account: Arc::clone(&self.account), is_unsynced: AtomicBool::new(false) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.real.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.real.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.real.sync_dir(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.real.sync_all(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.real.free_bytes(path)
    }
}

impl CountedFile {
    fn changes(&self) -> &dyn File {
        self.is_unsynced.store(true, Ordering::SeqCst);
        &*self.real
    }
}

impl File for CountedFile {
    fn len(&self) -> io::Result<u64> {
        self.real.len()
    }
    fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.real.read_exact_at(position, buffer)
    }
    fn write_all_at(&self, position: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.changes().write_all_at(position, parts)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.changes().allocate(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changes().set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.real.sync_data()?;
        self.is_unsynced.store(false, Ordering::SeqCst);
        Ok(())
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.real.drop_cache()
    }
    fn view(&self, len: usize) -> io::Result<Arc<dyn View>> {
        self.real.view(len)
    }
}

impl Drop for CountedFile {
    fn drop(&mut self) {
        self.account.open.fetch_sub(1, Ordering::SeqCst);
        if self.is_unsynced.load(Ordering::SeqCst) {
            self.account.closed_unsynced.fetch_add(1, Ordering::SeqCst);
        }
    }
}

const OPTIONS: LogOptions = LogOptions { segment_bytes: 4096, seal_age_ms: 1_000, reserve_bytes: 0 };
const CAPACITY: usize = 8;

/// Logs that share their open files.
struct Logs {
    directory: tempfile::TempDir,
    fs: CountingFileSystem,
    context: StorageContext,
}

impl Logs {
    fn new() -> Self {
        let fs = CountingFileSystem::default();
        let context = StorageContext::new(Arc::new(fs.clone()), CAPACITY);
        Self { directory: tempfile::tempdir().expect("a directory"), fs, context }
    }

    fn open(&self, partition: u32) -> Log {
        let id = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition };
        let path = self.directory.path().join(partition.to_string());
        self.fs.create_dir_all(&path).expect("a directory");
        Log::open(self.context.clone(), &path, id, OPTIONS).expect("the log opens").0
    }

    /// `count` logs, of which each has three sealed segments and an active one, all of it synced.
    fn filled(&self, count: u32) -> Vec<Log> {
        let fill = |partition| {
            let mut log = self.open(partition);
            (0..4).for_each(|round| {
                log.seal_if_old(i64::MAX).expect("seals");
                append(&mut log, partition, round);
                log.sync().expect("syncs");
            });
            log
        };
        (0..count).map(fill).collect()
    }

    fn open_now(&self) -> usize {
        self.fs.account.open.load(Ordering::SeqCst)
    }
}

fn value(partition: u32, number: u64) -> Vec<u8> {
    format!("{partition}/{number}").into_bytes()
}

fn append(log: &mut Log, partition: u32, number: u64) {
    let mut set = BytesMut::new();
    encode_record(&mut set, None, Some(&value(partition, number)), std::iter::empty(), None);
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    let outcome = log.append(&[NewBatch::new(payload, summary)], 1_000);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
}

fn read(log: &Log, number: u64) -> Result<Vec<u8>, StorageError> {
    let batches = log.reader().read(Offset(number), log.next_offset(), 1)?;
    let record = record_set::records(&batches[0].payload).next().expect("at least one record");
    Ok(record.value.expect("each has one").to_vec())
}

#[test]
fn many_segments_are_read_and_written_through_few_open_files() {
    let logs = Logs::new();
    let mut all = logs.filled(20);
    for round in 4..8 {
        for (partition, log) in (0..).zip(&mut all) {
            append(log, partition, round);
            log.sync().expect("syncs");
            for number in 0..=round {
                assert_eq!(read(log, number).expect("readable"), value(partition, number));
            }
        }
    }
    let most = logs.fs.account.most_open.load(Ordering::SeqCst);
    // Recovery and creation open one file past the bound, for a moment.
    assert!(most <= CAPACITY + 2, "{most} files were open at one time, {CAPACITY} are allowed");
    let reading = logs.context.open_files.reading();
    assert_eq!(reading.open, logs.open_now() as u64);
    assert!(reading.evictions > 0 && reading.pinned == 0, "{reading:?}");
}

/// A closed file cannot tell of a failed write-back any more: the acknowledgement that relies on it would be a lie.
/// Everything that changes a file is done here in all orders while others need its place.
#[test]
fn a_file_with_bytes_that_are_not_on_disk_is_never_closed() {
    let logs = Logs::new();
    let mut all = logs.filled(12);
    let mut next = [4_u64; 12];
    let mut random = Random::new(1);
    for _ in 0..4_000 {
        let partition = u32::try_from(random.below(12)).expect("small");
        let (log, next) = (&mut all[partition as usize], &mut next[partition as usize]);
        match random.below(10) {
            0..=3 => {
                append(log, partition, *next);
                *next += 1;
            }
            4 => log.sync().expect("syncs"),
            5 => log.seal_if_old(i64::MAX).expect("seals"),
            6 => log.keeper().sync_sealed().expect("syncs"),
            _ => {
                let number = random.below(*next);
                assert_eq!(read(log, number).expect("readable"), value(partition, number));
            }
        }
        if log.should_sync() {
            log.sync().expect("syncs");
        }
        assert_eq!(logs.fs.account.closed_unsynced.load(Ordering::SeqCst), 0);
    }
    let most = logs.fs.account.most_open.load(Ordering::SeqCst);
    assert!(most <= 3 * CAPACITY, "{most} files were open at one time, {CAPACITY} are allowed");
    assert!(logs.context.open_files.reading().evictions > 100, "the test is about closing files");
}

/// Writers that nobody waits for sync when there are too many files that cannot be closed, so the bound holds.
#[test]
fn unsynced_files_do_not_outgrow_the_bound() {
    let logs = Logs::new();
    let mut all: Vec<Log> = (0..30).map(|partition| logs.open(partition)).collect();
    let mut synced = 0;
    for round in 0..3 {
        for (partition, log) in (0..).zip(&mut all) {
            append(log, partition, round);
            if log.should_sync() {
                log.sync().expect("syncs");
                synced += 1;
            }
        }
    }
    let most = logs.fs.account.most_open.load(Ordering::SeqCst);
    assert!(most <= CAPACITY + 2, "{most} files were open at one time, {CAPACITY} are allowed");
    assert!(synced > 0 && synced < 90, "{synced} of 90 appends were synced early");
    assert!(logs.context.open_files.is_filling_up());
    assert!(all[0].keeper().should_sync(), "upkeep is told of the logs whose files are in the way");
    all[0].sync().expect("syncs");
    assert!(!all[0].keeper().should_sync());
}

#[test]
fn when_the_system_has_no_more_files_some_are_closed_and_it_is_tried_again() {
    let logs = Logs::new();
    let all = logs.filled(3);
    assert!(logs.open_now() > 0);
    logs.fs.account.refusals.store(1, Ordering::SeqCst);
    let closed = all.iter().find_map(|log| (0..3).map(|number| read(log, number)).find(Result::is_err));
    assert!(closed.is_none(), "{closed:?}");
    assert_eq!(logs.fs.account.refusals.load(Ordering::SeqCst), 0, "the test is about a refused open");

    // Nothing can be given back any more: the limit is named, and nothing is broken.
    logs.fs.account.refusals.store(usize::MAX, Ordering::SeqCst);
    let reads = || all.iter().flat_map(|log| (0..4).map(|number| read(log, number)));
    let error = reads().find_map(Result::err).expect("more segments than may be open");
    assert!(matches!(error, StorageError::Exhausted { .. }), "{error}");
    assert!(error.to_string().contains("ulimit -n"), "{error}");
    logs.fs.account.refusals.store(0, Ordering::SeqCst);
    assert!(reads().all(|read| read.is_ok()));
}

#[test]
fn slots_of_segments_that_are_gone_do_not_pile_up() {
    let logs = Logs::new();
    for partition in 0..200 {
        let mut log = logs.open(partition);
        append(&mut log, partition, 0);
        log.sync().expect("syncs");
        drop(log);
        assert_eq!(logs.open_now(), 0, "a segment that is gone is closed");
    }
    assert!(logs.context.open_files.ring_len() <= 2 * CAPACITY + 1);
}
