//! Receiving from a queue: reserve, read, deliver; then wait until there is more.
//!
//! A [`Receiver`] is one place at a queue. It holds no message: what it gives out is leased already. Its steps are not
//! to be interrupted between the delivery and the use of what was delivered; waiting ([`Receiver::more`]) may be.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::queues::arrivals::{Arrivals, Turn};
use crate::broker::queues::queue_name;
use crate::broker::queues::reading::{Reading, read};
use crate::broker::topic_table::TopicTable;
use crate::limits;
use crate::queue::{
    Departure, PendingSettle, QueueCoordinator, QueueReceiver, ReceiverKind, Reserving, Settle, Window,
};
use crate::types::{Offset, TimestampMs, TopicName};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

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
    arrivals: Arc<Arrivals>,
    /// From being woken until it has looked.
    turn: Option<Turn>,
    /// It waits for room, and leaves new records to others.
    has_no_room: bool,
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
        let topics = Arc::clone(&self.topics);
        let arrivals = self.arrivals.of(&place.config, &topics);
        Ok(Receiver { place, queues, topics, arrivals, turn: None, has_no_room: false })
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
        let mut turn = self.turn.take();
        loop {
            let reserving = self.queues.reserve(&self.place, messages_max).await?;
            self.has_no_room = reserving == Reserving::NoRoom;
            if let Some(turn) = turn.take() {
                turn.end(&reserving);
            }
            let Some(reservation) = reserving.messages() else { return Ok(Vec::new()) };
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
    }

    /// Ends when there may be more than [`Self::take`] found last. May be interrupted.
    pub async fn more(&mut self) {
        let Self { place, topics, arrivals, turn, has_no_room, .. } = self;
        if *has_no_room {
            place.stirred().await;
            *has_no_room = false;
            return;
        }
        tokio::select! {
            () = place.stirred() => {}
            next = arrivals.next(&place.config, topics) => *turn = Some(next),
        }
    }

    /// For whoever settles beside.
    pub fn handle(&self) -> ReceiverHandle {
        ReceiverHandle { place: Arc::clone(&self.place), queues: self.queues.clone() }
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
