//! What the tests of groups share: short ways to name things, and a journal in memory that can be slow or fail.

use super::commit::OffsetToCommit;
use super::ids::GroupName;
use super::instance::Instance;
use super::membership::{Assignor, JoinRequest};
use super::topics::{TopicPartitions, TopicsSnapshot};
use crate::partition::journal::{Journal, JournalEntry, JournalError};
use crate::types::{Offset, TopicId, TopicName, TopicPartition, TopicPattern};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Records in every partition, for tests that do not care.
pub(super) const HIGH_WATERMARK: Offset = Offset(1_000);

pub(super) fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

pub(super) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub(super) fn place(name: &str, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(name), partition }
}

/// Topics by name, identity and number of partitions.
pub(super) fn topics(topics: &[(&str, u128, u32)]) -> Arc<TopicsSnapshot> {
    let entry = |&(name, id, partitions): &(&str, u128, u32)| {
        (topic(name), TopicPartitions { id: TopicId(uuid::Uuid::from_u128(id)), partitions })
    };
    Arc::new(topics.iter().map(entry).collect())
}

pub(super) fn joining(name: &str, topics: &[&str]) -> JoinRequest {
    JoinRequest {
        group: group(name),
        topics: topics.iter().map(|name| topic(name)).collect(),
        patterns: Vec::new(),
        client_id: "client".to_owned(),
        peer: "10.0.0.1:5000".to_owned(),
        instance: None,
        assignor: Assignor::default(),
        filter: None,
    }
}

/// A wish to join for every topic that a pattern matches.
pub(super) fn joining_by(name: &str, pattern: &str) -> JoinRequest {
    JoinRequest { patterns: vec![TopicPattern::new(pattern).unwrap()], ..joining(name, &[]) }
}

/// How long instances of [`joining_as`] may be away.
pub(super) const SESSION_TIMEOUT_MS: u64 = 30_000;

/// The same with an instance id.
pub(super) fn joining_as(name: &str, topics: &[&str], instance: &str) -> JoinRequest {
    let instance = Instance { id: instance.to_owned(), session_timeout_ms: SESSION_TIMEOUT_MS };
    JoinRequest { instance: Some(instance), ..joining(name, topics) }
}

/// An offset in a log that holds records 0 to `HIGH_WATERMARK`.
pub(super) fn offset_at(name: &str, partition: u32, offset: u64) -> OffsetToCommit {
    OffsetToCommit {
        topic: topic(name),
        partition,
        offset: Offset(offset),
        metadata: String::new(),
        high_watermark: HIGH_WATERMARK,
        log_start: Offset::ZERO,
    }
}

/// Keeps entries in memory. Each append waits for a permit of `gate`, so a test decides when something is durable.
pub(super) struct MemoryJournal {
    batches: Mutex<Vec<Vec<JournalEntry>>>,
    pub gate: Semaphore,
    pub fails: AtomicBool,
}

impl MemoryJournal {
    /// A journal that makes everything durable at once.
    pub(super) fn open() -> Arc<Self> {
        Self::with_permits(Semaphore::MAX_PERMITS)
    }

    /// A journal found on disk, with these entries.
    pub(super) fn open_with(entries: Vec<JournalEntry>) -> Arc<Self> {
        let journal = Self::open();
        journal.batches.lock().unwrap().push(entries);
        journal
    }

    /// A journal in which every append waits until the test adds a permit to `gate`.
    pub(super) fn slow() -> Arc<Self> {
        Self::with_permits(0)
    }

    fn with_permits(permits: usize) -> Arc<Self> {
        let (batches, fails) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { batches, gate: Semaphore::new(permits), fails })
    }

    /// What is durable, append by append.
    pub(super) fn batches(&self) -> Vec<Vec<JournalEntry>> {
        self.batches.lock().unwrap().clone()
    }

    /// What is durable, oldest first.
    pub(super) fn entries(&self) -> Vec<JournalEntry> {
        self.batches().concat()
    }
}

impl Journal for MemoryJournal {
    fn append(
        &self,
        entries: Vec<JournalEntry>,
    ) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>> {
        Box::pin(async move {
            self.gate.acquire().await.unwrap().forget();
            if self.fails.load(Ordering::SeqCst) {
                return Err(JournalError { journal: "__groups".to_owned(), cause: "the disk is gone".to_owned() });
            }
            self.batches.lock().unwrap().push(entries);
            Ok(())
        })
    }
}
