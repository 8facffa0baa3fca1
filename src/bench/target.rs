//! The system under test, as the workloads see it.
//!
//! A workload opens senders and readers, and knows nothing else of the system: the same workload runs against Millstream
//! and, from `benches/peers`, against others. An implementation uses the system's own client the way its authors
//! advise for the options given, and adds as little as it can: what it costs is counted as the client's cost.

use super::payload::Block;
use super::tally::Tally;
use super::working::WorkTally;
use crate::types::Durability;
use std::error::Error;
use std::future::Future;
use std::time::Duration;

/// A system that takes records and gives them back.
pub trait Target: Clone + Send + Sync + 'static {
    /// What its client says when something fails.
    type Error: Error + Send + Sync + 'static;
    /// A producer with a connection of its own.
    type Sender: Sender<Error = Self::Error>;
    /// A consumer with a connection of its own.
    type Reader: Reader<Error = Self::Error>;

    /// Such as `millstream`; in the report, what bars and lines are named by.
    fn system(&self) -> String;

    /// Its version; empty if it does not say.
    fn version(&self) -> String;

    /// The process to take processor time and memory from, if it is known.
    fn process_id(&self) -> Option<u32>;

    /// Makes an empty topic.
    fn create_topic(&self, topic: &TopicPlan) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Deletes it, with its records.
    fn delete_topic(&self, name: &str) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// How many records the topic holds; `None` if the system cannot say.
    fn record_count(&self, name: &str) -> impl Future<Output = Result<Option<u64>, Self::Error>> + Send;

    /// Opens a sender; connected when this returns.
    fn open_sender(&self, options: &SenderOptions) -> impl Future<Output = Result<Self::Sender, Self::Error>> + Send;

    /// Opens a reader. When this returns, its place is fixed: what is sent from now on, it will see.
    fn open_reader(&self, options: &ReaderOptions) -> impl Future<Output = Result<Self::Reader, Self::Error>> + Send;
}

/// Sends blocks of records.
pub trait Sender: Send + 'static {
    /// See [`Target::Error`].
    type Error: Error;

    /// Puts a block on its way to a partition, and returns without waiting for its acknowledgement. May wait for room.
    fn send(&mut self, partition: u32, block: Block<'_>) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Waits until the oldest block that was sent is acknowledged, all of it. May be dropped while it waits, and called
    /// again.
    fn settled(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Reads records.
pub trait Reader: Send + 'static {
    /// See [`Target::Error`].
    type Error: Error;

    /// Waits for records and shows each of them to the tally. May be dropped while it waits, and called again.
    fn read(&mut self, tally: &mut Tally) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A system that also gives each record to one of many workers.
pub trait QueueTarget: Target {
    /// A worker with a connection of its own.
    type Worker: Worker<Error = Self::Error>;

    /// Makes a queue of the records of a topic, from the first one on.
    fn create_queue(&self, queue: &QueuePlan) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Deletes it.
    fn delete_queue(&self, name: &str) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Opens a worker of a queue.
    fn open_worker(&self, options: &WorkerOptions) -> impl Future<Output = Result<Self::Worker, Self::Error>> + Send;
}

/// Takes messages, and acknowledges each.
pub trait Worker: Send + 'static {
    /// See [`Target::Error`].
    type Error: Error;

    /// Waits for messages or for confirmations of acknowledgements, acknowledges each message, and shows both to the
    /// tally. May be dropped while it waits, and called again.
    fn work(&mut self, tally: &mut WorkTally) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Leaves in order; messages that it was given and did not acknowledge are free again.
    fn leave(self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A topic to be made.
#[derive(Debug, Clone)]
pub struct TopicPlan {
    /// Its name: letters, digits and hyphens.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// What an acknowledgement of it means.
    pub durability: Durability,
}

/// How a sender sends.
#[derive(Debug, Clone)]
pub struct SenderOptions {
    /// To which topic.
    pub topic: String,
    /// Most blocks on their way, when blocks are sent as they are.
    pub in_flight: u32,
    /// Most records of one block.
    pub batch_records: u32,
    /// Bytes of one record.
    pub record_bytes: usize,
    /// `None`: each block is one request, sent at once. Otherwise the client may gather records for this long; zero
    /// means that it sends what it has whenever it can.
    pub linger: Option<Duration>,
    /// Whether a block that is sent again after a lost connection must be appended once.
    pub idempotent: bool,
}

/// What a reader reads.
#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// Which topic, all partitions of it.
    pub topic: String,
    /// As the only member of this consumer group; `None` = alone, without committed offsets.
    pub group: Option<String>,
    /// Where to begin.
    pub from: ReadFrom,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the first record there is.
    Beginning,
    /// Behind the last one.
    End,
}

/// A queue to be made.
#[derive(Debug, Clone)]
pub struct QueuePlan {
    /// Its name: letters, digits and hyphens.
    pub name: String,
    /// Whose records are its messages.
    pub topic: String,
    /// Most messages that all workers together may have.
    pub in_flight: u32,
    /// What an acknowledgement is worth when it was confirmed.
    pub durability: Durability,
}

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// At which queue.
    pub queue: String,
    /// Most messages that it may have, not acknowledged.
    pub prefetch: u32,
    /// Each acknowledgement is a request of its own, rather than one of those for all messages that came together.
    pub ack_each: bool,
}
