//! `QueueService`.

use super::Door;
use super::convert::{at_most, durability_in, durability_out, filter_in, patterns_in, position_in};
use super::receive_stream::{ResponseStream, streaming_receive};
use super::status::{part_error, status};
use crate::broker::queues::receiving::Received;
use crate::broker::queues::{DescribedQueue, Peeked};
use crate::broker::{
    BreakerPolicy, BreakerState, BrokerError, MessageStage, QueueConfig, QueueCounts, QueueOrdering, QueuePolicy,
    QueuePriority, QueueStart, RetryPolicy, Settle, SettleError, Verb,
};
use crate::limits;
use crate::proto::{self, queue_service_server::QueueService, settlement};
use crate::types::{Offset, Position, TopicName};
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// Bytes of one receive reply when the client does not say.
const RECEIVE_BYTES_DEFAULT: u32 = 1 << 20;

/// Messages of one peek when the client does not say.
const PEEK_MESSAGES_DEFAULT: u32 = 10;

#[async_trait]
impl QueueService for Door {
    async fn create_queue(
        &self,
        request: Request<proto::CreateQueueRequest>,
    ) -> Result<Response<proto::CreateQueueResponse>, Status> {
        let proto::CreateQueueRequest { name, topics, policy, start, filter, topic_patterns } = request.into_inner();
        let created = async {
            let start = start_in(start)?;
            let mut wanted = QueuePolicy::default();
            apply_policy(&mut wanted, &policy.unwrap_or_default())?;
            let (patterns, filter) = (patterns_in(&topic_patterns)?, filter_in(&filter)?);
            self.broker.create_queue(&name, &topics, patterns, start, filter, wanted).await
        };
        let queue = created.await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::CreateQueueResponse { queue: Some(queue_out(queue)) }))
    }

    async fn get_queue(
        &self,
        request: Request<proto::GetQueueRequest>,
    ) -> Result<Response<proto::GetQueueResponse>, Status> {
        let described = self.broker.describe_queue(&request.into_inner().name).await;
        Ok(Response::new(described_out(described.map_err(|error| status(&error))?)))
    }

    async fn list_queues(
        &self,
        request: Request<proto::ListQueuesRequest>,
    ) -> Result<Response<proto::ListQueuesResponse>, Status> {
        let queues = self.broker.list_queues(&request.into_inner().prefix).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::ListQueuesResponse { queues: queues.into_iter().map(queue_out).collect() }))
    }

    async fn update_queue(
        &self,
        request: Request<proto::UpdateQueueRequest>,
    ) -> Result<Response<proto::UpdateQueueResponse>, Status> {
        let proto::UpdateQueueRequest { name, policy } = request.into_inner();
        let wanted = policy.unwrap_or_default();
        let updated = self.broker.update_queue(&name, |policy| apply_policy(policy, &wanted)).await;
        let queue = Some(queue_out(updated.map_err(|error| status(&error))?));
        Ok(Response::new(proto::UpdateQueueResponse { queue }))
    }

    async fn delete_queue(
        &self,
        request: Request<proto::DeleteQueueRequest>,
    ) -> Result<Response<proto::DeleteQueueResponse>, Status> {
        self.broker.delete_queue(&request.into_inner().name).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::DeleteQueueResponse {}))
    }

    async fn pause_queue(
        &self,
        request: Request<proto::PauseQueueRequest>,
    ) -> Result<Response<proto::PauseQueueResponse>, Status> {
        let paused = self.broker.set_queue_paused(&request.into_inner().name, true).await;
        let queue = Some(queue_out(paused.map_err(|error| status(&error))?));
        Ok(Response::new(proto::PauseQueueResponse { queue }))
    }

    async fn resume_queue(
        &self,
        request: Request<proto::ResumeQueueRequest>,
    ) -> Result<Response<proto::ResumeQueueResponse>, Status> {
        let resumed = self.broker.set_queue_paused(&request.into_inner().name, false).await;
        let queue = Some(queue_out(resumed.map_err(|error| status(&error))?));
        Ok(Response::new(proto::ResumeQueueResponse { queue }))
    }

    async fn receive(
        &self,
        request: Request<proto::ReceiveRequest>,
    ) -> Result<Response<proto::ReceiveResponse>, Status> {
        let proto::ReceiveRequest { queue, max_messages, max_bytes, max_wait_ms } = request.into_inner();
        let received = async {
            at_most("max_messages", max_messages, limits::DELIVERY_MESSAGES_MAX)?;
            at_most("max_bytes", max_bytes, limits::SUBSCRIBE_MESSAGE_BYTES_MAX)?;
            at_most("max_wait_ms", max_wait_ms, limits::FETCH_WAIT_MS_MAX)?;
            let bytes = if max_bytes == 0 { RECEIVE_BYTES_DEFAULT } else { max_bytes };
            let wait_max = Duration::from_millis(max_wait_ms.into());
            self.broker.receive(&queue, max_messages.max(1), bytes.into(), wait_max).await
        };
        let messages = messages_out(received.await.map_err(|error| status(&error))?);
        Ok(Response::new(proto::ReceiveResponse { messages }))
    }

    type StreamingReceiveStream = ResponseStream;

    async fn streaming_receive(
        &self,
        request: Request<Streaming<proto::StreamingReceiveRequest>>,
    ) -> Result<Response<Self::StreamingReceiveStream>, Status> {
        Ok(Response::new(streaming_receive(self.clone(), request.into_inner())))
    }

    async fn settle(&self, request: Request<proto::SettleRequest>) -> Result<Response<proto::SettleResponse>, Status> {
        let proto::SettleRequest { queue, settlements } = request.into_inner();
        let settled = async { self.broker.settle(&queue, settles_in(settlements)?).await };
        let refused = refused_out(settled.await.map_err(|error| status(&error))?);
        Ok(Response::new(proto::SettleResponse { refused }))
    }

    async fn peek(&self, request: Request<proto::PeekRequest>) -> Result<Response<proto::PeekResponse>, Status> {
        let proto::PeekRequest { queue, max_messages } = request.into_inner();
        let peeked = async {
            at_most("max_messages", max_messages, limits::DELIVERY_MESSAGES_MAX)?;
            let most = if max_messages == 0 { PEEK_MESSAGES_DEFAULT } else { max_messages };
            self.broker.peek_queue(&queue, most as usize).await
        };
        let messages = peeked.await.map_err(|error| status(&error))?.into_iter().map(peeked_out).collect();
        Ok(Response::new(proto::PeekResponse { messages }))
    }

    async fn list_blocked_keys(
        &self,
        request: Request<proto::ListBlockedKeysRequest>,
    ) -> Result<Response<proto::ListBlockedKeysResponse>, Status> {
        let proto::ListBlockedKeysRequest { queue, max_keys } = request.into_inner();
        let blocking = async {
            at_most("max_keys", max_keys, limits::DELIVERY_MESSAGES_MAX)?;
            let most = if max_keys == 0 { PEEK_MESSAGES_DEFAULT } else { max_keys };
            self.broker.blocking_messages(&queue, most as usize).await
        };
        let blocking = blocking.await.map_err(|error| status(&error))?.into_iter();
        let keys = blocking.map(|(first, blocked)| proto::BlockedKey { first: Some(peeked_out(first)), blocked });
        Ok(Response::new(proto::ListBlockedKeysResponse { keys: keys.collect() }))
    }
}

