//! `QueueService.StreamingReceive`: one task for each stream, between the client's messages and its place at a queue.
//!
//! Three things go on side by side: messages are handed out, verbs are on their way, requests are read. None is
//! interrupted for another, so nothing that was leased is lost on its way to the client. The end of the stream says what
//! becomes of what the client has: closed, it is given back uncounted; ended in any other way, it is free at once and
//! counts.

use super::Door;
use super::convert::at_most;
use super::queues::{messages_out, refused_out, settles_in};
use super::status::status;
use crate::broker::queues::receiving::{Receiver, ReceiverHandle};
use crate::broker::{BrokerError, Departure, ReceiverKind, SettleError, Window};
use crate::limits;
use crate::proto::{
    self, streaming_receive_request, streaming_receive_request::Request, streaming_receive_response,
    streaming_receive_response::Response,
};
use crate::shutdown::Shutdown;
use futures_util::stream::{FuturesOrdered, Stream, StreamExt as _};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Messages between the task and the connection: enough to keep it busy, few enough to bound memory.
const OUTBOX_MESSAGES_MAX: usize = 4;

/// Settle requests that may be on their way at the same time: enough for a worker that acknowledges each message by itself
/// while the disk syncs. No further one is read while they carry [`limits::SETTLES_MAX`] settlements, which bounds memory.
const SETTLES_UNDER_WAY_MAX: usize = 256;

/// How long a client has to settle and close after it was told that the broker is stopping.
const DRAIN_GRACE: Duration = Duration::from_secs(3);

/// When nothing else is sent for so long, a heartbeat is.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The window of a client that does not say.
const WINDOW_DEFAULT: Window = Window { messages: 100, bytes: 4 << 20 };

pub(super) type ResponseStream = Pin<Box<dyn Stream<Item = Result<proto::StreamingReceiveResponse, Status>> + Send>>;
type Outbox = mpsc::Sender<Result<proto::StreamingReceiveResponse, Status>>;
type Settled = Result<(u64, Vec<Result<(), SettleError>>), BrokerError>;
type PendingSettled = Pin<Box<dyn Future<Output = Settled> + Send>>;

/// Settle requests on their way, in the order they came in.
#[derive(Default)]
struct UnderWay {
    requests: FuturesOrdered<PendingSettled>,
    settlements: usize,
}

impl UnderWay {
    fn has_room(&self) -> bool {
        self.requests.len() < SETTLES_UNDER_WAY_MAX && self.settlements < limits::SETTLES_MAX
    }

    /// A request with so many settlements.
    fn push(&mut self, settlements: usize, settled: impl Future<Output = Settled> + Send + 'static) {
        self.settlements += settlements;
        self.requests.push_back(Box::pin(settled));
    }

    /// The answer of the oldest; `None` if none is under way. May be interrupted.
    async fn next(&mut self) -> Option<Settled> {
        let settled = self.requests.next().await?;
        if let Ok((_, results)) = &settled {
            self.settlements -= results.len();
        }
        Some(settled)
    }
}

/// Why a stream ends.
enum End {
    /// The client has said so.
    InOrder,
    /// The client is gone.
    Lost,
    /// With this status.
    Status(Status),
}

impl From<BrokerError> for End {
    fn from(error: BrokerError) -> Self {
        Self::Status(status(&error))
    }
}

