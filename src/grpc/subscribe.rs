//! `ConsumerService.Subscribe`: one task for each stream, between the client's messages and its [`Subscription`].

use super::Door;
use super::convert::{
    at_most, batches_out, commits_in, filter_in, partition_offset_out, partition_out, patterns_in, position_in,
    refused_out,
};
use super::status::status;
use crate::broker::subscription::{Credit, Delivery, OffsetExpired, OpenSubscription, Subscription};
use crate::broker::{Assignor, BrokerError, Generation, Instance};
use crate::limits;
use crate::proto::{
    self, subscribe_request, subscribe_request::Request, subscribe_response, subscribe_response::Response,
};
use crate::types::Position;
use futures_util::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Messages between the task and the connection: enough to keep it busy, few enough to bound memory.
const OUTBOX_MESSAGES_MAX: usize = 4;

/// How long a client has to commit and close after it was told that the broker is stopping.
const DRAIN_GRACE: Duration = Duration::from_secs(3);

pub(super) type ResponseStream = Pin<Box<dyn Stream<Item = Result<proto::SubscribeResponse, Status>> + Send>>;
type Outbox = mpsc::Sender<Result<proto::SubscribeResponse, Status>>;

/// Why a stream ends.
enum End {
    /// The client closed it, or is gone.
    Client,
    /// With this status.
    Status(Status),
}

impl From<BrokerError> for End {
    fn from(error: BrokerError) -> Self {
        Self::Status(status(&error))
    }
}

