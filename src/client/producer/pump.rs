//! The one task that owns a producer's connection: sends sealed batches, takes answers, tries again.
//!
//! Answers come in the order of requests, so what is in flight is a queue. A lost connection puts everything in
//! flight back, in the order it was sealed. A batch refused as retryable stops new sends; when all answers are in,
//! the refused ones go first and alone, so that later batches overtake them only if they were already on their way.

use super::batch::Batch;
use super::receipt::RecordAck;
use super::{ProducerOptions, Shared};
use crate::client::backoff::Backoff;
use crate::client::connection::service;
use crate::client::convert::{durability_from_wire, durability_to_wire};
use crate::client::{Client, ClientError};
use crate::proto;
use crate::types::{Offset, TopicName};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

#[derive(Debug)]
pub(super) struct Pump {
    client: Client,
    topic: TopicName,
    durability: proto::Durability,
    max_in_flight: usize,
    delivery_timeout: Duration,
    shared: Arc<Shared>,
    /// Sent and not answered, in the order sent.
    in_flight: VecDeque<Batch>,
    /// To be sent again, in the order they were sealed.
    resend: VecDeque<Batch>,
    /// Why sending has stopped, until all answers are in.
    refused: Option<ClientError>,
    /// Only what is sent again is sent, until it is acknowledged.
    recovering: bool,
    backoff: Backoff,
}

/// Why a stream is over.
enum End {
    /// The producer is closed and everything is settled.
    Finished,
    /// The connection or the stream broke.
    Lost(ClientError),
}

type Requests = mpsc::Sender<proto::ProduceStreamRequest>;

impl Pump {
    pub(super) fn new(client: Client, topic: TopicName, options: &ProducerOptions, shared: Arc<Shared>) -> Self {
        Self {
            client,
            topic,
            durability: durability_to_wire(options.durability),
            max_in_flight: options.max_in_flight.max(1),
            delivery_timeout: options.delivery_timeout,
            shared,
            in_flight: VecDeque::new(),
            resend: VecDeque::new(),
            refused: None,
            recovering: false,
            backoff: Backoff::new(),
        }
    }

    pub(super) async fn run(mut self) {
        // The stream is opened with its first request: a broker may wait for it before it answers at all.
        while let Some(first) = self.next_work().await {
            match self.deliver(first).await {
                End::Finished => return,
                End::Lost(error) => self.come_back(error).await,
            }
        }
    }

