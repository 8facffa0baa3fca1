//! One `StreamingReceive` stream: its window, its messages, its verdicts.
//!
//! Reading can be interrupted at any await: verdicts go into a bounded channel without waiting, and their answers come
//! among the events.

use super::message::{QueueMessage, RefusedSettlement, Settlement};
use crate::client::connection::service;
use crate::client::convert::required;
use crate::client::{Client, ClientError};
use crate::proto::streaming_receive_request::{Close, Open, Request, Settle};
use crate::proto::streaming_receive_response::Response;
use crate::proto::{QueueCredit, StreamingReceiveRequest, StreamingReceiveResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Room for requests that HTTP/2 has not taken yet.
const REQUESTS_MAX: usize = 1_024;

/// What a stream may have out, unsettled, at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueWindow {
    /// Messages.
    pub messages: u32,
    /// Bytes of their records. A larger message comes when nothing else is out.
    pub bytes: u64,
}

/// What comes on a stream.
#[derive(Debug, Clone)]
pub enum QueueEvent {
    /// Messages to work on.
    Messages(Vec<QueueMessage>),
    /// The answer to [`QueueStream::settle`], in the order of the calls: those that were refused.
    Settled(Vec<RefusedSettlement>),
    /// The broker is stopping: settle what is done, close the stream, connect again.
    Drain,
}

/// An open stream. Dropping it loses it, and then its unsettled messages count as tried; see [`QueueStream::close`].
#[derive(Debug)]
pub struct QueueStream {
    requests: Option<mpsc::Sender<StreamingReceiveRequest>>,
    responses: Streaming<StreamingReceiveResponse>,
}

impl QueueStream {
    pub(super) async fn open(client: &Client, queue: &str, window: QueueWindow) -> Result<Self, ClientError> {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let credit = Some(QueueCredit { messages: window.messages, bytes: window.bytes });
        post(&requests, Request::Open(Open { queue: queue.to_owned(), credit, max_message_bytes: 0 }))?;
        let mut queues = service!(client, queue_service_client, QueueServiceClient);
        let mut responses = client.answer(queues.streaming_receive(ReceiverStream::new(receiver))).await?;
        match responses.message().await?.and_then(|message| message.response) {
            Some(Response::Opened(_)) => Ok(Self { requests: Some(requests), responses }),
            _ => Err(ClientError::BadAnswer { what: "a stream of a queue did not begin with Opened" }),
        }
    }

    /// The next event. May be interrupted.
    pub async fn next(&mut self) -> Result<QueueEvent, ClientError> {
        loop {
            let Some(message) = self.responses.message().await? else {
                return Err(ClientError::ConnectionLost { cause: "the broker ended the stream".to_owned() });
            };
            match required(message.response, "a message of a stream is empty")? {
                Response::Messages(messages) => {
                    let messages = messages.messages.into_iter().map(QueueMessage::from_wire);
                    return Ok(QueueEvent::Messages(messages.collect::<Result<_, _>>()?));
                }
                Response::Settled(settled) => {
                    let refused = settled.refused.into_iter().map(RefusedSettlement::from_wire);
                    return Ok(QueueEvent::Settled(refused.collect()));
                }
                Response::Drain(_) => return Ok(QueueEvent::Drain),
                Response::Opened(_) | Response::Heartbeat(_) => {}
            }
        }
    }

    /// Sends verdicts. The answer is an event.
    pub fn settle(&self, settlements: Vec<Settlement>) -> Result<(), ClientError> {
        let settlements = settlements.into_iter().map(Settlement::into_wire).collect();
        let requests = self.requests.as_ref().ok_or_else(too_full)?;
        post(requests, Request::Settle(Settle { settlements, correlation_id: 0 }))
    }

    /// Ends the stream in order: verdicts that were sent are carried out, and what is not settled is given back and
    /// does not count as tried. Ends when the broker has done so.
    pub async fn close(mut self) -> Result<(), ClientError> {
        if let Some(requests) = self.requests.take() {
            post(&requests, Request::Close(Close {}))?;
        }
        while self.responses.message().await?.is_some() {}
        Ok(())
    }
}

/// A full channel means that the broker has read nothing for many requests: the stream is of no use any more.
fn post(requests: &mpsc::Sender<StreamingReceiveRequest>, request: Request) -> Result<(), ClientError> {
    requests.try_send(StreamingReceiveRequest { request: Some(request) }).map_err(|_| too_full())
}

fn too_full() -> ClientError {
    ClientError::ConnectionLost { cause: "the stream takes no more requests".to_owned() }
}
