//! A client of `StreamingReceive` as tests drive it: opens, takes, settles, closes or vanishes.

use crate::common::{TestBroker, within};
use millstream::proto::settlement::{self, Verb};
use millstream::proto::streaming_receive_request::{Close, Open, Request, Settle};
use millstream::proto::streaming_receive_response::{Response, Settled};
use millstream::proto::{QueueCredit, QueueMessage, Settlement, StreamingReceiveRequest, StreamingReceiveResponse};
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// One open stream. Dropping it is vanishing.
pub(crate) struct QueueStream {
    requests: mpsc::Sender<StreamingReceiveRequest>,
    responses: Streaming<StreamingReceiveResponse>,
    messages: VecDeque<QueueMessage>,
    settled: VecDeque<Settled>,
}

/// What a stream with such a window asks for.
pub(crate) fn open_with_window(queue: &str, messages: u32) -> Open {
    let credit = Some(QueueCredit { messages, bytes: 1 << 20 });
    Open { queue: queue.to_owned(), credit, max_message_bytes: 0 }
}

impl QueueStream {
    /// Opens a stream, and waits until it is open.
    pub(crate) async fn open(broker: &TestBroker, open: Open) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        requests.try_send(StreamingReceiveRequest { request: Some(Request::Open(open)) }).expect("there is room");
        let responses = broker.queues().streaming_receive(ReceiverStream::new(receiver)).await?.into_inner();
        let mut stream = Self { requests, responses, messages: VecDeque::new(), settled: VecDeque::new() };
        match stream.respond().await? {
            Some(Response::Opened(_)) => Ok(stream),
            other => panic!("a stream begins with Opened, not {other:?}"),
        }
    }

    /// The next so many messages.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<QueueMessage> {
        while self.messages.len() < count {
            self.read().await.expect("the stream goes on");
        }
        self.messages.drain(..count).collect()
    }

    /// Sends verbs; gives the reason for each that was refused, by its number.
    pub(crate) async fn settle(&mut self, settlements: Vec<Settlement>) -> Vec<(u32, String)> {
        let settle = Settle { settlements, correlation_id: 7 };
        self.send(Request::Settle(settle)).await;
        while self.settled.is_empty() {
            self.read().await.expect("the stream goes on");
        }
        let settled = self.settled.pop_front().expect("it is there");
        assert_eq!(settled.correlation_id, 7);
        settled.refused.into_iter().map(|refused| (refused.index, refused.error.unwrap_or_default().reason)).collect()
    }

    /// The next answer to a settle request: its number, and which of its verbs were refused.
    pub(crate) async fn settled(&mut self) -> (u64, Vec<u32>) {
        while self.settled.is_empty() {
            self.read().await.expect("the stream goes on");
        }
        let settled = self.settled.pop_front().expect("it is there");
        (settled.correlation_id, settled.refused.into_iter().map(|refused| refused.index).collect())
    }

    /// Messages that came and were not taken.
    pub(crate) fn waiting(&self) -> usize {
        self.messages.len()
    }

    /// Sends a request.
    pub(crate) async fn send(&self, request: Request) {
        let message = StreamingReceiveRequest { request: Some(request) };
        self.requests.send(message).await.expect("the stream takes requests");
    }

    /// Closes in order, and reads to the end.
    pub(crate) async fn close(self) {
        self.send(Request::Close(Close {})).await;
        self.end_requests().await;
    }

    /// Ends this side, and reads to the end.
    pub(crate) async fn end_requests(mut self) {
        let (gone, _) = mpsc::channel(1);
        self.requests = gone;
        while within("the end of the stream", self.responses.message()).await.expect("it ends in peace").is_some() {}
    }

    /// The status that the broker ends the stream with.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.read().await {
                return status;
            }
        }
    }

    async fn read(&mut self) -> Result<(), Status> {
        match self.respond().await? {
            Some(Response::Messages(messages)) => self.messages.extend(messages.messages),
            Some(Response::Settled(settled)) => self.settled.push_back(settled),
            Some(_) => {}
            None => return Err(Status::ok("the stream has ended")),
        }
        Ok(())
    }

    async fn respond(&mut self) -> Result<Option<Response>, Status> {
        let message = within("a response of the stream", self.responses.message()).await?;
        Ok(message.and_then(|message| message.response))
    }
}

/// A verb about a message.
pub(crate) fn settlement(message: &QueueMessage, verb: Verb) -> Settlement {
    Settlement { lease_token: message.lease_token.clone(), verb: Some(verb) }
}

pub(crate) fn ack(message: &QueueMessage) -> Settlement {
    settlement(message, Verb::Ack(settlement::Ack {}))
}

pub(crate) fn release(message: &QueueMessage) -> Settlement {
    settlement(message, Verb::Release(settlement::Release {}))
}

/// To be retried after so many milliseconds; `None` = as the queue says.
pub(crate) fn nack(message: &QueueMessage, delay_ms: Option<u64>) -> Settlement {
    settlement(message, Verb::Nack(settlement::Nack { delay_ms, reason: "not today".to_owned() }))
}

pub(crate) fn extend(message: &QueueMessage, lease_ms: u64) -> Settlement {
    settlement(message, Verb::Extend(settlement::Extend { lease_ms: Some(lease_ms) }))
}

pub(crate) fn reject(message: &QueueMessage) -> Settlement {
    settlement(message, Verb::Reject(settlement::Reject { reason: "no such customer".to_owned() }))
}
