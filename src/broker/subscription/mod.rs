//! A subscription: records of many partitions, delivered as they come, within the credit the client grants.
//!
//! With a group, the cursors follow what the coordinator assigns and revokes; without, they cover every partition asked
//! for, also those added later. [`Subscription::next`] decides what the client is told next; it may be dropped at any
//! await without losing anything, so the door can wait for the client and for records at the same time.

mod credit;
mod cursors;
mod request;

pub use credit::Credit;
pub use cursors::OffsetExpired;
pub use request::OpenSubscription;

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::groups::{Commit, RefusedCommits, group_name};
use crate::group::{Generation, GroupError, JoinRequest, MemberEvent, MemberId, Membership, RemovalReason};
use crate::storage::reader::StoredBatch;
use crate::types::{Offset, Position, TopicName, TopicPartition};
use cursors::{Cursors, Reading};
use request::OpenedTopic;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// When nothing else is sent for so long, a heartbeat is.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// What the client is told next.
#[derive(Debug)]
pub enum Delivery {
    /// Partitions that are this stream's from now on, and where each begins.
    Assigned {
        /// Of the group; 0 without one.
        generation: Generation,
        /// With the first offset of each.
        partitions: Vec<(TopicPartition, Offset)>,
    },
    /// Partitions that this stream loses. No records of them follow.
    Revoked {
        /// To be named in the release.
        generation: Generation,
        /// Which ones.
        partitions: Vec<TopicPartition>,
    },
    /// The group goes on elsewhere: records from there follow.
    Seek {
        /// To be named in the release.
        generation: Generation,
        /// With the offset each goes on at.
        partitions: Vec<(TopicPartition, Offset)>,
    },
    /// The group is paused, or goes on.
    PauseChanged {
        /// Whether it is.
        paused: bool,
    },
    /// Records of one partition.
    Records {
        /// Which one.
        partition: TopicPartition,
        /// In order. With a filter there may be none: then only the place is told.
        batches: Vec<StoredBatch>,
        /// Where reading goes on.
        next_offset: Offset,
        /// How far the log goes now.
        high_watermark: Offset,
    },
    /// Nothing happened for a while; how far each log goes.
    Heartbeat(Vec<(TopicPartition, Offset)>),
    /// The broker is stopping.
    Drain,
}

/// One client's stream of records.
#[derive(Debug)]
pub struct Subscription {
    broker: Arc<Broker>,
    request: OpenSubscription,
    topics: Vec<OpenedTopic>,
    membership: Option<Membership>,
    cursors: Cursors,
    credit: Option<Credit>,
    /// The group is: nothing is read.
    is_paused: bool,
    topic_changes: watch::Receiver<u64>,
    /// What the coordinator said and was not carried out yet.
    event: Option<MemberEvent>,
    /// Without a group: whether partitions may have been added since the last look.
    look_for_partitions: bool,
    /// Without a group: partitions in which reading has begun and of which the client was not told yet.
    begun: Vec<(TopicPartition, Offset)>,
    last_delivery: Instant,
    told_to_drain: bool,
}

impl Subscription {
    /// Opens a subscription; with a group, joins it.
    pub async fn open(broker: Arc<Broker>, request: OpenSubscription) -> Result<Self, BrokerError> {
        let topic_changes = broker.topics.watch_changes();
        let topics = request.open_topics(&broker)?;
        let membership = if request.group.is_empty() { None } else { Some(join(&broker, &request).await?) };
        Ok(Self {
            look_for_partitions: membership.is_none(),
            credit: request.credit,
            is_paused: false,
            broker,
            request,
            topics,
            membership,
            cursors: Cursors::default(),
            event: None,
            begun: Vec::new(),
            topic_changes,
            last_delivery: Instant::now(),
            told_to_drain: false,
        })
    }

    /// Names this member in its group; `None` without a group.
    pub fn member_id(&self) -> Option<&MemberId> {
        self.membership.as_ref().map(|membership| &membership.member_id)
    }

    /// Adds to what may be sent.
    pub fn grant(&mut self, more: Credit) -> Result<(), BrokerError> {
        let Some(credit) = &mut self.credit else {
            let what = "the stream was opened without a credit limit; give one in open to use credit";
            return Err(BrokerError::invalid("credit", what));
        };
        credit.add(more);
        Ok(())
    }

    /// Commits offsets as this member.
    pub async fn commit(&mut self, commits: Vec<Commit>) -> Result<RefusedCommits, BrokerError> {
        let member = self.member("commit")?.clone();
        let committed = self.broker.commit(&self.request.group, Some((member, None)), commits).await;
        committed.map_err(|refused| self.why_refused(refused))
    }

    /// The client has stopped working on what was revoked in `generation`, or on what came before the seek of it.
    pub async fn release(&mut self, generation: Generation) -> Result<(), BrokerError> {
        let member = self.member("released")?.clone();
        let group = group_name(&self.request.group)?;
        let released = self.broker.groups()?.release(group, member, generation).await;
        released.map_err(|refused| self.why_refused(refused.into()))
    }

