//! The cases: what is done to each system, with how many records of which size, and which systems can do it.

use super::systems::System;
use clap::ValueEnum;
use millstream::bench::workload::queue::{Messages, QueueWork};
use millstream::bench::workload::{Length, Load, Workload};
use millstream::types::Durability;

/// Bytes of a record, except where a case says `1k`.
const RECORD_BYTES: usize = 100;

/// Those who work at a queue, and most messages of each that are not acknowledged.
const WORKERS: u32 = 4;
const PREFETCH: u32 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Case {
    ProduceWritten,
    ProduceSynced,
    /// One record on its way, written.
    OneInFlight,
    /// 64 producers with one record each, synced.
    SmallProducers,
    Consume,
    /// 20,000 records a second, written.
    EndToEnd,
    Fanout,
    /// A backlog is worked off by 4 workers, each message acknowledged; written.
    QueueWritten,
    /// The same, synced.
    QueueSynced,
    /// The same, written, and each acknowledgement is a request of its own where there is another way.
    QueueAckEach,
    /// 1,000 messages a second to 4 workers, written.
    QueueEndToEnd,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Topic(Workload),
    Queue(QueueWork),
}

/// How much there is to do.
#[derive(Debug, Clone, Copy)]
pub struct Amounts {
    /// What readers find.
    pub backlog_bytes: u64,
    /// What workers find.
    pub queue_messages: u64,
}

impl Amounts {
    /// Those whose figures mean something.
    pub const FULL: Self = Self { backlog_bytes: 64 << 20, queue_messages: 200_000 };

    /// To see whether everything works.
    pub const SMALL: Self = Self { backlog_bytes: 1 << 20, queue_messages: 5_000 };
}

impl Case {
    pub fn work(self, amounts: Amounts) -> Work {
        let queue = |ack_each, messages| QueueWork { workers: WORKERS, prefetch: PREFETCH, ack_each, messages };
        let backlog = Messages::Backlog(amounts.queue_messages);
        match self {
            Self::ProduceWritten | Self::ProduceSynced | Self::OneInFlight | Self::SmallProducers => {
                Work::Topic(Workload::Produce)
            }
            Self::Consume => Work::Topic(Workload::Consume { backlog_bytes: amounts.backlog_bytes, readers: 1 }),
            Self::EndToEnd => Work::Topic(Workload::EndToEnd { rate: 20_000 }),
            Self::Fanout => Work::Topic(Workload::Fanout { groups: 8 }),
            Self::QueueWritten | Self::QueueSynced => Work::Queue(queue(false, backlog)),
            Self::QueueAckEach => Work::Queue(queue(true, backlog)),
            Self::QueueEndToEnd => Work::Queue(queue(false, Messages::Rate(1_000))),
        }
    }

    pub fn durability(self) -> Durability {
        match self {
            Self::ProduceSynced | Self::SmallProducers | Self::QueueSynced => Durability::Synced,
            _ => Durability::Written,
        }
    }

    /// How records are sent; a batch is so many bytes of them.
    pub fn load(self, batch_bytes: u64, length: Length) -> Load {
        let record_bytes = RECORD_BYTES;
        let full = u32::try_from(batch_bytes / record_bytes as u64).unwrap_or(u32::MAX).max(1);
        let (producers, in_flight, batch_records) = match self {
            Self::OneInFlight => (1, 1, 1),
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

    pub fn is_for(self, system: System) -> bool {
        match (system, self.work(Amounts::FULL)) {
            (System::File, work) => work == Work::Topic(Workload::Produce),
            (System::Null, Work::Queue(_)) => false,
            // They confirm before they sync, and are no queues.
            (System::RabbitStream, work) => self.durability() == Durability::Written && matches!(work, Work::Topic(_)),
            // What was read is gone.
            (System::RabbitQuorum | System::RabbitClassic, Work::Topic(Workload::Consume { .. })) => false,
            _ => true,
        }
    }
}