/// Starts the task of a stream.
pub(super) fn subscribe(door: Door, requests: Streaming<proto::SubscribeRequest>, peer: String) -> ResponseStream {
    let (outbox, responses) = mpsc::channel(OUTBOX_MESSAGES_MAX);
    tokio::spawn(async move {
        if let Err(End::Status(status)) = run(door, requests, peer, &outbox).await {
            let _ = outbox.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(responses))
}

async fn run(
    door: Door,
    mut requests: Streaming<proto::SubscribeRequest>,
    peer: String,
    outbox: &Outbox,
) -> Result<(), End> {
    let first = requests.message().await.map_err(End::Status)?.ok_or(End::Client)?;
    let Some(Request::Open(open)) = first.request else {
        return Err(BrokerError::invalid("request", "the first message of a stream must be open").into());
    };
    let mut subscription = Subscription::open(Arc::clone(&door.broker), open_in(open, peer)?).await?;
    let member_id = subscription.member_id().map(ToString::to_string).unwrap_or_default();
    send(outbox, Response::Opened(subscribe_response::Opened { member_id })).await?;

    let shutdown = door.broker.shutdown().clone();
    let too_late = async move {
        shutdown.draining().await;
        tokio::time::sleep(DRAIN_GRACE).await;
    };
    tokio::pin!(too_late);
    loop {
        tokio::select! {
            message = requests.message() => match message {
                Ok(Some(message)) => obey(&mut subscription, message, outbox).await?,
                Ok(None) => return Err(End::Client),
                Err(status) => return Err(End::Status(status)),
            },
            delivery = subscription.next() => send(outbox, delivery_out(delivery?)).await?,
            () = &mut too_late => return Err(BrokerError::Draining.into()),
            () = outbox.closed() => return Err(End::Client),
        }
    }
}

/// Does what a client's message asks for.
async fn obey(subscription: &mut Subscription, message: proto::SubscribeRequest, outbox: &Outbox) -> Result<(), End> {
    match message.request {
        Some(Request::Credit(credit)) => Ok(subscription.grant(credit_in(credit))?),
        Some(Request::Released(subscribe_request::Released { generation })) => {
            Ok(subscription.release(Generation(generation)).await?)
        }
        Some(Request::Commit(subscribe_request::Commit { offsets, correlation_id })) => {
            let refused = subscription.commit(commits_in(offsets)).await?;
            let errors = refused_out(refused);
            send(outbox, Response::Committed(subscribe_response::Committed { correlation_id, errors })).await
        }
        Some(Request::Open(_)) => Err(BrokerError::invalid("open", "the stream is open already").into()),
        None => {
            Err(BrokerError::invalid("request", "the message is empty, or of a kind this broker does not know").into())
        }
    }
}

async fn send(outbox: &Outbox, response: Response) -> Result<(), End> {
    let message = proto::SubscribeResponse { response: Some(response) };
    outbox.send(Ok(message)).await.map_err(|_| End::Client)
}

pub(super) fn open_in(open: subscribe_request::Open, peer: String) -> Result<OpenSubscription, BrokerError> {
    let bytes_max = match open.max_message_bytes {
        0 => limits::SUBSCRIBE_MESSAGE_BYTES_DEFAULT,
        bytes => bytes,
    };
    at_most("max_message_bytes", bytes_max, limits::SUBSCRIBE_MESSAGE_BYTES_MAX)?;
    Ok(OpenSubscription {
        start: open.start.map_or(Ok(Position::Latest), |start| position_in(Some(start)))?,
        on_expired: match proto::OffsetExpired::try_from(open.on_expired) {
            Ok(proto::OffsetExpired::Fail) => OffsetExpired::Fail,
            Ok(proto::OffsetExpired::Earliest) => OffsetExpired::Earliest,
            Ok(proto::OffsetExpired::Latest) => OffsetExpired::Latest,
            Err(_) => return Err(BrokerError::invalid("on_expired", "it is not a choice this broker knows")),
        },
        instance: instance_in(open.instance_id, open.session_timeout_ms)?,
        assignor: match proto::Assignor::try_from(open.assignor) {
            Ok(proto::Assignor::Balanced) => Assignor::Balanced,
            Ok(proto::Assignor::Range) => Assignor::Range,
            Err(_) => return Err(BrokerError::invalid("assignor", "it is not a choice this broker knows")),
        },
        credit: open.credit.map(credit_in),
        delivery_bytes_max: bytes_max as usize,
        topics: open.topics,
        patterns: patterns_in(&open.topic_patterns)?,
        filter: filter_in(&open.filter)?,
        group: open.group,
        client_id: open.client_id,
        partitions: open.partitions,
        peer,
    })
}

/// The place that a member wants to keep; `None` = none.
fn instance_in(id: String, session_timeout_ms: u32) -> Result<Option<Instance>, BrokerError> {
    if id.is_empty() && session_timeout_ms != 0 {
        let what = "it says how long the place of an instance is kept; give an instance_id, or leave it out";
        return Err(BrokerError::invalid("session_timeout_ms", what));
    }
    let session_timeout_ms = match session_timeout_ms {
        0 => limits::SESSION_TIMEOUT_MS_DEFAULT,
        ms => ms.into(),
    };
    Ok((!id.is_empty()).then_some(Instance { id, session_timeout_ms }))
}

pub(super) fn credit_in(credit: proto::Credit) -> Credit {
    Credit::new(credit.records, credit.bytes)
}

fn delivery_out(delivery: Delivery) -> Response {
    match delivery {
        Delivery::Assigned { generation, partitions } => Response::Assigned(subscribe_response::Assigned {
            generation: generation.0,
            partitions: partitions.into_iter().map(partition_offset_out).collect(),
        }),
        Delivery::Revoked { generation, partitions } => Response::Revoked(subscribe_response::Revoked {
            generation: generation.0,
            partitions: partitions.into_iter().map(partition_out).collect(),
        }),
        Delivery::Seek { generation, partitions } => Response::Seek(subscribe_response::Seek {
            generation: generation.0,
            partitions: partitions.into_iter().map(partition_offset_out).collect(),
        }),
        Delivery::PauseChanged { paused: true } => Response::Paused(subscribe_response::Paused {}),
        Delivery::PauseChanged { paused: false } => Response::Resumed(subscribe_response::Resumed {}),
        Delivery::Records { partition, batches, next_offset, high_watermark } => {
            Response::Records(subscribe_response::Records {
                topic: partition.topic.into(),
                partition: partition.partition,
                batches: batches_out(batches),
                high_watermark: high_watermark.0,
                next_offset: next_offset.0,
            })
        }
        Delivery::Heartbeat(ends) => Response::Heartbeat(subscribe_response::Heartbeat {
            high_watermarks: ends.into_iter().map(partition_offset_out).collect(),
        }),
        Delivery::Drain => Response::Drain(subscribe_response::Drain {}),
    }
}
