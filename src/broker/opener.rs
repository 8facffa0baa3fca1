//! Opening logs, and the directories they are in.
//!
//! A partition whose log does not open is its error; the others serve.

use crate::broker::Broker;
use crate::broker::topic_table::{Topic, TopicTable, partition_options};
use crate::clock::SharedClock;
use crate::metrics::Metrics;
use crate::partition::{PartitionHandle, StoragePool};
use crate::storage::data_dir::DataDir;
use crate::storage::file_system::FileSystem;
use crate::storage::segment::header::LogId;
use crate::storage::{Log, StorageContext, StorageError};
use crate::topic::{Catalog, TopicEntry};
use crate::types::{TopicId, TopicName};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

impl Broker {
    /// Opens the logs of partitions that were just created.
    pub(super) fn open_partitions(
        &self,
        name: &TopicName,
        entry: &TopicEntry,
        numbers: std::ops::Range<u32>,
    ) -> Vec<Result<PartitionHandle, StorageError>> {
        let opener = Opener {
            context: &self.context,
            data_dir: &self.data_dir,
            pool: &self.pool,
            clock: &self.clock,
            metrics: &self.metrics,
            reserve_bytes: self.options.disk_free_bytes_min,
        };
        numbers.map(|number| opener.open(name, entry, number)).collect()
    }
}

/// What opening a partition takes.
pub(super) struct Opener<'a> {
    pub(super) context: &'a StorageContext,
    pub(super) data_dir: &'a DataDir,
    pub(super) pool: &'a StoragePool,
    pub(super) clock: &'a SharedClock,
    pub(super) metrics: &'a Arc<Metrics>,
    /// What appends of clients leave free of the disk.
    pub(super) reserve_bytes: u64,
}

impl Opener<'_> {
    /// Opens every partition of the catalog, on `threads` threads.
    pub(super) fn open_all(&self, catalog: &Catalog, threads: usize) -> TopicTable {
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
        let options = partition_options(name, &entry.options, self.reserve_bytes);
        let directory = self.data_dir.log_path(id);
        match Log::open(self.context.clone(), &directory, id, options.log) {
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
    partitions: &[(TopicId, std::ops::Range<u32>)],
) -> Result<(), StorageError> {
    for (topic, numbers) in partitions {
        for partition in numbers.clone() {
            let path = data_dir.log_path(LogId { topic: *topic, partition });
            fs.create_dir_all(&path).map_err(|error| StorageError::io("create", &path, error))?;
        }
    }
    let topic_paths = partitions.iter().map(|(topic, _)| data_dir.topic_path(*topic));
    for path in topic_paths.chain([data_dir.topics_path()]) {
        fs.sync_dir(&path).map_err(|error| StorageError::io("sync", &path, error))?;
    }
    Ok(())
}

/// Removes a topic's directory; it is fine if there is none.
pub(super) fn remove_directory(fs: &dyn FileSystem, data_dir: &DataDir, id: TopicId) -> Result<(), StorageError> {
    let path = data_dir.topic_path(id);
    match fs.remove_dir_all(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| StorageError::io("delete", &path, error)),
    }
}
