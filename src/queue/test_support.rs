//! What the tests of queues share: short ways to name things, logs that are a list, and a journal in memory.

use super::event::Window;
use super::hand_out::{Found, FoundMessage, Reservation};
use super::ids::{PartitionKey, QueueId, QueueName};
use super::logs::{LogBounds, Logs};
use super::policy::{QueueConfig, QueuePolicy, QueueStart};
use crate::partition::journal::{Appending, CutJournal, JournalEntry, JournalError};
use crate::types::{Durability, Offset, TopicId, TopicName, TopicPattern};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(super) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(super) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

/// A partition of the topic that every test's queue is on.
pub(super) fn partition(number: u32) -> PartitionKey {
    PartitionKey { topic_id: TopicId(uuid::Uuid::from_u128(7)), partition: number }
}

/// A queue on topic `orders`, with the policy changed.
pub(super) fn config(name: &str, change: impl FnOnce(&mut QueuePolicy)) -> QueueConfig {
    let mut policy = QueuePolicy::default();
    policy.retry.jitter_percent = 0;
    change(&mut policy);
    QueueConfig {
        id: QueueId(1),
        name: queue(name),
        topics: vec![topic("orders")],
        patterns: Vec::new(),
        start: QueueStart::Earliest,
        filter: None,
        policy,
        paused: false,
        created_at_ms: 0,
    }
}

/// Room for everything.
pub(super) const WIDE: Window = Window { messages: u32::MAX, bytes: u64::MAX };

/// One topic, `orders`, whose partitions hold offsets from a log start to a high watermark.
#[derive(Debug, Clone, Default)]
pub(super) struct ListedLogs(pub Arc<Mutex<Vec<(u64, u64)>>>);

impl ListedLogs {
    pub(super) fn holding(bounds: &[(u64, u64)]) -> Self {
        Self(Arc::new(Mutex::new(bounds.to_vec())))
    }

    pub(super) fn append(&self, partition: usize, records: u64) {
        self.0.lock().unwrap()[partition].1 += records;
    }
}

impl Logs for ListedLogs {
    fn topic(&self, name: &TopicName) -> Option<(TopicId, u32)> {
        let partitions = u32::try_from(self.0.lock().unwrap().len()).unwrap();
        (name.as_str() == "orders").then_some((partition(0).topic_id, partitions))
    }

    fn matching(&self, pattern: &TopicPattern) -> Vec<TopicName> {
        Some(topic("orders")).into_iter().filter(|name| pattern.matches(name)).collect()
    }

    fn bounds(&self, _: &TopicName, at: PartitionKey) -> Option<LogBounds> {
        let (log_start, high_watermark) = *self.0.lock().unwrap().get(at.partition as usize)?;
        Some(LogBounds { log_start: Offset(log_start), high_watermark: Offset(high_watermark) })
    }
}

/// Everything that was reserved, found: records of ten bytes, with keys by offset.
pub(super) fn all_found(reservation: &Reservation, key_of: impl Fn(u64) -> Option<u64>) -> Found {
    let offsets = super::event::offsets(&reservation.ranges);
    let message =
        |offset: Offset| FoundMessage { offset, bytes: 10, key: key_of(offset.0), append_time_ms: 0, ttl_ms: None };
    Found {
        at: reservation.at,
        messages: offsets.map(message).collect(),
        absent: Vec::new(),
        filtered: Vec::new(),
        unreadable: Vec::new(),
        starved: false,
    }
}

/// Keeps entries in memory.
#[derive(Default)]
pub(super) struct MemoryJournal {
    pub entries: Mutex<Vec<JournalEntry>>,
    pub fails: AtomicBool,
    /// What each append was asked for.
    pub asked: Mutex<Vec<Durability>>,
    syncs_held: tokio::sync::watch::Sender<bool>,
}

impl MemoryJournal {
    fn take(&self, entries: Vec<JournalEntry>) -> Result<(), JournalError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(JournalError { journal: "__queues".to_owned(), cause: "the disk is gone".to_owned() });
        }
        self.entries.lock().unwrap().extend(entries);
        Ok(())
    }

    /// From now on nothing that is appended is synced, until it is told otherwise.
    pub(super) fn hold_syncs(&self, held: bool) {
        self.syncs_held.send_replace(held);
    }
}

impl CutJournal for MemoryJournal {
    fn begin(&self, entries: Vec<JournalEntry>, durability: Durability) -> Appending {
        let taken = self.take(entries);
        self.asked.lock().unwrap().push(durability);
        let is_written = taken.is_ok();
        let mut held = self.syncs_held.subscribe();
        Appending {
            written: Box::pin(async move {
                if !is_written {
                    std::future::pending::<()>().await;
                }
            }),
            durable: Box::pin(async move {
                if durability == Durability::Synced {
                    let _ = held.wait_for(|held| !held).await;
                }
                taken
            }),
        }
    }

    fn replace(
        &self,
        snapshot: Vec<JournalEntry>,
    ) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>> {
        Box::pin(async move {
            *self.entries.lock().unwrap() = snapshot;
            Ok(())
        })
    }
}
