//! From a data directory to an open broker, and back.
//!
//! Order: lock, format, catalog, logs (side by side on as many threads as there are for storage), groups replayed from
//! their journal. A partition whose log does not open is offline, with its reason; the broker serves the others.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::produce::PERMIT_BYTES;
use crate::broker::topic_table::{Topic, TopicTable, partition_options};
use crate::clock::SharedClock;
use crate::group::GroupCoordinator;
use crate::metrics::Metrics;
use crate::partition::{PartitionHandle, PartitionJournal, StoragePool};
use crate::shutdown::Shutdown;
use crate::storage::data_dir::DataDir;
use crate::storage::file_system::FileSystem;
use crate::storage::segment::header::LogId;
use crate::storage::{Log, StorageError};
use crate::topic::{Catalog, TopicEntry, TopicOptions};
use crate::types::{Durability, TopicId, TopicName};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// The internal topic that consumer groups keep their state in.
const GROUPS_TOPIC: &str = "__groups";

/// A journal with more entries than this, and mostly out of date, is rewritten when the broker starts.
const JOURNAL_ENTRIES_KEPT: u64 = 10_000;

/// How a broker is opened.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Whether its data is thrown away when the broker stops; only told to clients.
    pub ephemeral: bool,
    /// Create a topic, with the defaults, when records are produced to it.
    pub auto_create_topics: bool,
    /// Threads that do disk work.
    pub storage_threads: usize,
    /// Partitions of a topic whose creator does not say.
    pub default_partitions: u32,
    /// Options of a topic whose creator does not say.
    pub topic_defaults: TopicOptions,
    /// Budget of record bytes that were received and not answered.
    pub produce_in_flight_bytes_max: u64,
}

impl Broker {
    /// Opens a broker: everything it acknowledged before is there when this returns.
    pub async fn open(
        options: BrokerOptions,
        fs: Arc<dyn FileSystem>,
        clock: SharedClock,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Result<Arc<Self>, BrokerError> {
        let data_dir = DataDir::open(&*fs, &options.data_dir).map_err(BrokerError::Files)?;
        let mut catalog = Catalog::load(&*fs, &data_dir.catalog_path()).map_err(BrokerError::Files)?;
        let pool = StoragePool::start(options.storage_threads)
            .map_err(|error| BrokerError::Files(StorageError::io("start threads for", data_dir.path(), error)))?;
        finish_deletions(&*fs, &data_dir, &mut catalog).map_err(BrokerError::Files)?;
        add_internal_topic(&*fs, &data_dir, &mut catalog, clock.now_ms()).map_err(BrokerError::Files)?;

        let opener = Opener { fs: &fs, data_dir: &data_dir, pool: &pool, clock: &clock, metrics: &metrics };
        let topics = opener.open_all(&catalog, options.storage_threads);
        let groups_topic = TopicName::new(GROUPS_TOPIC)?;
        let groups_partition = topics.get(&groups_topic).expect("it was added above").partition(0)?.clone();
        let journal = PartitionJournal::new(GROUPS_TOPIC, groups_partition);
        let groups = start_groups(journal, &clock, &topics).await?;

        let permits = usize::try_from(options.produce_in_flight_bytes_max / PERMIT_BYTES).unwrap_or(usize::MAX);
        Ok(Arc::new(Self {
            in_flight: Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS))),
            options,
            started_at_ms: clock.now_ms(),
            clock,
            metrics,
            shutdown,
            fs,
            topics,
            catalog: tokio::sync::Mutex::new(catalog),
            groups,
            pool,
            data_dir,
        }))
    }

    /// Closes every log: what was written is durable, and the next start has nothing to verify. All partitions are
    /// asked at once, so that their syncs run side by side.
    pub async fn close(&self) -> Result<(), BrokerError> {
        let mut closing = Vec::new();
        for topic in self.topics.all() {
            for (number, partition) in (0..).zip(&topic.partitions) {
                if let Ok(partition) = partition.clone() {
                    let at = topic.at(number);
                    closing.push((at, tokio::spawn(async move { partition.close().await })));
                }
            }
        }
        let mut result = Ok(());
        for (at, closed) in closing {
            let closed = closed.await.unwrap_or(Ok(()));
            result = result.and(closed.map_err(|error| BrokerError::storage(at, error)));
        }
        result
    }

    /// Opens the logs of partitions that were just created.
    pub(super) fn open_partitions(
        &self,
        name: &TopicName,
        entry: &TopicEntry,
        numbers: std::ops::Range<u32>,
    ) -> Vec<Result<PartitionHandle, StorageError>> {
        let opener = Opener {
            fs: &self.fs,
            data_dir: &self.data_dir,
            pool: &self.pool,
            clock: &self.clock,
            metrics: &self.metrics,
        };
        numbers.map(|number| opener.open(name, entry, number)).collect()
    }
}

/// What opening a partition takes.
struct Opener<'a> {
    fs: &'a Arc<dyn FileSystem>,
    data_dir: &'a DataDir,
    pool: &'a StoragePool,
    clock: &'a SharedClock,
    metrics: &'a Arc<Metrics>,
}

