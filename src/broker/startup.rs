//! From a data directory to an open broker, and back.
//!
//! Order: lock, format, catalog, everything made durable that a broker which did not stop cleanly has left in memory,
//! logs (side by side), coordinators replayed from their journals. A partition
//! whose log does not open is offline, with its reason, and so is a coordinator; the broker serves the others.

use crate::broker::Broker;
use crate::broker::coordinators::{self, Coordinators};
use crate::broker::error::BrokerError;
use crate::broker::opener::{Opener, create_directories, remove_directory};
use crate::broker::produce::PERMIT_BYTES;
use crate::broker::queues::arrivals::ArrivalsByQueue;
use crate::broker::upkeep::Upkeep;
use crate::broker::upkeep::disk_watch::DiskWatch;
use crate::broker::upkeep::scrubber::{ScrubOptions, Scrubber};
use crate::clock::SharedClock;
use crate::limits;
use crate::metrics::Metrics;
use crate::partition::StoragePool;
use crate::shutdown::Shutdown;
use crate::storage::data_dir::DataDir;
use crate::storage::file_system::FileSystem;
use crate::storage::recovery::Tail;
use crate::storage::{StorageContext, StorageError};
use crate::topic::{Catalog, TopicEntry, TopicOptions};
use crate::types::{Cleanup, Durability, TopicId, TopicName};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// On a compacted topic of the broker's own, which nobody but a start must read from its beginning.
const INTERNAL_GRACE_MS: u64 = 60 * 60 * 1000;

/// Threads that open logs: after a crash each of them waits for the disk to read its tail again.
const OPENING_THREADS: usize = 16;

