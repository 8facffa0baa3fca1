//! New records, as the receivers of a queue hear of them: one of them at a time.
//!
//! A record that is appended is for one receiver. Were all woken, all but one would ask the queue in vain. So one of those
//! that wait watches the logs, and the next takes its place when it goes to look. Whoever was woken owes a look at the
//! queue ([`Turn`]): if it leaves something, has no room, or is gone before it has looked, the turn goes to another.

use crate::broker::topic_table::TopicTable;
use crate::partition::PartitionHandle;
use crate::queue::{QueueConfig, QueueId, QueueName, Reserving};
use crate::types::Offset;
use futures_util::future::{FutureExt as _, select_all};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{Notify, watch};

/// What the receivers of one queue watch together.
#[derive(Debug)]
pub(super) struct Arrivals {
    logs: tokio::sync::Mutex<LogEnds>,
    /// Somebody was woken who did not look, or left something.
    again: Notify,
}

/// The ends of all partitions, as they were when somebody was last woken.
#[derive(Debug)]
struct LogEnds {
    ends: Vec<watch::Receiver<Offset>>,
    /// When topics or partitions change, `ends` are found anew.
    changes: watch::Receiver<u64>,
}

/// The duty to look at the queue. Dropped, it goes to another receiver.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Arrivals>>);

/// Those of all queues that have receivers.
#[derive(Debug, Default)]
pub(in crate::broker) struct ArrivalsByQueue(Mutex<HashMap<(QueueName, QueueId), Weak<Arrivals>>>);

impl ArrivalsByQueue {
    /// Those of one queue. An id is given once, so a queue that was deleted and made anew has others.
    pub(super) fn of(&self, queue: &QueueConfig, topics: &TopicTable) -> Arc<Arrivals> {
        let mut by_queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (queue.name.clone(), queue.id);
        if let Some(arrivals) = by_queue.get(&key).and_then(Weak::upgrade) {
            return arrivals;
        }
        by_queue.retain(|_, arrivals| arrivals.strong_count() > 0);
        let arrivals = Arc::new(Arrivals::new(topics));
        by_queue.insert(key, Arc::downgrade(&arrivals));
        arrivals
    }
}

impl Arrivals {
    fn new(topics: &TopicTable) -> Self {
        let mut changes = topics.watch_changes();
        // Whoever waits first finds out which logs there are.
        changes.mark_changed();
        Self { logs: tokio::sync::Mutex::new(LogEnds { ends: Vec::new(), changes }), again: Notify::new() }
    }

    /// Ends when there may be records that nobody has looked for. May be interrupted.
    pub(super) async fn next(self: &Arc<Self>, queue: &QueueConfig, topics: &TopicTable) -> Turn {
        let mut logs = self.logs.lock().await;
        tokio::select! {
            () = logs.grown() => {}
            () = self.again.notified() => {}
        }
        logs.note(queue, topics);
        Turn(Some(Arc::clone(self)))
    }
}

impl LogEnds {
    /// Ends when a log has grown since [`Self::note`], or there are others.
    async fn grown(&mut self) {
        let Self { ends, changes } = self;
        let changed = async {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            // [`Self::note`] is to see it.
            changes.mark_changed();
        };
        // The end of a deleted topic never moves again.
        let moved = ends.iter_mut().map(|end| {
            let moved = async move {
                if end.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            moved.boxed()
        });
        select_all(moved.chain([changed.boxed()])).await;
    }

    fn note(&mut self, queue: &QueueConfig, topics: &TopicTable) {
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.mark_unchanged();
            let topics: Vec<_> = if queue.patterns.is_empty() {
                queue.topics.iter().filter_map(|topic| topics.get(topic)).collect()
            } else {
                topics.all().into_iter().filter(|topic| queue.covers(&topic.name)).collect()
            };
            let open = topics.iter().flat_map(|topic| topic.partitions.iter().flatten());
            self.ends = open.map(PartitionHandle::watch_high_watermark).collect();
        }
        for end in &mut self.ends {
            end.mark_unchanged();
        }
    }
}

impl Turn {
    /// This came of looking. What may be left goes to another receiver.
    pub(super) fn end(mut self, reserving: &Reserving) {
        let is_for_others = match reserving {
            Reserving::Messages { leaves_more, .. } => *leaves_more,
            Reserving::Nothing => false,
            Reserving::NoRoom => true,
        };
        if !is_for_others {
            self.0 = None;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(arrivals) = &self.0 {
            arrivals.again.notify_one();
        }
    }
}
