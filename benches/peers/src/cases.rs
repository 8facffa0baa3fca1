//! The cases: what is done to each system, with how many records of which size, which systems can do it, and what is
//! compared.

use super::figures::Figure;
use super::systems::System;
use clap::ValueEnum;
use millstream::bench::workload::queue::{Messages, QueueWork};
use millstream::bench::workload::{Length, Load, Workload};
use millstream::types::Durability;

/// Bytes of a record, and of one of a case that says `1k`.
const RECORD_BYTES: usize = 100;
const LARGE_RECORD_BYTES: usize = 1_024;

/// Those who work at a queue, and most messages of each that are not acknowledged.
const WORKERS: u32 = 4;
const PREFETCH: u32 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Case {
    ProduceWritten,
    ProduceSynced,
    #[value(name = "produce-1k-written")]
    ProduceLargeWritten,
    #[value(name = "produce-1k-synced")]
    ProduceLargeSynced,
    /// A backlog is read.
    Consume,
    #[value(name = "consume-1k")]
    ConsumeLarge,
    /// One record on its way, written.
    OneInFlight,
    OneInFlightSynced,
    /// 64 producers with one record each, synced.
    SmallProducers,
    /// 20,000 records a second, written.
    EndToEnd,
    /// 1,000 records a second, written.
    EndToEndSlow,
    /// To 8 consumer groups.
    Fanout,
    /// A backlog is worked off by 4 workers, each message acknowledged; written.
    QueueWritten,
    /// The same, synced.
    QueueSynced,
    /// The same, written, and each acknowledgement is a request of its own where there is another way.
    QueueAckEach,
    /// 1,000 messages a second to 4 workers, written.
    QueueEndToEnd,
    /// Time to start; memory when idle and with 1,000 topics.
    Topics,
    /// Memory after 1,000,000 messages.
    Messages,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Topic(Workload),
    Queue(QueueWork),
    Resources(Resource),
}

/// What a server is given before its memory is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Topics,
    Messages,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy)]
pub struct Amounts {
    /// What readers find.
    pub backlog_bytes: u64,
    /// What workers find.
    pub queue_messages: u64,
    /// What memory is read after.
    pub messages: u64,
    pub topics: u32,
}

impl Amounts {
    /// Those whose figures mean something.
    pub const FULL: Self =
        Self { backlog_bytes: 64 << 20, queue_messages: 200_000, messages: 1_000_000, topics: 1_000 };

    /// To see whether everything works.
    pub const SMALL: Self = Self { backlog_bytes: 1 << 20, queue_messages: 5_000, messages: 10_000, topics: 20 };
}

impl Case {
    pub fn work(self, amounts: Amounts) -> Work {
        let queue = |ack_each, messages| QueueWork { workers: WORKERS, prefetch: PREFETCH, ack_each, messages };
        let backlog = Messages::Backlog(amounts.queue_messages);
        match self {
            Self::ProduceWritten
            | Self::ProduceSynced
            | Self::ProduceLargeWritten
            | Self::ProduceLargeSynced
            | Self::OneInFlight
            | Self::OneInFlightSynced
            | Self::SmallProducers => Work::Topic(Workload::Produce),
            Self::Consume | Self::ConsumeLarge => {
                Work::Topic(Workload::Consume { backlog_bytes: amounts.backlog_bytes, readers: 1, in_groups: false })
            }
            Self::EndToEnd => Work::Topic(Workload::EndToEnd { rate: 20_000 }),
            Self::EndToEndSlow => Work::Topic(Workload::EndToEnd { rate: 1_000 }),
            Self::Fanout => Work::Topic(Workload::Fanout { groups: 8 }),
            Self::QueueWritten | Self::QueueSynced => Work::Queue(queue(false, backlog)),
            Self::QueueAckEach => Work::Queue(queue(true, backlog)),
            Self::QueueEndToEnd => Work::Queue(queue(false, Messages::Rate(1_000))),
            Self::Topics => Work::Resources(Resource::Topics),
            Self::Messages => Work::Resources(Resource::Messages),
        }
    }