/// Threads that close logs, besides those there are.
const CLOSING_THREADS: usize = 32;

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
    /// Segment files that may be open at one time.
    pub open_files_max: usize,
    /// Partitions of a topic whose creator does not say.
    pub default_partitions: u32,
    /// Options of a topic whose creator does not say.
    pub topic_defaults: TopicOptions,
    /// Budget of record bytes that were received and not answered.
    pub produce_in_flight_bytes_max: u64,
    /// Records are refused while less of the disk is free.
    pub disk_free_bytes_min: u64,
    /// Groups that nobody has used for so long are deleted with their committed offsets, in milliseconds; 0 = never.
    pub group_offsets_retention_ms: u64,
    /// How sealed segments are read again.
    pub scrub: ScrubOptions,
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
        add_internal_topics(&*fs, &data_dir, &mut catalog, clock.now_ms()).map_err(BrokerError::Files)?;

        let context = storage_context(&fs, &data_dir, options.open_files_max);
        let opener = Opener {
            context: &context,
            data_dir: &data_dir,
            pool: &pool,
            clock: &clock,
            metrics: &metrics,
            reserve_bytes: options.disk_free_bytes_min,
        };
        let topics = Arc::new(opener.open_all(&catalog, OPENING_THREADS));
        let watched = data_dir.path().to_owned();
        let disk = DiskWatch::new(Arc::clone(&fs), watched, Arc::clone(&metrics), options.disk_free_bytes_min);
        let disk = Arc::new(disk);
        let coordinators = Coordinators::start(&clock, &topics, &disk).await;

        let upkeep = Upkeep::load(&*fs, &data_dir.upkeep_path(), &*clock);
        let (ended_at_ms, scrubber_clock) = (upkeep.scrubbed_at_ms(), Arc::clone(&clock));
        let scrubber = Scrubber::new(options.scrub, scrubber_clock, Arc::clone(&metrics), ended_at_ms);
        let permits = usize::try_from(options.produce_in_flight_bytes_max / PERMIT_BYTES).unwrap_or(usize::MAX);
        Ok(Arc::new(Self {
            disk,
            scrubber: Arc::new(scrubber),
            letters_at_work: Arc::default(),
            deletions: Semaphore::new(limits::DELETIONS_MAX),
            lag_measurements: Arc::new(Semaphore::new(limits::LAG_MEASUREMENTS_MAX)),
            group_readings: Mutex::default(),
            arrivals: ArrivalsByQueue::default(),
            queue_readings: Mutex::default(),
            letter_readings: Mutex::default(),
            schedule_reading: Mutex::default(),
            in_flight: Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS))),
            options,
            started_at_ms: clock.now_ms(),
            clock,
            metrics,
            shutdown,
            fs,
            context,
            topics,
            catalog: tokio::sync::Mutex::new(catalog),
            coordinators,
            requests: Arc::default(),
            upkeep,
            pool,
            compacting: Arc::new(Semaphore::new(1)),
            data_dir,
        }))
    }

    /// Closes every log: what was written is durable, and the next start has nothing to verify. All partitions are
    /// asked at once, so that their syncs run side by side.
    pub async fn close(&self) -> Result<(), BrokerError> {
        if let Err(error) = tokio::task::block_in_place(|| self.remember(true)) {
            tracing::warn!(%error, "the time is not kept for the next start");
        }
        self.coordinators.stop().await;
        let mut closing = Vec::new();
        let topics = self.topics.all();
        let partitions: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
        // They wait for the disk, all of them: the syncs of many threads end with one commit of the file system. Fewer
        // threads than wished for are no reason not to close.
        let _ = self.pool.add_threads(partitions.min(CLOSING_THREADS));
        let mut is_clean = true;
        for topic in topics {
            for (number, partition) in (0..).zip(&topic.partitions) {
                // Of the files of a partition that is offline nobody knows whether they are on disk.
                is_clean &= partition.is_ok();
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
        if is_clean && result.is_ok() {
            self.data_dir.note_clean_stop();
        }
        result
    }
}

/// What all logs share. After an unclean stop everything on the disk is synced once, here: one sync for each of 10,000
/// logs would take a minute.
fn storage_context(fs: &Arc<dyn FileSystem>, data_dir: &DataDir, open_files_max: usize) -> StorageContext {
    let context = StorageContext::new(Arc::clone(fs), open_files_max);
    if data_dir.is_after_clean_stop() {
        return StorageContext { tail: Tail::Synced, ..context };
    }
    let started = Instant::now();
    match fs.sync_all(data_dir.path()) {
        Ok(()) => {
            let elapsed_ms = started.elapsed().as_millis();
            tracing::info!(elapsed_ms, "the last stop was not clean; what it left in memory is on disk now");
            StorageContext { tail: Tail::Synced, ..context }
        }
        // Some file could not be written. Each log syncs its own then, and finds out whether it was one of its files.
        Err(error) => {
            tracing::warn!(%error, "the disk could not be synced as a whole; each log is synced on its own");
            context
        }
    }
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

/// Topics that the broker keeps its own state in are there from the first start on. All are made durable together: that is
/// most of the time of a first start.
fn add_internal_topics(
    fs: &dyn FileSystem,
    data_dir: &DataDir,
    catalog: &mut Catalog,
    now_ms: i64,
) -> Result<(), StorageError> {
    let named = coordinators::TOPICS.map(|(name, cleanup)| (TopicName::new(name).expect("a valid name"), cleanup));
    let missing = named.into_iter().filter(|(name, _)| !catalog.topics.contains_key(name));
    let missing: Vec<_> = missing.map(|(name, cleanup)| (name, internal_topic(cleanup, now_ms))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let partitions: Vec<_> = missing.iter().map(|(_, entry)| (entry.id, 0..1)).collect();
    create_directories(fs, data_dir, &partitions)?;
    catalog.topics.extend(missing);
    catalog.store(fs, &data_dir.catalog_path())
}

fn internal_topic(cleanup: Cleanup, now_ms: i64) -> TopicEntry {
    let options = TopicOptions {
        retention_ms: 0,
        retention_bytes: 0,
        durability: Durability::Synced,
        segment_bytes: 16 << 20,
        cleanup,
        tombstone_grace_ms: INTERNAL_GRACE_MS,
        ..TopicOptions::default()
    };
    TopicEntry { id: TopicId(Uuid::new_v4()), partitions: 1, created_at_ms: now_ms, options }
}
