//! What goes on in the background: segments are sealed by age, synced, and deleted by retention.

use crate::broker::Broker;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

impl Broker {
    /// Looks after every partition each `interval`, until the broker is gone or stops.
    pub fn start_upkeep(self: &Arc<Self>, interval: Duration) {
        self.start_compaction(interval);
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
                // A round that panics must not end retention for good; the panic itself is reported by its hook.
                let round = tokio::task::spawn_blocking(move || broker.upgrade().map(|broker| broker.keep_all()));
                if let Ok(None) = round.await {
                    return;
                }
            }
        });
    }

    /// One round over all partitions.
    fn keep_all(&self) {
        let begun = Instant::now();
        for topic in self.topics.all() {
            for (number, partition) in (0..).zip(&topic.partitions) {
                let Ok(partition) = partition else { continue };
                match partition.keep() {
                    Ok(None) => {}
                    Ok(Some(log_start)) => {
                        tracing::info!(partition = %topic.at(number), %log_start, "retention deleted old segments");
                    }
                    Err(error) => tracing::error!(partition = %topic.at(number), %error, "upkeep failed"),
                }
            }
        }
        self.metrics.upkept(begun.elapsed());
    }
}