/// Verbs as a client gives them.
pub(super) fn settles_in(settlements: Vec<proto::Settlement>) -> Result<Vec<Settle>, BrokerError> {
    let settle_in = |settlement: proto::Settlement| {
        let verb = match settlement.verb {
            Some(settlement::Verb::Ack(_)) => Verb::Ack,
            Some(settlement::Verb::Nack(settlement::Nack { delay_ms, reason })) => Verb::Nack { delay_ms, reason },
            Some(settlement::Verb::Release(_)) => Verb::Release,
            Some(settlement::Verb::Extend(settlement::Extend { lease_ms })) => Verb::Extend { lease_ms },
            Some(settlement::Verb::Reject(settlement::Reject { reason })) => Verb::Reject { reason },
            None => {
                let what = "a settlement has no verb, or one that this broker does not know";
                return Err(BrokerError::invalid("settlements", what));
            }
        };
        Ok(Settle { token: settlement.lease_token, verb })
    };
    settlements.into_iter().map(settle_in).collect()
}

/// The verbs that were refused.
pub(super) fn refused_out(results: impl IntoIterator<Item = Result<(), SettleError>>) -> Vec<proto::RefusedSettlement> {
    let refused = (0..).zip(results).filter_map(|(index, result)| Some((index, result.err()?)));
    let refused =
        refused.map(|(index, error)| proto::RefusedSettlement { index, error: Some(part_error(&error.into())) });
    refused.collect()
}