    /// A call of this member was refused. If that is because it is no member any more, it was told why before, and may
    /// not have looked yet: the client is to hear that, whichever of the two comes first.
    fn why_refused(&mut self, refused: BrokerError) -> BrokerError {
        if !matches!(refused, BrokerError::Group(GroupError::UnknownMember { .. })) {
            return refused;
        }
        let mut unread = self.event.take().into_iter().chain(std::iter::from_fn(|| {
            self.membership.as_mut().and_then(|membership| membership.events.try_recv().ok())
        }));
        let removed = unread.find_map(|event| match event {
            MemberEvent::Removed { reason } => Some(removal(reason)),
            _ => None,
        });
        removed.unwrap_or(refused)
    }

    fn member(&self, field: &'static str) -> Result<&MemberId, BrokerError> {
        self.member_id().ok_or_else(|| BrokerError::invalid(field, "the stream was opened without a group"))
    }

    /// What to tell the client next; waits for it. An error ends the subscription.
    pub async fn next(&mut self) -> Result<Delivery, BrokerError> {
        let delivery = loop {
            if let Some(delivery) = self.ready().await? {
                break delivery;
            }
            if let Some(delivery) = self.wait().await? {
                break delivery;
            }
        };
        self.last_delivery = Instant::now();
        Ok(delivery)
    }

    /// What can be told without waiting for anything but the disk.
    async fn ready(&mut self) -> Result<Option<Delivery>, BrokerError> {
        if self.broker.shutdown.is_draining() && !std::mem::replace(&mut self.told_to_drain, true) {
            return Ok(Some(Delivery::Drain));
        }
        if self.event.is_none() {
            self.event = self.membership.as_mut().and_then(|membership| membership.events.try_recv().ok());
        }
        if let Some(event) = self.event.clone() {
            let delivery = self.follow(event).await?;
            self.event = None;
            return Ok(Some(delivery));
        }
        // Asked here too: a reader that is behind always has records to read, and never waits.
        if self.membership.is_none() && self.topic_changes.has_changed().unwrap_or(false) {
            self.topic_changes.mark_unchanged();
            self.look_for_partitions = true;
        }
        if self.look_for_partitions {
            self.begin_new_partitions().await?;
            self.look_for_partitions = false;
            if !self.begun.is_empty() {
                let partitions = std::mem::take(&mut self.begun);
                return Ok(Some(Delivery::Assigned { generation: Generation(0), partitions }));
            }
        }
        if self.request.filter.is_some()
            && let Some(untold) = self.cursors.next_untold(self.told_to_drain)
        {
            let Reading { at, batches, next_offset, high_watermark } = untold;
            return Ok(Some(Delivery::Records { partition: at, batches, next_offset, high_watermark }));
        }
        self.read().await
    }

    /// Records of the partition whose turn it is, if there are any and the credit allows.
    async fn read(&mut self) -> Result<Option<Delivery>, BrokerError> {
        if self.is_paused {
            return Ok(None);
        }
        let (records_max, bytes_max) = match &self.credit {
            Some(credit) if credit.is_used_up() => return Ok(None),
            Some(credit) => (credit.records, credit.bytes_at_most(self.request.delivery_bytes_max)),
            None => (u64::MAX, self.request.delivery_bytes_max),
        };
        let read = self.cursors.read_next(records_max, bytes_max, &self.request).await?;
        let Some(Reading { at: partition, batches, next_offset, high_watermark }) = read else { return Ok(None) };
        if let Some(credit) = &mut self.credit {
            for batch in &batches {
                credit.spend(batch.record_count.into(), batch.payload.len() as u64);
            }
        }
        if let Ok(topic) = self.broker.topic(partition.topic.as_str()) {
            crate::broker::fetch::count_batches(&topic, &batches);
        }
        Ok(Some(Delivery::Records { partition, batches, next_offset, high_watermark }))
    }

