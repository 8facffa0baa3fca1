//! `QueueService.StreamingReceive`: one task for each stream, between the client's messages and its place at a queue.
//!
//! Three things go on side by side: messages are handed out, verbs are on their way, requests are read. None is
//! interrupted for another, so nothing that was leased is lost on its way to the client. The end of the stream says what
//! becomes of what the client has: closed, it is given back uncounted; ended in any other way, it is free at once and
//! counts.

use super::Door;
use super::convert::at_most;
use super::queues::messages_out;
use super::settling::{Group, UnderWay};
use super::status::status;
use crate::broker::queues::receiving::{Receiver, ReceiverHandle};
use crate::broker::{BrokerError, Departure, ReceiverKind, Window};
use crate::limits;
use crate::proto::{
    self, streaming_receive_request,
    streaming_receive_request::Request,
    streaming_receive_response,
    streaming_receive_response::{Response, Settled},
};
use crate::shutdown::Shutdown;
use futures_util::future::FutureExt as _;
use futures_util::stream::{self, Stream, StreamExt as _};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Messages between the task and the connection: enough to keep it busy, few enough to bound memory.
const OUTBOX_MESSAGES_MAX: usize = 4;

/// How long a client has to settle and close after it was told that the broker is stopping.
const DRAIN_GRACE: Duration = Duration::from_secs(3);

/// When nothing else is sent for so long, a heartbeat is.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The window of a client that does not say.
const WINDOW_DEFAULT: Window = Window { messages: 100, bytes: 4 << 20 };

pub(super) type ResponseStream = Pin<Box<dyn Stream<Item = Sent> + Send>>;
type Sent = Result<proto::StreamingReceiveResponse, Status>;
/// What is sent together goes through it together.
type Outbox = mpsc::Sender<Vec<Sent>>;
type Heard = Result<Option<proto::StreamingReceiveRequest>, Status>;

/// What a client says, and what it is answered.
struct Conversation<'a> {
    handle: ReceiverHandle,
    requests: Streaming<proto::StreamingReceiveRequest>,
    outbox: &'a Outbox,
    under_way: UnderWay,
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
            let _ = outbox.send(vec![Err(status)]).await;
        }
    });
    Box::pin(ReceiverStream::new(responses).flat_map(stream::iter))
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
        Ok(()) => {
            let handle = handle.clone();
            let conversation = Conversation { handle, requests, outbox, under_way: UnderWay::default() };
            serve(receiver, conversation, bytes_max, &shutdown).await
        }
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

async fn serve(receiver: Receiver, mut conversation: Conversation<'_>, bytes_max: u64, shutdown: &Shutdown) -> End {
    let outbox = conversation.outbox;
    let hand_out = hand_out(receiver, outbox, bytes_max, shutdown);
    let too_late = async {
        shutdown.draining().await;
        let _ = send(outbox, Response::Drain(streaming_receive_response::Drain {})).await;
        tokio::time::sleep(DRAIN_GRACE).await;
    };
    tokio::pin!(hand_out, too_late);
    let mut is_handing_out = true;
    let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
    loop {
        let Conversation { requests, under_way, .. } = &mut conversation;
        let has_room = under_way.has_room();
        let step = tokio::select! {
            handed_out = &mut hand_out, if is_handing_out => {
                is_handing_out = false;
                handed_out
            }
            Some(settled) = under_way.next() => answer(outbox, settled).await,
            heard = requests.message(), if has_room => conversation.hear(heard).await,
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
        room.send(vec![Ok(message(Response::Messages(messages)))]);
    }
}

impl Conversation<'_> {
    /// Does what a client's message asks for, and what those ask for that have come behind it, if they settle.
    async fn hear(&mut self, first: Heard) -> Result<(), End> {
        let (mut group, mut heard) = (Group::default(), first);
        let other = loop {
            let Ok(Some(proto::StreamingReceiveRequest { request: Some(Request::Settle(settle)) })) = heard else {
                break Ok(Some(heard));
            };
            if let Err(error) = group.add(settle) {
                break Err(End::from(error));
            }
            if !self.under_way.has_room_beside(&group) {
                break Ok(None);
            }
            heard = match self.requests.message().now_or_never() {
                Some(next) => next,
                None => break Ok(None),
            };
        };
        self.under_way.send(group, &self.handle).await?;
        match other? {
            Some(heard) => self.obey(heard).await,
            None => Ok(()),
        }
    }

    /// Does what a client says besides settling.
    async fn obey(&mut self, heard: Heard) -> Result<(), End> {
        // A call that its client has cancelled ends without an error, and says nothing about what the client has.
        let Some(message) = heard.map_err(|_| End::Lost)? else { return self.finish(End::Lost).await };
        match message.request {
            Some(Request::Credit(proto::QueueCredit { messages, bytes })) => {
                Ok(self.handle.widen(Window { messages, bytes }).await?)
            }
            Some(Request::Close(_)) => self.finish(End::InOrder).await,
            Some(Request::Open(_)) => Err(BrokerError::invalid("open", "the stream is open already").into()),
            None | Some(Request::Settle(_)) => {
                let what = "the message is empty, or of a kind this broker does not know";
                Err(BrokerError::invalid("request", what).into())
            }
        }
    }

    /// The client says nothing more: it still gets its answers.
    async fn finish(&mut self, end: End) -> Result<(), End> {
        while let Some(settled) = self.under_way.next().await {
            answer(self.outbox, settled).await?;
        }
        Err(end)
    }
}

async fn answer(outbox: &Outbox, settled: Result<Vec<Settled>, BrokerError>) -> Result<(), End> {
    let answers = settled?.into_iter().map(|settled| Ok(message(Response::Settled(settled)))).collect();
    outbox.send(answers).await.map_err(|_| End::Lost)
}

async fn send(outbox: &Outbox, response: Response) -> Result<(), End> {
    outbox.send(vec![Ok(message(response))]).await.map_err(|_| End::Lost)
}

fn message(response: Response) -> proto::StreamingReceiveResponse {
    proto::StreamingReceiveResponse { response: Some(response) }
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
