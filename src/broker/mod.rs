//! The broker as one thing: every operation a door can ask for, in the words of [`crate::types`].
//!
//! A file or a folder for each family of operations: [`topics`], [`produce`], [`fetch`], [`subscription`], [`groups`] (with
//! [`lag`]), `producers`, [`queues`], [`letters`], [`schedules`], [`requests`], `filtering` for three of them; `startup`,
//! `opener` and `coordinators` open everything, [`upkeep`] looks after it. The state lives below: topics and partitions in
//! the table of `topic_table`, groups and queues in their coordinators. Doors translate to and from these calls and own
//! nothing.

mod coordinators;
pub mod error;
pub mod fetch;
mod filtering;
pub mod groups;
pub mod lag;
pub mod letters;
mod opener;
pub mod produce;
mod producers;
pub mod queues;
mod readings;
pub mod requests;
pub mod schedules;
mod startup;
pub mod subscription;
mod topic_table;
pub mod topics;
pub mod upkeep;

/// The words of the layers below that doors need: they see no further than here.
pub use crate::group::{
    Assignor, CommitError, CommittedOffset, Generation, GroupError, GroupPhase, GroupSummary, Instance,
    MemberDescription, MemberId, Pace, PartitionDescription,
};
pub use crate::partition::{AppendAck, PartitionOffsets};
pub use crate::producer::ProducerError;
pub use crate::queue::{
    BreakerPolicy, BreakerState, Counts as QueueCounts, Departure, MessageStage, Ordering as QueueOrdering,
    PendingSettle, Priority as QueuePriority, QueueConfig, QueueError, QueuePolicy, QueueStart, ReceiverKind,
    RetryPolicy, Settle, SettleError, Verb, Window,
};
pub use crate::request::{Reply, RequestError};
pub use crate::schedule::{
    Entry as ScheduleEntry, Listed as ListedSchedule, Missed, Place, Recurrence, Schedule, ScheduleError, ScheduleId,
    Stage as ScheduleStage,
};
pub use crate::storage::StorageError;
pub use crate::storage::damage::DamagedRange;
pub use crate::storage::log::{BatchRefusal, DuplicateRecord};
pub use crate::storage::reader::StoredBatch;
pub use error::BrokerError;
pub use startup::BrokerOptions;
pub use topic_table::Topic;
pub use upkeep::ClockStatus;
pub use upkeep::disk_watch::DiskStatus;
pub use upkeep::scrubber::{ScrubOptions, ScrubStatus};

use crate::clock::SharedClock;
use crate::metrics::{GroupReadings, LetterReading, Metrics, QueueReading, QueueTotals, ScheduleReading};
use crate::partition::StoragePool;
use crate::request::Requests;
use crate::shutdown::Shutdown;
use crate::storage::StorageContext;
use crate::storage::data_dir::DataDir;
use crate::storage::file_system::FileSystem;
use crate::topic::Catalog;
use crate::types::TimestampMs;
use coordinators::Coordinators;
use queues::arrivals::ArrivalsByQueue;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use topic_table::TopicTable;
use upkeep::Upkeep;
use upkeep::disk_watch::DiskWatch;
use upkeep::scrubber::Scrubber;

/// An open broker.
#[derive(Debug)]
pub struct Broker {
    options: BrokerOptions,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    started_at_ms: TimestampMs,
    fs: Arc<dyn FileSystem>,
    context: StorageContext,
    topics: Arc<TopicTable>,
    /// Held while the catalog is changed: one change at a time, durable before it shows.
    catalog: tokio::sync::Mutex<Catalog>,
    coordinators: Coordinators,
    /// Calls that wait for a reply.
    requests: Arc<Requests>,
    upkeep: Upkeep,
    disk: Arc<DiskWatch>,
    scrubber: Arc<Scrubber>,
    /// Deletions of records that may wait for the disk at the same time.
    deletions: Semaphore,
    /// Measurements of lag that may.
    lag_measurements: Arc<Semaphore>,
    /// Topics whose dead letters are redriven or purged now.
    letters_at_work: Arc<letters::LettersAtWork>,
    arrivals: ArrivalsByQueue,
    /// The groups as metrics last saw them.
    group_readings: Mutex<GroupReadings>,
    /// And the queues.
    queue_readings: Mutex<(Vec<QueueReading>, Vec<QueueTotals>)>,
    /// And the topics of dead letters.
    letter_readings: Mutex<Vec<LetterReading>>,
    /// And the schedules.
    schedule_reading: Mutex<ScheduleReading>,
    /// Budget of record bytes that were received and not answered, in units of [`produce::PERMIT_BYTES`].
    in_flight: Arc<Semaphore>,
    pool: StoragePool,
    /// One pass of compaction at a time, which bounds its memory.
    compacting: Arc<Semaphore>,
    /// Last, so that the lock of the directory is given up when everything else is gone.
    data_dir: DataDir,
}

impl Broker {
    /// The identity of the data directory.
    pub fn broker_id(&self) -> uuid::Uuid {
        self.data_dir.broker_id()
    }

    /// When the broker was opened.
    pub fn started_at_ms(&self) -> TimestampMs {
        self.started_at_ms
    }

    /// How it was opened.
    pub fn options(&self) -> &BrokerOptions {
        &self.options
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The wish to stop.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Ends with the cause when a log fails in a way that only a restart mends.
    pub fn failure(&self) -> impl Future<Output = String> + Send + 'static {
        self.pool.failure()
    }
}