    pub fn durability(self) -> Durability {
        match self {
            Self::ProduceSynced
            | Self::ProduceLargeSynced
            | Self::OneInFlightSynced
            | Self::SmallProducers
            | Self::QueueSynced => Durability::Synced,
            _ => Durability::Written,
        }
    }

    /// How records are sent; a batch is so many bytes of them.
    pub fn load(self, batch_bytes: u64, length: Length) -> Load {
        let is_large = matches!(self, Self::ProduceLargeWritten | Self::ProduceLargeSynced | Self::ConsumeLarge);
        let record_bytes = if is_large { LARGE_RECORD_BYTES } else { RECORD_BYTES };
        let full = u32::try_from(batch_bytes / record_bytes as u64).unwrap_or(u32::MAX).max(1);
        let (producers, in_flight, batch_records) = match self {
            Self::OneInFlight | Self::OneInFlightSynced => (1, 1, 1),
            Self::SmallProducers => (64, 1, 1),
            _ => (1, 4, full),
        };
        Load {
            record_bytes,
            batch_records,
            linger: None,
            in_flight,
            producers,
            partitions: 1,
            durability: self.durability(),
            idempotent: true,
            length,
        }
    }

    /// Its line in a table.
    pub fn title(self) -> &'static str {
        match self {
            Self::ProduceWritten => "produce 100 B, written",
            Self::ProduceSynced => "produce 100 B, synced",
            Self::ProduceLargeWritten => "produce 1 KiB, written",
            Self::ProduceLargeSynced => "produce 1 KiB, synced",
            Self::Consume => "backlog read, 100 B",
            Self::ConsumeLarge => "backlog read, 1 KiB",
            Self::OneInFlight => "one in flight, written",
            Self::OneInFlightSynced => "one in flight, synced",
            Self::SmallProducers => "64 producers, one each, synced",
            Self::EndToEnd => "end to end, 20,000/s",
            Self::EndToEndSlow => "end to end, 1,000/s",
            Self::Fanout => "fan-out to 8 groups",
            Self::QueueWritten => "queue, 4 workers, written",
            Self::QueueSynced => "queue, 4 workers, synced",
            Self::QueueAckEach => "queue, one request an acknowledgement",
            Self::QueueEndToEnd => "queue, end to end, 1,000/s",
            Self::Topics => "server, 1,000 topics",
            Self::Messages => "server, 1,000,000 messages",
        }
    }

    /// What of it is compared. The latency of a full pipe says nothing that its rate does not.
    pub fn figures(self) -> &'static [Figure] {
        match self {
            Self::OneInFlight | Self::OneInFlightSynced | Self::EndToEnd | Self::EndToEndSlow | Self::QueueEndToEnd => {
                &[Figure::P50Us, Figure::P99Us, Figure::BrokerCpuUs]
            }
            Self::Topics => {
                &[Figure::StartMs, Figure::IdlePssMib, Figure::IdleRssMib, Figure::TopicsPssMib, Figure::TopicsRssMib]
            }
            Self::Messages => &[Figure::FilledPssMib, Figure::FilledRssMib],
            _ => &[Figure::RecordsPerS, Figure::BrokerCpuUs],
        }
    }

    pub fn is_for(self, system: System) -> bool {
        match (system, self.work(Amounts::FULL)) {
            (System::File, work) => work == Work::Topic(Workload::Produce),
            // They confirm before they sync, and are no queues.
            (System::RabbitStream | System::Null, Work::Queue(_)) => false,
            (System::RabbitStream, _) => self.durability() == Durability::Written,
            // What was read is gone.
            (System::RabbitQuorum | System::RabbitClassic, work) => {
                !matches!(work, Work::Topic(Workload::Consume { .. }))
            }
            _ => true,
        }
    }
}