/// Starts the task of a stream.
pub(super) fn streaming_receive(door: Door, requests: Streaming<proto::StreamingReceiveRequest>) -> ResponseStream {
    let (outbox, responses) = mpsc::channel(OUTBOX_MESSAGES_MAX);
    tokio::spawn(async move {
        if let Err(status) = run(door, requests, &outbox).await {
            let _ = outbox.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(responses))
}

async fn run(
    door: Door,
    mut requests: Streaming<proto::StreamingReceiveRequest>,
    outbox: &Outbox,
) -> Result<(), Status> {
    let Some(first) = requests.message().await? else { return Ok(()) };
    let Some(Request::Open(open)) = first.request else {
        return Err(status(&BrokerError::invalid("request", "the first message of a stream must be open")));
    };
    let (window, bytes_max) = open_in(&open).map_err(|error| status(&error))?;
    let receiver = door.broker.open_receiver(&open.queue, ReceiverKind::Stream, window).await;
    let receiver = receiver.map_err(|error| status(&error))?;
    let handle = receiver.handle();
    let shutdown = door.broker.shutdown().clone();
    let end = match send(outbox, Response::Opened(streaming_receive_response::Opened {})).await {
        Ok(()) => serve(receiver, handle.clone(), requests, outbox, bytes_max, &shutdown).await,
        Err(end) => end,
    };
    let departure = if matches!(end, End::InOrder) { Departure::InOrder } else { Departure::Lost };
    // An error here is that of a coordinator that has stopped, and then there is nothing to give back.
    let _ = handle.close(departure).await;
    match end {
        End::InOrder | End::Lost => Ok(()),
        End::Status(status) => Err(status),
    }
}

async fn serve(
    receiver: Receiver,
    handle: ReceiverHandle,
    mut requests: Streaming<proto::StreamingReceiveRequest>,
    outbox: &Outbox,
    bytes_max: u64,
    shutdown: &Shutdown,
) -> End {
    let hand_out = hand_out(receiver, outbox, bytes_max, shutdown);
    let too_late = async {
        shutdown.draining().await;
        let _ = send(outbox, Response::Drain(streaming_receive_response::Drain {})).await;
        tokio::time::sleep(DRAIN_GRACE).await;
    };
    tokio::pin!(hand_out, too_late);
    let mut is_handing_out = true;
    let mut under_way = UnderWay::default();
    let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
    loop {
        let has_room = under_way.has_room();
        let step = tokio::select! {
            handed_out = &mut hand_out, if is_handing_out => {
                is_handing_out = false;
                handed_out
            }
            Some(settled) = under_way.next() => answer(outbox, settled).await,
            message = requests.message(), if has_room => match message {
                Ok(Some(proto::StreamingReceiveRequest { request: Some(Request::Close(_)) })) => {
                    return finish(outbox, under_way).await;
                }
                Ok(Some(message)) => obey(&handle, message, &mut under_way).await,
                // Not the same as closed: a call that the client has cancelled ends like this, too.
                Ok(None) => {
                    return match finish(outbox, under_way).await {
                        End::InOrder => End::Lost,
                        end => end,
                    };
                }
                Err(_) => Err(End::Lost),
            },
            _ = heartbeat.tick() => {
                send(outbox, Response::Heartbeat(streaming_receive_response::Heartbeat {})).await
            }
            () = &mut too_late => Err(BrokerError::Draining.into()),
            () = outbox.closed() => Err(End::Lost),
        };
        if let Err(end) = step {
            return end;
        }
    }
}

/// Sends messages as they come; ends when the broker drains.
async fn hand_out(mut receiver: Receiver, outbox: &Outbox, bytes_max: u64, shutdown: &Shutdown) -> Result<(), End> {
    loop {
        // Room in the outbox first: what is leased must not wait here while the client does nothing.
        let room = outbox.reserve().await.map_err(|_| End::Lost)?;
        if shutdown.is_draining() {
            return Ok(());
        }
        let messages = receiver.take(limits::DELIVERY_MESSAGES_MAX, bytes_max).await?;
        if messages.is_empty() {
            drop(room);
            tokio::select! {
                () = receiver.more() => {}
                () = shutdown.draining() => return Ok(()),
            }
            continue;
        }
        let messages = streaming_receive_response::Messages { messages: messages_out(messages) };
        room.send(Ok(proto::StreamingReceiveResponse { response: Some(Response::Messages(messages)) }));
    }
}

/// Does what a client's message asks for.
async fn obey(
    handle: &ReceiverHandle,
    message: proto::StreamingReceiveRequest,
    under_way: &mut UnderWay,
) -> Result<(), End> {
    match message.request {
        Some(Request::Settle(streaming_receive_request::Settle { settlements, correlation_id })) => {
            let count = settlements.len();
            let pending = handle.begin_settle(settles_in(settlements)?).await?;
            under_way.push(count, async move {
                let results = pending.finish().await.map_err(BrokerError::from)?;
                Ok((correlation_id, results))
            });
            Ok(())
        }
        Some(Request::Credit(proto::QueueCredit { messages, bytes })) => {
            Ok(handle.widen(Window { messages, bytes }).await?)
        }
        Some(Request::Close(_)) => Err(End::InOrder),
        Some(Request::Open(_)) => Err(BrokerError::invalid("open", "the stream is open already").into()),
        None => {
            Err(BrokerError::invalid("request", "the message is empty, or of a kind this broker does not know").into())
        }
    }
}

/// The client says nothing more: it still gets its answers.
async fn finish(outbox: &Outbox, mut under_way: UnderWay) -> End {
    while let Some(settled) = under_way.next().await {
        if let Err(end) = answer(outbox, settled).await {
            return end;
        }
    }
    End::InOrder
}

async fn answer(outbox: &Outbox, settled: Settled) -> Result<(), End> {
    let (correlation_id, results) = settled?;
    let refused = refused_out(results);
    send(outbox, Response::Settled(streaming_receive_response::Settled { correlation_id, refused })).await
}

async fn send(outbox: &Outbox, response: Response) -> Result<(), End> {
    let message = proto::StreamingReceiveResponse { response: Some(response) };
    outbox.send(Ok(message)).await.map_err(|_| End::Lost)
}

fn open_in(open: &streaming_receive_request::Open) -> Result<(Window, u64), BrokerError> {
    let bytes_max = match open.max_message_bytes {
        0 => limits::SUBSCRIBE_MESSAGE_BYTES_DEFAULT,
        bytes => bytes,
    };
    at_most("max_message_bytes", bytes_max, limits::SUBSCRIBE_MESSAGE_BYTES_MAX)?;
    let credit = open.credit.unwrap_or_default();
    let window = Window {
        messages: if credit.messages == 0 { WINDOW_DEFAULT.messages } else { credit.messages },
        bytes: if credit.bytes == 0 { WINDOW_DEFAULT.bytes } else { credit.bytes },
    };
    Ok((window, bytes_max.into()))
}