/// Messages as a client gets them; their records are not copied.
pub(super) fn messages_out(received: Vec<Received>) -> Vec<proto::QueueMessage> {
    let message_out = |received: Received| proto::QueueMessage {
        lease_token: received.token,
        topic: received.topic.into(),
        partition: received.partition,
        offset: received.offset.0,
        append_time_ms: received.append_time_ms,
        attempt: received.attempt,
        first_delivered_ms: received.first_delivered_ms,
        record: received.record,
    };
    received.into_iter().map(message_out).collect()
}

fn start_in(start: Option<proto::Position>) -> Result<QueueStart, BrokerError> {
    let Some(start) = start else { return Ok(QueueStart::Latest) };
    match position_in(Some(start))? {
        Position::Earliest => Ok(QueueStart::Earliest),
        Position::Latest => Ok(QueueStart::Latest),
        Position::Time(time_ms) => Ok(QueueStart::TimeMs(time_ms)),
        Position::Offset(_) | Position::BeforeEnd(_) => {
            Err(BrokerError::invalid("start", "a queue begins at an edge or a time: it may have many partitions"))
        }
    }
}

/// Applies what a request mentions.
fn apply_policy(policy: &mut QueuePolicy, wanted: &proto::QueuePolicy) -> Result<(), BrokerError> {
    let RetryPolicy { min_ms, max_ms, multiplier_percent, jitter_percent, attempts_max } = policy.retry;
    policy.lease_ms = wanted.lease_ms.unwrap_or(policy.lease_ms);
    policy.max_lease_ms = wanted.max_lease_ms.unwrap_or_else(|| policy.max_lease_ms.max(policy.lease_ms));
    policy.retry = RetryPolicy {
        min_ms: wanted.retry_min_ms.unwrap_or(min_ms),
        max_ms: wanted.retry_max_ms.unwrap_or_else(|| max_ms.max(wanted.retry_min_ms.unwrap_or(0))),
        multiplier_percent: wanted.retry_multiplier_percent.unwrap_or(multiplier_percent),
        jitter_percent: wanted.retry_jitter_percent.unwrap_or(jitter_percent),
        attempts_max: wanted.attempts_max.unwrap_or(attempts_max),
    };
    if let Some(topic) = &wanted.dead_letter_topic {
        policy.dead_letter_topic = if topic.is_empty() { None } else { Some(TopicName::new(topic)?) };
    }
    match proto::QueueOrdering::try_from(wanted.ordering) {
        Ok(proto::QueueOrdering::Unspecified) => {}
        Ok(proto::QueueOrdering::None) => policy.ordering = QueueOrdering::None,
        Ok(proto::QueueOrdering::Key) => policy.ordering = QueueOrdering::Key,
        Err(_) => return Err(BrokerError::invalid("ordering", "it is not an order this broker knows")),
    }
    policy.durability = durability_in(wanted.durability)?.unwrap_or(policy.durability);
    policy.max_in_flight = wanted.max_in_flight.unwrap_or(policy.max_in_flight);
    policy.max_in_flight_per_receiver = wanted.max_in_flight_per_receiver.unwrap_or(policy.max_in_flight_per_receiver);
    policy.message_ttl_ms = wanted.message_ttl_ms.unwrap_or(policy.message_ttl_ms);
    match proto::QueuePriority::try_from(wanted.priority) {
        Ok(proto::QueuePriority::Unspecified) => {}
        Ok(proto::QueuePriority::None) => policy.priority = QueuePriority::None,
        Ok(proto::QueuePriority::Partition) => policy.priority = QueuePriority::Partition,
        Err(_) => return Err(BrokerError::invalid("priority", "it is not a priority this broker knows")),
    }
    apply_breaker(policy, wanted);
    Ok(())
}

/// Whoever mentions any of the breaker wants one, unless it is to open at no failures at all.
fn apply_breaker(policy: &mut QueuePolicy, wanted: &proto::QueuePolicy) {
    let (failures_percent, deliveries) = (wanted.breaker_failures_percent, wanted.breaker_deliveries);
    if failures_percent == Some(0) {
        policy.breaker = None;
    } else if failures_percent.is_some() || deliveries.is_some() || wanted.breaker_pause_ms.is_some() {
        let before = policy.breaker.unwrap_or_default();
        policy.breaker = Some(BreakerPolicy {
            failures_percent: failures_percent.unwrap_or(before.failures_percent),
            deliveries: deliveries.unwrap_or(before.deliveries),
            pause_ms: wanted.breaker_pause_ms.unwrap_or(before.pause_ms),
        });
    }
}