    /// Waits until [`Subscription::ready`] may have something, or a heartbeat is due.
    async fn wait(&mut self) -> Result<Option<Delivery>, BrokerError> {
        let may_send = !self.is_paused && self.credit.as_ref().is_none_or(|credit| !credit.is_used_up());
        let is_member = self.membership.is_some();
        let told_to_drain = self.told_to_drain;
        let tell_at = self.request.filter.as_ref().and_then(|_| self.cursors.tell_at());
        let event = async {
            match &mut self.membership {
                Some(membership) => membership.events.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = event => self.event = Some(event.ok_or(BrokerError::Draining)?),
            () = self.cursors.wait_for_records(), if may_send => {}
            _ = self.topic_changes.changed(), if !is_member => self.look_for_partitions = true,
            () = self.broker.shutdown.draining(), if !told_to_drain => {}
            () = tokio::time::sleep_until(tell_at.unwrap_or(self.last_delivery)), if tell_at.is_some() => {}
            () = tokio::time::sleep_until(self.last_delivery + HEARTBEAT_INTERVAL) => {
                return Ok(Some(Delivery::Heartbeat(self.cursors.high_watermarks())));
            }
        }
        Ok(None)
    }

    /// Carries out what the group's coordinator says.
    async fn follow(&mut self, event: MemberEvent) -> Result<Delivery, BrokerError> {
        match event {
            MemberEvent::Assigned { generation, partitions } => {
                let partitions = self.begin_assigned(partitions).await?;
                Ok(Delivery::Assigned { generation, partitions })
            }
            MemberEvent::Revoked { generation, partitions } => {
                self.cursors.end(&partitions);
                Ok(Delivery::Revoked { generation, partitions })
            }
            MemberEvent::Sought { generation, partitions } => {
                let mut begun = Vec::with_capacity(partitions.len());
                for (at, offset) in partitions {
                    let (start, on_expired) = (Position::Offset(offset), self.request.on_expired);
                    let offset = self.cursors.begin(&self.broker, at.clone(), start, on_expired).await?;
                    begun.push((at, offset));
                }
                Ok(Delivery::Seek { generation, partitions: begun })
            }
            MemberEvent::PauseChanged { paused } => {
                self.is_paused = paused;
                Ok(Delivery::PauseChanged { paused })
            }
            MemberEvent::Removed { reason } => Err(removal(reason)),
        }
    }

    /// Begins in the partitions that the coordinator gave this member: where the group is, or where the client wants a
    /// group to begin that has not been there.
    async fn begin_assigned(
        &mut self,
        partitions: Vec<(TopicPartition, Option<Offset>)>,
    ) -> Result<Vec<(TopicPartition, Offset)>, BrokerError> {
        let mut begun = Vec::with_capacity(partitions.len());
        let mut first_time = Vec::new();
        for (at, committed) in partitions {
            let start = committed.map_or_else(|| self.start_in(&at), Position::Offset);
            // This may be the second try, after the first was dropped half-way: then the place is already known.
            let offset = match self.cursors.offset_of(&at) {
                Some(offset) => offset,
                None => self.cursors.begin(&self.broker, at.clone(), start, self.request.on_expired).await?,
            };
            if committed.is_none() && (start != Position::Earliest || self.request.start != Position::Earliest) {
                let (topic, metadata) = (at.topic.to_string(), String::new());
                first_time.push(Commit { topic, partition: at.partition, offset, metadata });
            }
            begun.push((at, offset));
        }
        if !first_time.is_empty() {
            // "The end" is another place for whoever takes the partition over later: what came in between would be
            // skipped. So is the beginning of what was added, to a member that was not there then. So the place is fixed
            // now. Where it is refused, the partition was taken away again.
            self.commit(first_time).await?;
        }
        Ok(begun)
    }

    /// Where to begin in a partition that nothing is known of. One that was added after the stream was opened, or whose
    /// topic was, is read from its first record: all of it is new.
    fn start_in(&self, at: &TopicPartition) -> Position {
        let opened = self.topics.iter().find(|topic| topic.name == at.topic);
        let is_added = opened.is_none_or(|topic| at.partition >= topic.partitions);
        if is_added { Position::Earliest } else { self.request.start }
    }

    /// Without a group: begins in every partition asked for in which it has not begun yet.
    async fn begin_new_partitions(&mut self) -> Result<(), BrokerError> {
        for opened in self.topics.clone() {
            let topic = self.broker.topic(opened.name.as_str())?;
            if topic.entry.id != opened.id {
                // Deleted, and created again: what this stream was opened on is gone.
                return Err(BrokerError::TopicNotFound { topic: opened.name });
            }
            let all: Vec<u32> = (0..topic.entry.partitions).collect();
            let wanted = if self.request.partitions.is_empty() { all } else { self.request.partitions.clone() };
            for at in wanted.into_iter().map(|number| topic.at(number)) {
                if !self.cursors.has(&at) {
                    let (start, on_expired) = (self.start_in(&at), self.request.on_expired);
                    let offset = self.cursors.begin(&self.broker, at.clone(), start, on_expired).await?;
                    self.begun.push((at, offset));
                }
            }
        }
        Ok(())
    }
}

async fn join(broker: &Broker, request: &OpenSubscription) -> Result<Membership, BrokerError> {
    let join = JoinRequest {
        group: group_name(&request.group)?,
        topics: request.topics.iter().map(|topic| TopicName::new(topic)).collect::<Result<_, _>>()?,
        patterns: request.patterns.clone(),
        client_id: request.client_id.clone(),
        peer: request.peer.clone(),
        instance: request.instance.clone(),
        assignor: request.assignor,
        filter: request.filter.clone(),
    };
    Ok(broker.groups()?.join(join).await?)
}

/// Why a stream ends with its membership.
fn removal(reason: RemovalReason) -> BrokerError {
    match reason {
        RemovalReason::Fenced { instance_id } => BrokerError::MemberFenced { instance_id },
        RemovalReason::Evicted => BrokerError::MemberEvicted,
        RemovalReason::TooSlow { unread_events } => {
            BrokerError::MemberRemoved { cause: format!("it left {unread_events} events unread") }
        }
        RemovalReason::Stopped { cause } => BrokerError::MemberRemoved { cause },
    }
}
