//! Compaction of topics: in the background, slowly, where a pass is due; and at once, when somebody asks for it.
//!
//! One partition at a time in the whole broker, so that the memory for keys is needed once. Stops where it is when the
//! broker does.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::topic_table::{Topic, refuse_internal};
use crate::limits::COMPACTION_BYTES_PER_SECOND;
use crate::partition::PartitionHandle;
use crate::shutdown::Shutdown;
use crate::storage::compaction::CompactionOutcome;
use crate::storage::reader::LogSize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

/// A pass in the background that is so far ahead of its rate waits.
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// What compaction did in one partition.
#[derive(Debug, Clone, Copy)]
pub struct Compacted {
    /// Records that were removed.
    pub removed_records: u64,
    /// The log before.
    pub before: LogSize,
    /// And after.
    pub after: LogSize,
}

impl Broker {
    /// Looks each `interval` for partitions that are due, until the broker is gone or stops.
    pub(in crate::broker) fn start_compaction(self: &Arc<Self>, interval: Duration) {
        let broker = Arc::downgrade(self);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = shutdown.draining() => return,
                }
                let broker = Weak::clone(&broker);
                let round = tokio::task::spawn_blocking(move || broker.upgrade().map(|broker| broker.compact_due()));
                if let Ok(None) = round.await {
                    return;
                }
            }
        });
    }

    /// One round over all partitions.
    fn compact_due(&self) {
        for topic in self.topics.all() {
            if !topic.entry.options.cleanup.compacts() {
                continue;
            }
            for (number, partition) in (0..).zip(&topic.partitions) {
                // Whoever asked for a compaction goes first.
                let (Ok(partition), Ok(_permit)) = (partition, self.compacting.try_acquire()) else { continue };
                if self.shutdown.is_draining() {
                    return;
                }
                self.compact_one(&topic, number, partition);
            }
        }
    }

    fn compact_one(&self, topic: &Topic, number: u32, partition: &PartitionHandle) {
        let mut throttle = Throttle::new(self.shutdown.clone());
        match partition.compact_if_due(self.watch_clock(), &mut |bytes| throttle.spend(bytes)) {
            Ok(None) => {}
            Ok(Some(outcome)) => {
                let (records, elapsed) = (outcome.removed_records, throttle.started.elapsed());
                tracing::info!(partition = %topic.at(number), records, ?elapsed, "compacted");
                self.count_compaction(topic, &outcome, elapsed);
            }
            Err(error) => tracing::error!(partition = %topic.at(number), %error, "compaction failed"),
        }
    }

    fn count_compaction(&self, topic: &Topic, outcome: &CompactionOutcome, elapsed: Duration) {
        let bytes = outcome.bytes_before.saturating_sub(outcome.bytes_after);
        self.metrics.compacted(&topic.name, outcome.removed_records, bytes, elapsed, self.clock.now_ms());
    }

    /// Compacts every partition of a topic now, whatever is due; what became of each, in order.
    pub async fn compact_topic(&self, name: &str) -> Result<Vec<Result<Compacted, BrokerError>>, BrokerError> {
        let topic = self.topic(name)?;
        refuse_internal(&topic.name)?;
        if !topic.entry.options.cleanup.compacts() {
            return Err(BrokerError::NotCompacted { topic: topic.name.clone() });
        }
        let mut results = Vec::with_capacity(topic.partitions.len());
        for number in 0..topic.entry.partitions {
            results.push(self.compact_partition(&topic, number).await);
        }
        Ok(results)
    }

    async fn compact_partition(&self, topic: &Topic, number: u32) -> Result<Compacted, BrokerError> {
        let partition = topic.partition(number)?;
        let permit = Arc::clone(&self.compacting).acquire_owned().await.map_err(|_| BrokerError::Draining)?;
        let (before, started) = (partition.size(), Instant::now());
        let shutdown = self.shutdown.clone();
        // The permit goes where the work is: a client that does not wait for the end does not end it.
        let go_on = move || {
            let _held = &permit;
            !shutdown.is_draining()
        };
        let compacted = partition.compact_now(self.watch_clock(), go_on).await;
        let outcome = compacted.map_err(|error| BrokerError::storage(topic.at(number), error))?.unwrap_or_default();
        self.count_compaction(topic, &outcome, started.elapsed());
        if outcome.is_stopped {
            return Err(BrokerError::Draining);
        }
        Ok(Compacted { removed_records: outcome.removed_records, before, after: partition.size() })
    }
}

/// Holds a pass to [`COMPACTION_BYTES_PER_SECOND`], and stops it with the broker.
struct Throttle {
    shutdown: Shutdown,
    started: Instant,
    spent_bytes: u64,
}

impl Throttle {
    fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, started: Instant::now(), spent_bytes: 0 }
    }

    fn spend(&mut self, bytes: u64) -> bool {
        self.spent_bytes += bytes;
        let due_ms = self.spent_bytes.saturating_mul(1000) / COMPACTION_BYTES_PER_SECOND;
        let ahead = Duration::from_millis(due_ms).saturating_sub(self.started.elapsed());
        if ahead > AHEAD_MAX {
            // On a thread for blocking work, where it is fine to wait.
            Handle::current().block_on(async {
                tokio::select! {
                    () = tokio::time::sleep(ahead) => {}
                    () = self.shutdown.draining() => {}
                }
            });
        }
        !self.shutdown.is_draining()
    }
}
