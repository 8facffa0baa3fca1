//! One `Subscribe` stream: its first message, its credit, its commits.
//!
//! Everything it sends without being asked (credit, releases) goes into a bounded channel without waiting, so reading
//! can be interrupted at any await. While it waits for the answer to a commit it keeps what else arrives; the window
//! bounds how much that is.

use super::batch::batches_from_wire;
use super::credit::CreditWindow;
use super::event::{Event, RecordsEvent};
use super::{Assignor, ConsumerOptions, OnExpired};
use crate::client::connection::service;
use crate::client::convert::{
    commit_errors_from_wire, offset_to_wire, offsets_from_wire, partition_from_wire, position_to_wire, required,
};
use crate::client::{Client, ClientError, PartitionOffset, PartitionOutcome};
use crate::proto::subscribe_request::{Commit, Open, Released, Request};
use crate::proto::subscribe_response::{Committed, Records, Response};
use crate::proto::{self, SubscribeRequest};
use crate::types::{Offset, TopicName, TopicPartition};
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Room for requests that HTTP/2 has not taken yet. Credit is granted in halves of the window and commits wait for
/// their answers, so more than a few never stand here.
const REQUESTS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Subscription {
    requests: mpsc::Sender<SubscribeRequest>,
    responses: Streaming<proto::SubscribeResponse>,
    /// What arrived while a commit was waited for.
    kept: VecDeque<Response>,
    member_id: String,
    credit: CreditWindow,
    /// Of the last records given to the reader: taken when it asks for more.
    lent: Option<(u64, u64)>,
    commits: u64,
}

impl Subscription {
    pub(super) async fn open(client: &Client, options: &ConsumerOptions) -> Result<Self, ClientError> {
        let credit = CreditWindow::new(options.window_records, options.window_bytes);
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        post(&requests, Request::Open(open_request(options, credit.initial())))?;
        let mut consumers = service!(client, consumer_service_client, ConsumerServiceClient);
        let mut responses = client.answer(consumers.subscribe(ReceiverStream::new(receiver))).await?;
        let first = responses.message().await?.and_then(|message| message.response);
        let Some(Response::Opened(opened)) = first else {
            return Err(ClientError::BadAnswer { what: "a subscription did not begin with Opened" });
        };
        Ok(Self {
            requests,
            responses,
            kept: VecDeque::new(),
            member_id: opened.member_id,
            credit,
            lent: None,
            commits: 0,
        })
    }

    pub(super) fn member_id(&self) -> &str {
        &self.member_id
    }

    pub(super) async fn next(&mut self, options: &ConsumerOptions) -> Result<Event, ClientError> {
        if let Some((records, bytes)) = self.lent.take() {
            self.credit.take(records, bytes);
        }
        if let Some(credit) = self.credit.grant() {
            post(&self.requests, Request::Credit(credit))?;
        }
        loop {
            let response = match self.kept.pop_front() {
                Some(response) => response,
                None => self.receive().await?,
            };
            if let Some(event) = event_of(response, options)? {
                if let Event::Records(records) = &event {
                    self.lent = Some((records.record_count(), records.len_bytes()));
                }
                return Ok(event);
            }
        }
    }

    /// Commits and waits for the answer.
    pub(super) async fn commit(&mut self, offsets: Vec<PartitionOffset>) -> Result<Vec<PartitionOutcome>, ClientError> {
        let expected = self.post_commit(offsets)?;
        loop {
            match self.receive().await? {
                Response::Committed(Committed { correlation_id, errors }) if correlation_id == expected => {
                    return commit_errors_from_wire(errors);
                }
                Response::Committed(_) => {}
                other => self.kept.push_back(other),
            }
        }
    }

    /// Commits, and passes the answer over when it comes: what is refused then was taken away, and comes again.
    pub(super) fn commit_unanswered(&mut self, done: Vec<PartitionOffset>) -> Result<(), ClientError> {
        if !done.is_empty() {
            self.post_commit(done)?;
        }
        Ok(())
    }

    /// Commits what is done, then lets the partitions go. The broker takes both in this order, so nothing is waited
    /// for here; a commit that is refused now means that the partitions were taken away before, and records repeat.
    pub(super) fn release(&mut self, done: Vec<PartitionOffset>, generation: u64) -> Result<(), ClientError> {
        self.commit_unanswered(done)?;
        post(&self.requests, Request::Released(Released { generation }))
    }

