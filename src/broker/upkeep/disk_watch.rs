//! How much of the disk is free, and whether records are still taken.
//!
//! Below a mark that the operator chose, produce is refused; reads, commits and deletions go on, and so does retention,
//! which is what makes room. Looked at once a second, after every deletion and after every append that found no room,
//! never on the way of a record: that way reads one flag.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::metrics::Metrics;
use crate::storage::file_system::FileSystem;
use crate::types::TopicPartition;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often the disk is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How the disk of the data directory stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskStatus {
    /// Free bytes, as last seen.
    pub free_bytes: u64,
    /// Below this, records are refused.
    pub free_bytes_min: u64,
    /// Whether they are refused now.
    pub refuses_produce: bool,
}

/// The watch over the free bytes.
#[derive(Debug)]
pub(in crate::broker) struct DiskWatch {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    metrics: Arc<Metrics>,
    free_bytes_min: u64,
    free_bytes: AtomicU64,
    refuses: AtomicBool,
}

/// Whether to refuse with so much free. Once it has begun, a quarter of the mark must be free above it before it ends:
/// at the mark itself the two would take turns.
fn must_refuse(refuses: bool, free_bytes: u64, free_bytes_min: u64) -> bool {
    let margin = if refuses { free_bytes_min / 4 } else { 0 };
    free_bytes < free_bytes_min.saturating_add(margin)
}

impl DiskWatch {
    pub(in crate::broker) fn new(
        fs: Arc<dyn FileSystem>,
        path: PathBuf,
        metrics: Arc<Metrics>,
        free_bytes_min: u64,
    ) -> Self {
        let (free_bytes, refuses) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        let watch = Self { fs, path, metrics, free_bytes_min, free_bytes, refuses };
        watch.look();
        watch
    }

    /// Asks the file system, and changes its mind if need be.
    pub(in crate::broker) fn look(&self) {
        self.decide(self.refuses.load(Ordering::Acquire));
    }

    /// An append found no room. That near the mark, all are refused; if there is more room than that, it was a matter
    /// of this one.
    pub(in crate::broker) fn look_after_refusal(&self) {
        self.decide(true);
    }

    fn decide(&self, refused_before: bool) {
        let free_bytes = match self.fs.free_bytes(&self.path) {
            Ok(free_bytes) => free_bytes,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot ask how much of the disk is free");
                return;
            }
        };
        let refuses = must_refuse(refused_before, free_bytes, self.free_bytes_min);
        self.free_bytes.store(free_bytes, Ordering::Release);
        let before = self.refuses.swap(refuses, Ordering::AcqRel);
        self.metrics.set_disk(free_bytes, refuses);
        let free_bytes_min = self.free_bytes_min;
        match (before, refuses) {
            (false, true) => tracing::warn!(
                free_bytes,
                free_bytes_min,
                "the disk is nearly full: records are refused until there is space again; all else goes on"
            ),
            (true, false) => {
                tracing::warn!(free_bytes, free_bytes_min, "there is space on the disk again: records are taken");
            }
            _ => {}
        }
    }

    pub(in crate::broker) fn status(&self) -> DiskStatus {
        DiskStatus {
            free_bytes: self.free_bytes.load(Ordering::Acquire),
            free_bytes_min: self.free_bytes_min,
            refuses_produce: self.refuses.load(Ordering::Acquire),
        }
    }

    /// Refuses records for `at` while there is no room for them.
    pub(in crate::broker) fn admit(&self, at: impl FnOnce() -> TopicPartition) -> Result<(), BrokerError> {
        let DiskStatus { free_bytes, free_bytes_min, refuses_produce } = self.status();
        if refuses_produce { Err(BrokerError::DiskLow { at: at(), free_bytes, free_bytes_min }) } else { Ok(()) }
    }
}

impl Broker {
    /// How the disk stands.
    pub fn disk_status(&self) -> DiskStatus {
        self.disk.status()
    }

    /// Looks at the disk once a second, until the broker is gone or stops.
    pub(in crate::broker) fn start_disk_watch(self: &Arc<Self>) {
        let (broker, shutdown) = (Arc::downgrade(self), self.shutdown.clone());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = shutdown.draining() => return,
                }
                let Some(disk) = broker.upgrade().map(|broker| Arc::clone(&broker.disk)) else { return };
                let _ = tokio::task::spawn_blocking(move || disk.look()).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_ends_only_well_above_where_it_begins() {
        let mark = 8 << 20;
        assert!(!must_refuse(false, mark, mark));
        assert!(must_refuse(false, mark - 1, mark));
        assert!(must_refuse(true, mark + mark / 4 - 1, mark));
        assert!(!must_refuse(true, mark + mark / 4, mark));
    }
}