fn queue_out(queue: QueueConfig) -> proto::Queue {
    let QueuePolicy { lease_ms, max_lease_ms, retry, dead_letter_topic, ordering, .. } = queue.policy;
    let ordering = match ordering {
        QueueOrdering::None => proto::QueueOrdering::None,
        QueueOrdering::Key => proto::QueueOrdering::Key,
    };
    let policy = proto::QueuePolicy {
        lease_ms: Some(lease_ms),
        max_lease_ms: Some(max_lease_ms),
        retry_min_ms: Some(retry.min_ms),
        retry_max_ms: Some(retry.max_ms),
        retry_multiplier_percent: Some(retry.multiplier_percent),
        retry_jitter_percent: Some(retry.jitter_percent),
        attempts_max: Some(retry.attempts_max),
        dead_letter_topic: Some(dead_letter_topic.map(String::from).unwrap_or_default()),
        ordering: ordering.into(),
        max_in_flight: Some(queue.policy.max_in_flight),
        max_in_flight_per_receiver: Some(queue.policy.max_in_flight_per_receiver),
        durability: durability_out(queue.policy.durability),
        message_ttl_ms: Some(queue.policy.message_ttl_ms),
        priority: match queue.policy.priority {
            QueuePriority::None => proto::QueuePriority::None.into(),
            QueuePriority::Partition => proto::QueuePriority::Partition.into(),
        },
        breaker_failures_percent: Some(queue.policy.breaker.map_or(0, |breaker| breaker.failures_percent)),
        breaker_deliveries: queue.policy.breaker.map(|breaker| breaker.deliveries),
        breaker_pause_ms: queue.policy.breaker.map(|breaker| breaker.pause_ms),
    };
    proto::Queue {
        name: queue.name.to_string(),
        topics: queue.topics.into_iter().map(String::from).collect(),
        policy: Some(policy),
        paused: queue.paused,
        created_at_ms: queue.created_at_ms,
        filter: queue.filter.map(String::from).unwrap_or_default(),
        topic_patterns: queue.patterns.into_iter().map(String::from).collect(),
    }
}

fn described_out(described: DescribedQueue) -> proto::GetQueueResponse {
    let DescribedQueue { description, bounds } = described;
    let QueueCounts { delivered, acked, dead_lettered, absent, failed, filtered } = description.counts;
    let (breaker, breaker_open_until_ms) = match description.breaker {
        BreakerState::Closed => (proto::BreakerState::Closed, 0),
        BreakerState::Open { until_ms } => (proto::BreakerState::Open, until_ms),
        BreakerState::Probing => (proto::BreakerState::Probing, 0),
    };
    let partitions = description.partitions.into_iter().zip(bounds).map(|(found, bounds)| {
        let end = bounds.map_or(found.frontier, |bounds| bounds.high_watermark);
        let start = bounds.map_or(Offset::ZERO, |bounds| bounds.log_start);
        proto::QueuePartition {
            topic: found.topic.into(),
            partition: found.at.partition,
            low_watermark: found.low_watermark.0,
            frontier: found.frontier.0,
            high_watermark: end.0,
            backlog: end.records_since(found.frontier.max(start)),
            leased: found.leased,
            available: found.available,
            blocked: found.blocked,
            waiting: found.waiting,
            dying: found.dying,
        }
    });
    proto::GetQueueResponse {
        partitions: partitions.collect(),
        queue: Some(queue_out(description.config)),
        counts: Some(proto::QueueCounts { delivered, acked, dead_lettered, absent, failed, filtered }),
        receivers: u32::try_from(description.receivers).unwrap_or(u32::MAX),
        breaker: breaker.into(),
        breaker_open_until_ms,
    }
}

fn peeked_out(peeked: Peeked) -> proto::PeekedMessage {
    let state = match peeked.stage {
        MessageStage::Available => proto::MessageState::Available,
        MessageStage::Leased => proto::MessageState::Leased,
        MessageStage::Waiting => proto::MessageState::Waiting,
        MessageStage::Blocked => proto::MessageState::Blocked,
        MessageStage::Dying => proto::MessageState::Dying,
    };
    proto::PeekedMessage {
        topic: peeked.topic.into(),
        partition: peeked.partition,
        offset: peeked.offset.0,
        append_time_ms: peeked.append_time_ms,
        state: state.into(),
        attempts: peeked.attempts,
        record: peeked.record,
    }
}