impl Opener<'_> {
    /// Opens every partition of the catalog, on `threads` threads.
    fn open_all(&self, catalog: &Catalog, threads: usize) -> TopicTable {
        let all: Vec<(&TopicName, &TopicEntry, u32)> = catalog
            .topics
            .iter()
            .flat_map(|(name, entry)| (0..entry.partitions).map(move |number| (name, entry, number)))
            .collect();
        let next = AtomicUsize::new(0);
        let open_some = || {
            let mut opened = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some((name, entry, number)) = all.get(i) else { return opened };
                opened.push((i, self.open(name, entry, *number)));
            }
        };
        let mut opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(open_some)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("opening does not panic")).collect()
        });
        opened.sort_unstable_by_key(|(i, _)| *i);

        let table = TopicTable::default();
        let mut opened = opened.into_iter().map(|(_, partition)| partition);
        for (name, entry) in &catalog.topics {
            let partitions = opened.by_ref().take(entry.partitions as usize).collect();
            table.put(topic(name, entry, partitions, self.metrics));
        }
        table
    }

    fn open(&self, name: &TopicName, entry: &TopicEntry, number: u32) -> Result<PartitionHandle, StorageError> {
        let id = LogId { topic: entry.id, partition: number };
        let options = partition_options(name, &entry.options);
        let directory = self.data_dir.log_path(id);
        match Log::open(Arc::clone(self.fs), &directory, id, options.log) {
            Ok((log, report)) => {
                if report.verified_bytes > 0 {
                    tracing::info!(log = %id, bytes = report.verified_bytes, "verified what a crash left behind");
                }
                let (clock, metrics) = (Arc::clone(self.clock), Arc::clone(self.metrics));
                Ok(PartitionHandle::new(log, options, self.pool, clock, metrics))
            }
            Err(error) => {
                tracing::error!(log = %id, %error, "a partition is offline");
                Err(error)
            }
        }
    }
}

/// A topic with its open partitions.
pub(super) fn topic(
    name: &TopicName,
    entry: &TopicEntry,
    partitions: Vec<Result<PartitionHandle, StorageError>>,
    metrics: &Metrics,
) -> Topic {
    Topic {
        name: name.clone(),
        entry: entry.clone(),
        partitions,
        metrics: metrics.topic(name),
        next_partition: Arc::new(AtomicU32::new(0)),
    }
}

/// Creates the directories of partitions; they are durable when this returns.
pub(super) fn create_directories(
    fs: &dyn FileSystem,
    data_dir: &DataDir,
    topic: TopicId,
    numbers: std::ops::Range<u32>,
) -> Result<(), StorageError> {
    let topic_path = data_dir.topic_path(topic);
    for partition in numbers {
        let path = data_dir.log_path(LogId { topic, partition });
        fs.create_dir_all(&path).map_err(|error| StorageError::io("create", &path, error))?;
    }
    for path in [topic_path, data_dir.topics_path()] {
        fs.sync_dir(&path).map_err(|error| StorageError::io("sync", &path, error))?;
    }
    Ok(())
}

/// Removes the directories of deleted topics that a crash left behind.
fn finish_deletions(fs: &dyn FileSystem, data_dir: &DataDir, catalog: &mut Catalog) -> Result<(), StorageError> {
    if catalog.deleting.is_empty() {
        return Ok(());
    }
    for id in catalog.deleting.drain(..) {
        remove_directory(fs, data_dir, id)?;
    }
    catalog.store(fs, &data_dir.catalog_path())
}

/// Removes a topic's directory; it is fine if there is none.
pub(super) fn remove_directory(fs: &dyn FileSystem, data_dir: &DataDir, id: TopicId) -> Result<(), StorageError> {
    let path = data_dir.topic_path(id);
    match fs.remove_dir_all(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| StorageError::io("delete", &path, error)),
    }
}

/// The topic that groups keep their state in is there from the first start on.
fn add_internal_topic(
    fs: &dyn FileSystem,
    data_dir: &DataDir,
    catalog: &mut Catalog,
    now_ms: i64,
) -> Result<(), StorageError> {
    let name = TopicName::new(GROUPS_TOPIC).expect("a valid name");
    if catalog.topics.contains_key(&name) {
        return Ok(());
    }
    let options = TopicOptions {
        retention_ms: 0,
        retention_bytes: 0,
        durability: Durability::Synced,
        segment_bytes: 16 << 20,
        ..TopicOptions::default()
    };
    let entry = TopicEntry { id: TopicId(Uuid::new_v4()), partitions: 1, created_at_ms: now_ms, options };
    create_directories(fs, data_dir, entry.id, 0..1)?;
    catalog.topics.insert(name, entry);
    catalog.store(fs, &data_dir.catalog_path())
}

/// Replays the groups' journal, starts their coordinator, and rewrites a journal that is mostly out of date.
async fn start_groups(
    journal: PartitionJournal,
    clock: &SharedClock,
    topics: &TopicTable,
) -> Result<GroupCoordinator, BrokerError> {
    let replayed = journal.replay().await.map_err(BrokerError::Files)?;
    let entries = journal.len();
    let groups = GroupCoordinator::start(Arc::new(journal.clone()), replayed, Arc::clone(clock), topics.snapshot())?;
    if entries > JOURNAL_ENTRIES_KEPT {
        // Nobody else calls yet, so the snapshot is the whole state.
        let snapshot = groups.snapshot().await?;
        if (snapshot.len() as u64) < entries / 2
            && let Err(error) = journal.replace(snapshot).await
        {
            tracing::warn!(%error, "the journal of groups was not rewritten; it is at the next start");
        }
    }
    Ok(groups)
}
