//! The one task that owns a producer's connection: sends sealed batches, takes answers, tries again.
//!
//! Answers come in the order of requests, so what is in flight is a queue. A lost connection puts everything in
//! flight back, in the order it was sealed. A batch refused as retryable stops new sends; when all answers are in,
//! the refused ones go first and alone. With numbers on them (`lanes`) a batch is appended once, and none overtakes
//! another; without, later ones overtake those refused if they were already on their way.

use super::batch::Batch;
use super::lanes::{Identity, Lanes, Need, Next};
use super::receipt::{BatchAck, RecordAck};
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
    fencing_token: Option<u64>,
    /// The offset that the next batch must get.
    expected_offset: Option<Offset>,
    /// The name of the producer, if it has one.
    name: Option<String>,
    /// The numbers of batches; `None` if they are sent without.
    lanes: Option<Lanes>,
    shared: Arc<Shared>,
    /// Sent and not answered, in the order sent.
    in_flight: VecDeque<Batch>,
    /// To be sent again, in the order they were sealed.
    resend: VecDeque<Batch>,
    /// Why sending has stopped, until all answers are in.
    refused: Option<ClientError>,
    /// Only what is sent again is sent, until it is acknowledged.
    recovering: bool,
    /// Why nothing is sent any more.
    failed: Option<ClientError>,
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
    pub(super) fn new(
        client: Client,
        topic: TopicName,
        options: &ProducerOptions,
        identity: Option<Identity>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            client,
            topic,
            durability: durability_to_wire(options.durability),
            max_in_flight: options.max_in_flight.max(1),
            delivery_timeout: options.delivery_timeout,
            fencing_token: options.fencing_token,
            expected_offset: options.expected_offset,
            name: options.name.clone(),
            lanes: identity.map(|identity| Lanes::new(identity, options.name.is_some())),
            shared,
            in_flight: VecDeque::new(),
            resend: VecDeque::new(),
            refused: None,
            recovering: false,
            failed: None,
            backoff: Backoff::new(),
        }
    }

    pub(super) async fn run(mut self) {
        // The stream is opened with its first request: a broker may wait for it before it answers at all.
        loop {
            if let Err(error) = self.renumber().await {
                self.come_back(error).await;
                continue;
            }
            if let Some(error) = self.failed.clone() {
                self.fail_all(&error);
            }
            let Some(first) = self.next_work().await else { return };
            if let Some(error) = &self.failed {
                self.settle(&first, Err(error.clone()));
                continue;
            }
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
                accumulator.next_deadline(|_| true)
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
        self.renumber().await?;
        if self.in_flight.is_empty() {
            if self.failed.is_some() {
                return Err(ClientError::Closed);
            }
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
            let has_room = |partition| self.lanes.as_ref().is_none_or(|lanes| lanes.has_room(partition));
            if self.may_send() && !self.recovering { accumulator.next_deadline(has_room) } else { None }
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
        self.failed.is_none() && self.refused.is_none() && self.in_flight.len() < self.max_in_flight
    }

    fn take_next(&mut self) -> Option<Batch> {
        let has_room = |partition| self.lanes.as_ref().is_none_or(|lanes| lanes.has_room(partition));
        if let Some(batch) = self.resend.front() {
            return if has_room(batch.partition) { self.resend.pop_front() } else { None };
        }
        if self.recovering { None } else { self.shared.accumulator().take_ready(Instant::now(), has_room) }
    }

    fn send(&mut self, requests: &Requests, mut batch: Batch, topic: String) -> Result<(), ClientError> {
        let stamp = self.lanes.as_mut().map(|lanes| lanes.stamp(&mut batch));
        if let (None, Some(next)) = (batch.expected_offset, self.expected_offset) {
            batch.expected_offset = Some(next);
            self.expected_offset = Some(next.advance(batch.record_count.into()));
        }
        let request = proto::ProduceStreamRequest {
            correlation_id: batch.sequence,
            request: Some(proto::ProduceRequest {
                topic,
                partition: Some(batch.partition),
                records: batch.records.clone(),
                durability: self.durability.into(),
                producer_id: stamp.map_or(0, |stamp| stamp.identity.id),
                producer_epoch: stamp.map_or(0, |stamp| stamp.identity.epoch),
                base_sequence: stamp.map(|stamp| stamp.base_sequence),
                expected_offset: batch.expected_offset.map(|offset| offset.0),
                fencing_token: self.fencing_token,
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
        if let Some(lanes) = &mut self.lanes {
            lanes.answered(&batch);
        }
        match outcome_of(answer) {
            Ok(ack) => {
                self.backoff.reset();
                if let Some(lanes) = &mut self.lanes {
                    lanes.acknowledged(&batch);
                }
                self.settle(&batch, Ok(ack));
            }
            Err(error) => self.take_refusal(batch, error),
        }
        Ok(())
    }

    fn take_refusal(&mut self, mut batch: Batch, error: ClientError) {
        let is_earlier = |other: &Batch| other.partition == batch.partition && other.sequence < batch.sequence;
        let earlier_waits = self.resend.iter().any(is_earlier);
        let next = match &mut self.lanes {
            Some(lanes) => lanes.refused(&mut batch, &error, earlier_waits),
            None if error.is_retryable() => Next::Again { pause: true },
            None => Next::Fail,
        };
        match next {
            Next::Again { pause } => {
                self.recovering = true;
                if pause {
                    self.refused.get_or_insert(error);
                }
                // Those behind it that were not sent yet must stay behind it.
                let place = self.resend.partition_point(|other| other.sequence < batch.sequence);
                self.resend.insert(place, batch);
            }
            Next::Fail => self.settle(&batch, Err(error)),
            Next::Stop => {
                self.settle(&batch, Err(error.clone()));
                self.failed.get_or_insert(error);
            }
        }
    }

    /// Gives new numbers to batches that need them, under a fresh identity if need be.
    async fn renumber(&mut self) -> Result<(), ClientError> {
        let Some(lanes) = &mut self.lanes else { return Ok(()) };
        match lanes.need() {
            Need::Nothing => lanes.renumber(&mut self.resend, None),
            Need::Identity => {
                tracing::debug!(topic = %self.topic, "going on under a fresh producer id");
                let identity = self.client.init_producer(None).await?;
                lanes.renumber(&mut self.resend, Some(identity));
            }
            Need::Impossible => {
                let name = self.name.clone().unwrap_or_default();
                let cause = "its sequence was lost while the outcome of a request was unknown".to_owned();
                self.failed.get_or_insert(ClientError::ProducerLost { name, cause });
            }
        }
        Ok(())
    }

    /// After a stream broke: puts back what was in flight, or fails it if there is no use in trying again, and waits.
    async fn come_back(&mut self, error: ClientError) {
        self.refused = None;
        if let Some(error) = self.failed.clone() {
            self.fail_all(&error);
            return;
        }
        if let Some(lanes) = &mut self.lanes {
            lanes.lost(&mut self.in_flight);
        }
        if error.is_retryable() {
            self.resend.append(&mut self.in_flight);
            self.resend.make_contiguous().sort_unstable_by_key(|batch| batch.sequence);
        } else {
            for batch in std::mem::take(&mut self.in_flight) {
                if let Some(lanes) = &mut self.lanes {
                    lanes.given_up(&batch);
                }
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
        if let Some(lanes) = &mut self.lanes {
            for batch in &old {
                lanes.given_up(batch);
            }
        }
        old.extend(self.shared.accumulator().take_older(before));
        for batch in &old {
            self.settle(batch, Err(error.clone()));
        }
    }

    /// Nothing that was taken is sent any more.
    fn fail_all(&mut self, error: &ClientError) {
        let mut left = std::mem::take(&mut self.in_flight);
        left.append(&mut self.resend);
        // Whatever comes is taken, to be told the same.
        (self.recovering, self.lanes) = (false, None);
        for batch in &left {
            self.settle(batch, Err(error.clone()));
        }
    }

    fn settle(&self, batch: &Batch, result: Result<BatchAck, ClientError>) {
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
fn outcome_of(answer: proto::ProduceStreamResponse) -> Result<BatchAck, ClientError> {
    if let Some(error) = answer.error {
        return Err(error.into());
    }
    let Some(result) = answer.results.into_iter().next() else {
        return Err(ClientError::BadAnswer { what: "a produce answer has neither result nor error" });
    };
    let durability = durability_from_wire(result.durability());
    if let Some(error) = result.error {
        return Err(error.into());
    }
    let first = RecordAck {
        partition: result.partition,
        offset: Offset(result.base_offset),
        append_time: result.append_time_ms,
        durability,
        duplicate: false,
    };
    let duplicates = result.duplicates.iter().map(|found| (found.record_index, Offset(found.offset))).collect();
    Ok(BatchAck { first, duplicates })
}