    fn post_commit(&mut self, offsets: Vec<PartitionOffset>) -> Result<u64, ClientError> {
        self.commits += 1;
        let offsets = offsets.into_iter().map(offset_to_wire).collect();
        post(&self.requests, Request::Commit(Commit { offsets, correlation_id: self.commits }))?;
        Ok(self.commits)
    }

    async fn receive(&mut self) -> Result<Response, ClientError> {
        match self.responses.message().await? {
            Some(message) => required(message.response, "a message of a subscription is empty"),
            None => Err(ClientError::ConnectionLost { cause: "the broker ended the subscription".to_owned() }),
        }
    }
}

/// A full channel means that the broker has read nothing for many requests: the stream is of no use any more.
fn post(requests: &mpsc::Sender<SubscribeRequest>, request: Request) -> Result<(), ClientError> {
    requests
        .try_send(SubscribeRequest { request: Some(request) })
        .map_err(|_| ClientError::ConnectionLost { cause: "the subscription takes no more requests".to_owned() })
}

fn open_request(options: &ConsumerOptions, credit: proto::Credit) -> Open {
    let on_expired = match options.on_expired {
        OnExpired::Fail => proto::OffsetExpired::Fail,
        OnExpired::Earliest => proto::OffsetExpired::Earliest,
        OnExpired::Latest => proto::OffsetExpired::Latest,
    };
    let assignor = match options.assignor {
        Assignor::Balanced => proto::Assignor::Balanced,
        Assignor::Range => proto::Assignor::Range,
    };
    Open {
        assignor: assignor.into(),
        topics: options.topics.iter().map(ToString::to_string).collect(),
        topic_patterns: options.topic_patterns.iter().map(ToString::to_string).collect(),
        group: options.group.clone().unwrap_or_default(),
        client_id: options.client_id.clone(),
        instance_id: options.instance_id.clone().unwrap_or_default(),
        // More than fits is beyond the bounds, and refused as such.
        session_timeout_ms: match options.instance_id {
            Some(_) => u32::try_from(options.session_timeout.as_millis()).unwrap_or(u32::MAX),
            None => 0,
        },
        start: Some(position_to_wire(options.start)),
        on_expired: on_expired.into(),
        partitions: options.partitions.clone(),
        credit: Some(credit),
        max_message_bytes: options.message_bytes,
        filter: options.filter.clone().unwrap_or_default(),
    }
}

/// The event of a message, or nothing if it is none of the reader's business.
fn event_of(response: Response, options: &ConsumerOptions) -> Result<Option<Event>, ClientError> {
    Ok(Some(match response {
        Response::Records(records) => match records_event(records, options)?.or_passed() {
            Some(event) => event,
            None => return Ok(None),
        },
        Response::Assigned(assigned) => {
            Event::Assigned { generation: assigned.generation, partitions: offsets_from_wire(assigned.partitions)? }
        }
        Response::Revoked(revoked) => {
            let partitions = revoked.partitions.iter();
            let partitions = partitions.map(|lost| partition_from_wire(&lost.topic, lost.partition));
            Event::Revoked { generation: revoked.generation, partitions: partitions.collect::<Result<_, _>>()? }
        }
        Response::Seek(seek) => {
            Event::Seek { generation: seek.generation, partitions: offsets_from_wire(seek.partitions)? }
        }
        Response::Paused(_) => Event::Paused,
        Response::Resumed(_) => Event::Resumed,
        Response::Heartbeat(heartbeat) => Event::Heartbeat { ends: offsets_from_wire(heartbeat.high_watermarks)? },
        Response::Drain(_) => Event::Draining,
        Response::Opened(_) | Response::Committed(_) => return Ok(None),
    }))
}

fn records_event(records: Records, options: &ConsumerOptions) -> Result<RecordsEvent, ClientError> {
    // A name that was given is shared, so that records of it allocate none.
    let named = options.topics.iter().find(|topic| topic.as_str() == records.topic).cloned();
    let matched = || {
        let topic = TopicName::new(&records.topic).ok()?;
        options.topic_patterns.iter().any(|pattern| pattern.matches(&topic)).then_some(topic)
    };
    let foreign = ClientError::BadAnswer { what: "records of a topic that was not subscribed to" };
    let partition = TopicPartition { topic: named.or_else(matched).ok_or(foreign)?, partition: records.partition };
    let batches = batches_from_wire(&partition, records.batches)?;
    let (high_watermark, told_next_offset) = (Offset(records.high_watermark), Offset(records.next_offset));
    Ok(RecordsEvent { partition, batches, high_watermark, told_next_offset })
}