    /// The first batch to send; `None` when the producer is closed and everything is settled.
    async fn next_work(&mut self) -> Option<Batch> {
        loop {
            if let Some(batch) = self.take_next() {
                return Some(batch);
            }
            let deadline = {
                let mut accumulator = self.shared.accumulator();
                if accumulator.is_finished() {
                    return None;
                }
                accumulator.next_deadline()
            };
            tokio::select! {
                () = self.shared.work.notified() => {}
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// One stream, from its first request until it breaks or there is nothing more to send for ever.
    async fn deliver(&mut self, first: Batch) -> End {
        // Never blocks: it has room for everything that may be in flight.
        let (requests, receiver) = mpsc::channel(self.max_in_flight);
        let mut producers = service!(self.client, producer_service_client, ProducerServiceClient);
        if let Err(error) = self.send(&requests, first, self.topic.to_string()) {
            return End::Lost(error);
        }
        let opening = producers.produce_stream(ReceiverStream::new(receiver));
        let mut answers = match self.client.answer(opening).await {
            Ok(answers) => answers,
            Err(error) => return End::Lost(error),
        };
        loop {
            match self.step(&requests, &mut answers).await {
                Ok(false) => {}
                Ok(true) => return End::Finished,
                Err(error) => return End::Lost(error),
            }
        }
    }

    /// Sends what may be sent, then waits for whatever comes first. Whether all is done.
    async fn step(
        &mut self,
        requests: &Requests,
        answers: &mut Streaming<proto::ProduceStreamResponse>,
    ) -> Result<bool, ClientError> {
        while self.may_send() {
            let Some(batch) = self.take_next() else { break };
            self.send(requests, batch, String::new())?;
        }
        if self.in_flight.is_empty() {
            if let Some(error) = self.refused.take() {
                self.give_up_old(&error);
                tokio::time::sleep(self.backoff.next_wait(error.retry_after())).await;
                return Ok(false);
            }
            if std::mem::take(&mut self.recovering) {
                return Ok(false);
            }
        }
        let deadline = {
            let mut accumulator = self.shared.accumulator();
            if accumulator.is_finished() {
                return Ok(true);
            }
            // When nothing may be sent, only an answer changes that.
            if self.may_send() && !self.recovering { accumulator.next_deadline() } else { None }
        };
        tokio::select! {
            answer = answers.message() => match answer? {
                Some(answer) => self.take_answer(answer)?,
                None => return Err(ClientError::ConnectionLost { cause: "the broker ended the stream".to_owned() }),
            },
            () = self.shared.work.notified() => {}
            () = sleep_until(deadline) => {}
        }
        Ok(false)
    }

    fn may_send(&self) -> bool {
        self.refused.is_none() && self.in_flight.len() < self.max_in_flight
    }

    fn take_next(&mut self) -> Option<Batch> {
        if let Some(batch) = self.resend.pop_front() {
            return Some(batch);
        }
        if self.recovering { None } else { self.shared.accumulator().take_ready(Instant::now()) }
    }

    fn send(&mut self, requests: &Requests, batch: Batch, topic: String) -> Result<(), ClientError> {
        let request = proto::ProduceStreamRequest {
            correlation_id: batch.sequence,
            request: Some(proto::ProduceRequest {
                topic,
                partition: Some(batch.partition),
                records: batch.records.clone(),
                durability: self.durability.into(),
                ..proto::ProduceRequest::default()
            }),
        };
        self.in_flight.push_back(batch);
        // It has room for all that is in flight, so this fails only when the transport has dropped its end.
        requests
            .try_send(request)
            .map_err(|_| ClientError::ConnectionLost { cause: "the stream was closed".to_owned() })
    }

    fn take_answer(&mut self, answer: proto::ProduceStreamResponse) -> Result<(), ClientError> {
        match self.in_flight.front() {
            Some(batch) if batch.sequence == answer.correlation_id => {}
            _ => return Err(ClientError::BadAnswer { what: "an answer to a request that was not made" }),
        }
        let Some(batch) = self.in_flight.pop_front() else {
            unreachable!("the front was there a line before");
        };
        match outcome_of(answer) {
            Ok(ack) => {
                self.backoff.reset();
                self.settle(&batch, Ok(ack));
            }
            Err(error) if error.is_retryable() => {
                self.recovering = true;
                self.resend.push_back(batch);
                self.refused.get_or_insert(error);
            }
            Err(error) => self.settle(&batch, Err(error)),
        }
        Ok(())
    }

    /// After a stream broke: puts back what was in flight, or fails it if there is no use in trying again, and waits.
    async fn come_back(&mut self, error: ClientError) {
        self.refused = None;
        if error.is_retryable() {
            self.resend.append(&mut self.in_flight);
            self.resend.make_contiguous().sort_unstable_by_key(|batch| batch.sequence);
        } else {
            for batch in std::mem::take(&mut self.in_flight) {
                self.settle(&batch, Err(error.clone()));
            }
        }
        self.recovering = !self.resend.is_empty();
        self.give_up_old(&error);
        tracing::debug!(%error, batches = self.resend.len(), "the produce stream broke");
        tokio::time::sleep(self.backoff.next_wait(error.retry_after())).await;
        // The topic may have grown meanwhile. If it cannot be asked, the next stream will say why.
        if let Ok((topic, _)) = self.client.topic(&self.topic).await {
            self.shared.accumulator().set_partitions(topic.partitions);
        }
    }

    /// Fails what has been waiting for longer than the delivery timeout.
    fn give_up_old(&mut self, error: &ClientError) {
        let Some(before) = Instant::now().checked_sub(self.delivery_timeout) else { return };
        let (mut old, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.resend).into_iter().partition(|batch| batch.opened_at < before);
        self.resend = rest;
        old.extend(self.shared.accumulator().take_older(before));
        for batch in &old {
            self.settle(batch, Err(error.clone()));
        }
    }

    fn settle(&self, batch: &Batch, result: Result<RecordAck, ClientError>) {
        self.shared.accumulator().settle(batch, result);
        self.shared.space.notify_waiters();
    }
}

/// A task that is dropped with the runtime, or panics, must not leave anybody waiting.
impl Drop for Pump {
    fn drop(&mut self) {
        let mut left = self.shared.accumulator().take_all();
        left.extend(self.in_flight.drain(..));
        left.extend(self.resend.drain(..));
        for batch in &left {
            self.settle(batch, Err(ClientError::Closed));
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// With a partition in the request, the answer is one result or one error.
fn outcome_of(answer: proto::ProduceStreamResponse) -> Result<RecordAck, ClientError> {
    if let Some(error) = answer.error {
        return Err(error.into());
    }
    let Some(result) = answer.results.into_iter().next() else {
        return Err(ClientError::BadAnswer { what: "a produce answer has neither result nor error" });
    };
    let durability = durability_from_wire(result.durability());
    match result.error {
        Some(error) => Err(error.into()),
        None => Ok(RecordAck {
            partition: result.partition,
            offset: Offset(result.base_offset),
            append_time: result.append_time_ms,
            durability,
        }),
    }
}
