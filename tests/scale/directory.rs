//! A data directory with many segments, written by the library: through the front door it would take an hour.

use bytes::BytesMut;
use millstream::storage::data_dir::DataDir;
use millstream::storage::file_system::{File, FileSystem, OpenMode, View};
use millstream::storage::log::NewBatch;
use millstream::storage::real_file_system::RealFileSystem;
use millstream::storage::segment::header::LogId;
use millstream::storage::{Log, LogOptions, StorageContext};
use millstream::topic::Catalog;
use millstream::types::TopicName;
use millstream::types::record_set::{self, encode_record};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Segments of each partition; each has one record.
pub(crate) const SEGMENTS: u32 = 4;

const OPTIONS: LogOptions = LogOptions { segment_bytes: 1 << 20, seal_age_ms: 0, reserve_bytes: 0 };

/// The record at `number`: long enough that a mix-up shows.
pub(crate) fn value(topic: &TopicName, partition: u32, number: u64) -> Vec<u8> {
    format!("{topic}/{partition} at {number}; ").repeat(20).into_bytes()
}

/// Gives every partition of the topics in the catalog its segments, and stops as a broker does.
pub(crate) fn fill(data_dir: &Path) {
    let data_dir = DataDir::open(&RealFileSystem, data_dir).expect("a broker has made it, and has stopped");
    let catalog = Catalog::load(&RealFileSystem, &data_dir.catalog_path()).expect("a broker has written it");
    let topics = catalog.topics.iter().filter(|(name, _)| !name.is_internal());
    let all: Vec<(&TopicName, LogId)> = topics
        .flat_map(|(name, entry)| {
            let id = |partition| LogId { topic: entry.id, partition };
            (0..entry.partitions).map(move |partition| (name, id(partition)))
        })
        .filter(|(name, _)| name.as_str().starts_with("topic-"))
        .collect();
    let context = StorageContext::new(Arc::new(SyncedLater), 64);
    let next = AtomicUsize::new(0);
    let fill_some = || {
        while let Some((name, id)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            fill_log(&context, &data_dir.log_path(*id), name, *id);
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(fill_some))));
    RealFileSystem.sync_all(data_dir.path()).expect("syncs");
    data_dir.note_clean_stop();
}

#[expect(clippy::disallowed_methods, reason = "segments that are older than now would be deleted, or sealed")]
fn fill_log(context: &StorageContext, directory: &Path, name: &TopicName, id: LogId) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now_ms = i64::try_from(now.as_millis()).expect("before the end of time");
    let (mut log, _) = Log::open(context.clone(), directory, id, OPTIONS).expect("an empty log opens");
    for number in 0..u64::from(SEGMENTS) {
        log.seal_if_old(i64::MAX).expect("seals");
        let mut set = BytesMut::new();
        encode_record(&mut set, None, Some(&value(name, id.partition, number)), std::iter::empty(), None);
        let payload = set.freeze();
        let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
        let outcome = log.append(&[NewBatch::new(payload, summary)], now_ms);
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
    }
    log.close().expect("closes");
}

/// Real files that are all synced in the end, not one after the other.
#[derive(Debug)]
struct SyncedLater;

impl FileSystem for SyncedLater {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFileSystem.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealFileSystem.list(path)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FileSyncedLater(RealFileSystem.open(path, mode)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFileSystem.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealFileSystem.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFileSystem.remove_dir_all(path)
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealFileSystem.free_bytes(path)
    }
}

#[derive(Debug)]
struct FileSyncedLater(Arc<dyn File>);

impl File for FileSyncedLater {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(position, buffer)
    }
    fn write_all_at(&self, position: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.0.write_all_at(position, parts)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.0.drop_cache()
    }
    fn view(&self, len: usize) -> io::Result<Arc<dyn View>> {
        self.0.view(len)
    }
}
