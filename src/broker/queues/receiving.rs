//! Receiving from a queue: reserve, read, deliver; then wait until there is more.
//!
//! A [`Receiver`] is one place at a queue. It holds no message: what it gives out is leased already. Its steps are not
//! to be interrupted between the delivery and the use of what was delivered; waiting ([`Receiver::more`]) may be.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::queues::queue_name;
use crate::broker::queues::reading::{Reading, read};
use crate::broker::topic_table::TopicTable;
use crate::limits;
use crate::queue::{Departure, PendingSettle, QueueCoordinator, QueueReceiver, ReceiverKind, Settle, Window};
use crate::types::{Offset, TimestampMs, TopicName};
use bytes::Bytes;
use futures_util::future::{FutureExt as _, select_all};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A message that a receiver may work on.
#[derive(Debug, Clone)]
pub struct Received {
    /// What settles it.
    pub token: Bytes,
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: u32,
    /// Its place there.
    pub offset: Offset,
    /// When it was appended.
    pub append_time_ms: TimestampMs,
    /// How many times it was handed out, this time included.
    pub attempt: u32,
    /// When for the first time.
    pub first_delivered_ms: TimestampMs,
    /// The encoded record.
    pub record: Bytes,
}

/// Takes messages of one queue.
#[derive(Debug)]
pub struct Receiver {
    place: Arc<QueueReceiver>,
    queues: QueueCoordinator,
    topics: Arc<TopicTable>,
    /// The ends of all partitions, as they were when it last looked for messages.
    ends: Vec<watch::Receiver<Offset>>,
    /// When topics or partitions change, `ends` are found anew.
    changes: watch::Receiver<u64>,
}

/// The same place at the queue, for whoever does not wait for messages.
#[derive(Debug, Clone)]
pub struct ReceiverHandle {
    place: Arc<QueueReceiver>,
    queues: QueueCoordinator,
}

impl Broker {
    /// Takes a place at a queue.
    pub async fn open_receiver(
        &self,
        queue: &str,
        kind: ReceiverKind,
        window: Window,
    ) -> Result<Receiver, BrokerError> {
        let queues = self.queue_coordinator()?.clone();
        let place = Arc::new(queues.open(queue_name(queue)?, kind, window).await?);
        let (topics, mut changes) = (Arc::clone(&self.topics), self.topics.watch_changes());
        changes.mark_changed();
        Ok(Receiver { place, queues, topics, ends: Vec::new(), changes })
    }

    /// Takes messages once: waits up to `wait_max` for the first.
    pub async fn receive(
        &self,
        queue: &str,
        messages_max: u32,
        bytes_max: u64,
        wait_max: Duration,
    ) -> Result<Vec<Received>, BrokerError> {
        let deadline = tokio::time::Instant::now() + wait_max;
        let window = Window { messages: messages_max, bytes: bytes_max };
        let mut place = self.open_receiver(queue, ReceiverKind::Call, window).await?;
        loop {
            if self.shutdown.is_draining() {
                return Ok(Vec::new());
            }
            let received = place.take(messages_max, bytes_max).await?;
            if !received.is_empty() {
                return Ok(received);
            }
            tokio::select! {
                () = place.more() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Vec::new()),
                () = self.shutdown.draining() => {}
            }
        }
    }
}

impl Receiver {
    /// What can be had now: messages of one partition, about `bytes_max` bytes of them. Empty: wait for more.
    pub async fn take(&mut self, messages_max: u32, bytes_max: u64) -> Result<Vec<Received>, BrokerError> {
        self.note_ends();
        while let Some(reservation) = self.queues.reserve(&self.place, messages_max).await? {
            let Reading { found, records, is_cut_short, .. } = read(&self.topics, &reservation, bytes_max).await;
            let leased = self.queues.deliver(&self.place, found).await?;
            if leased.is_empty() && is_cut_short {
                // There is a long way without a match: whoever called may have something else to do. What was given back
                // has stirred the queue, so it is gone on with at once.
                return Ok(Vec::new());
            }
            if leased.is_empty() {
                // All of it is behind others of its key, or gone, or does not match; what is behind that may be there.
                continue;
            }
            let mut records = records.into_iter();
            let received = leased.into_iter().filter_map(|leased| {
                let record = records.find(|record| record.offset == leased.offset)?;
                Some(Received {
                    token: leased.token,
                    topic: reservation.topic.clone(),
                    partition: reservation.at.partition,
                    offset: leased.offset,
                    append_time_ms: record.append_time_ms,
                    attempt: leased.attempt,
                    first_delivered_ms: leased.first_delivered_ms,
                    record: record.body,
                })
            });
            return Ok(received.collect());
        }
        Ok(Vec::new())
    }

    /// Ends when there may be more than [`Self::take`] found last. May be interrupted.
    pub async fn more(&mut self) {
        let Self { place, ends, changes, .. } = self;
        let appended = async {
            if ends.is_empty() {
                return std::future::pending().await;
            }
            // The end of a deleted topic never moves again.
            let moved = ends.iter_mut().map(|end| {
                async move {
                    if end.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                .boxed()
            });
            select_all(moved).await;
        };
        tokio::select! {
            () = place.stirred() => {}
            () = appended => {}
            _ = changes.changed() => changes.mark_changed(),
        }
    }

    /// For whoever settles beside.
    pub fn handle(&self) -> ReceiverHandle {
        ReceiverHandle { place: Arc::clone(&self.place), queues: self.queues.clone() }
    }

    fn note_ends(&mut self) {
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.mark_unchanged();
            let config = &self.place.config;
            let topics: Vec<_> = if config.patterns.is_empty() {
                config.topics.iter().filter_map(|topic| self.topics.get(topic)).collect()
            } else {
                self.topics.all().into_iter().filter(|topic| config.covers(&topic.name)).collect()
            };
            let ends = topics.iter().flat_map(|topic| {
                let open = topic.partitions.iter().flatten();
                open.map(crate::partition::PartitionHandle::watch_high_watermark).collect::<Vec<_>>()
            });
            self.ends = ends.collect();
        }
        for end in &mut self.ends {
            end.mark_unchanged();
        }
    }
}

impl ReceiverHandle {
    /// Lets the receiver have more at a time.
    pub async fn widen(&self, more: Window) -> Result<(), BrokerError> {
        Ok(self.queues.widen(&self.place, more).await?)
    }

    /// Sends verbs on their way; their order among those of this handle is fixed when this returns. Those of each request
    /// were checked by [`check_settles`].
    pub async fn begin_settle(&self, settles: Vec<Settle>) -> Result<PendingSettle, BrokerError> {
        Ok(self.queues.begin_settle(self.place.queue.clone(), settles).await?)
    }

    /// Gives up the place. What it had is given back, uncounted, if that is in order.
    pub async fn close(&self, departure: Departure) -> Result<(), BrokerError> {
        Ok(self.queues.close(&self.place, departure).await?)
    }
}

/// One call settles between 1 and [`limits::SETTLES_MAX`] messages.
pub fn check_settles(settles: &[Settle]) -> Result<(), BrokerError> {
    if (1..=limits::SETTLES_MAX).contains(&settles.len()) {
        return Ok(());
    }
    let what = format!("{} were given; 1 to {} are allowed", settles.len(), limits::SETTLES_MAX);
    Err(BrokerError::invalid("settlements", what))
}
