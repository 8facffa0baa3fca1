//! One Subscribe stream, as a generated client speaks it.

use super::{TestBroker, within};
use crate::common::records::values_of;
use millstream::proto::subscribe_request::{Commit, Open, Released, Request};
use millstream::proto::subscribe_response::{Assigned, Committed, Heartbeat, Records, Response, Revoked, Seek};
use millstream::proto::{
    Credit, Edge, PartitionOffset, Position, SubscribeRequest, SubscribeResponse, TopicPartition, position::At,
};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Requests that may wait to be sent.
const OUTBOX_MAX: usize = 64;

/// Partition, offset and value of a record.
pub(crate) type Seen = (u32, u64, String);

/// An open subscription. Dropping it drops the stream, as a client that dies does.
pub(crate) struct Subscriber {
    requests: mpsc::Sender<SubscribeRequest>,
    responses: Streaming<SubscribeResponse>,
    pub(crate) member_id: String,
    /// The generation of the latest assignment.
    pub(crate) generation: u64,
    /// What it was assigned and did not lose since, with the offset each began at.
    pub(crate) owned: BTreeMap<(String, u32), u64>,
    /// Records that came while something else was waited for.
    pub(crate) records: Vec<Records>,
}

/// Everything from the beginning of a topic, without a group and without limit.
pub(crate) fn from_start(topic: &str) -> Open {
    Open { topics: vec![topic.to_owned()], start: Some(edge(Edge::Earliest)), ..Open::default() }
}

/// The same as a member of a group.
pub(crate) fn as_member(topic: &str, group: &str) -> Open {
    Open { group: group.to_owned(), ..from_start(topic) }
}

/// One end of a log.
pub(crate) fn edge(edge: Edge) -> Position {
    Position { at: Some(At::Edge(edge as i32)) }
}

/// An offset to commit.
pub(crate) fn at_offset(topic: &str, partition: u32, offset: u64) -> PartitionOffset {
    PartitionOffset { topic: topic.to_owned(), partition, offset, metadata: String::new() }
}

impl Subscriber {
    /// Opens a stream and waits until the broker says that it is open.
    pub(crate) async fn open(broker: &TestBroker, open: Open) -> Result<Self, Status> {
        let (requests, outbox) = mpsc::channel(OUTBOX_MAX);
        requests.send(SubscribeRequest { request: Some(Request::Open(open)) }).await.expect("it is not full");
        let call = broker.consumer().subscribe(ReceiverStream::new(outbox)).await;
        let mut responses = call?.into_inner();
        let first = within("the first message of a stream", responses.message()).await?;
        let Some(Response::Opened(opened)) = first.and_then(|first| first.response) else {
            panic!("the first message is not Opened");
        };
        let (owned, records) = (BTreeMap::new(), Vec::new());
        Ok(Self { requests, responses, member_id: opened.member_id, generation: 0, owned, records })
    }

    /// The next message; `None` when the broker has ended the stream without an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Response>, Status> {
        let message = within("a message of a stream", self.responses.message()).await?;
        let response = message.map(|message| message.response.expect("messages are not empty"));
        match &response {
            Some(
                Response::Assigned(Assigned { generation, partitions })
                | Response::Seek(Seek { generation, partitions }),
            ) => {
                self.generation = *generation;
                let begun =
                    |partition: &PartitionOffset| ((partition.topic.clone(), partition.partition), partition.offset);
                self.owned.extend(partitions.iter().map(begun));
            }
            Some(Response::Revoked(Revoked { partitions, .. })) => {
                let is_lost = |at: &(String, u32)| {
                    partitions.iter().any(|lost: &TopicPartition| lost.topic == at.0 && lost.partition == at.1)
                };
                self.owned.retain(|at, _| !is_lost(at));
            }
            _ => {}
        }
        Ok(response)
    }

    /// The next message of the kind that `choose` wants; others are kept or let go, as it says. Bounded as a whole:
    /// a stream that only sends heartbeats does not end by itself.
    async fn next_of<T>(&mut self, what: &str, mut choose: impl FnMut(&mut Self, Response) -> Option<T>) -> T {
        within(what, async {
            loop {
                let message = self.next().await.expect("the stream goes on").expect("the stream goes on");
                if let Some(chosen) = choose(self, message) {
                    return chosen;
                }
            }
        })
        .await
    }

    /// The next message that is not records or a heartbeat; records are kept.
    pub(crate) async fn next_notice(&mut self) -> Response {
        self.next_of("a notice", |subscriber, message| match message {
            Response::Records(records) => {
                subscriber.records.push(records);
                None
            }
            Response::Heartbeat(_) => None,
            notice => Some(notice),
        })
        .await
    }

    /// Takes at least `count` records, with those that came before, as far as whole messages go.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Seen> {
        let mut seen = self.take_kept();
        while seen.len() < count {
            seen.extend(seen_in(&self.next_records().await));
        }
        seen
    }

    /// Takes the records that came while something else was waited for.
    pub(crate) fn take_kept(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.records).iter().flat_map(seen_in).collect()
    }

    /// The next message that carries records.
    pub(crate) async fn next_records(&mut self) -> Records {
        self.next_of("records", |_, message| match message {
            Response::Records(records) => Some(records),
            Response::Assigned(_) | Response::Heartbeat(_) => None,
            other => panic!("records were expected, not {other:?}"),
        })
        .await
    }

    /// The next heartbeat.
    pub(crate) async fn next_heartbeat(&mut self) -> Heartbeat {
        self.next_of("a heartbeat", |_, message| match message {
            Response::Heartbeat(heartbeat) => Some(heartbeat),
            _ => None,
        })
        .await
    }

    /// Follows assignments, letting go of what is revoked at once, until this many partitions are owned.
    pub(crate) async fn follow_until_owning(&mut self, count: usize) {
        while self.owned.len() != count {
            if let Response::Revoked(Revoked { generation, .. }) = self.next_notice().await {
                self.send(Request::Released(Released { generation })).await;
            }
        }
    }

    /// The partitions it owns.
    pub(crate) fn partitions(&self) -> Vec<u32> {
        self.owned.keys().map(|(_, partition)| *partition).collect()
    }

    /// Grants more.
    pub(crate) async fn grant(&self, records: u64, bytes: u64) {
        self.send(Request::Credit(Credit { records, bytes })).await;
    }

    /// Commits, and waits for the answer.
    pub(crate) async fn commit(&mut self, correlation_id: u64, offsets: Vec<PartitionOffset>) -> Committed {
        self.send(Request::Commit(Commit { offsets, correlation_id })).await;
        match self.next_notice().await {
            Response::Committed(committed) => committed,
            other => panic!("a commit was expected to be answered, not {other:?}"),
        }
    }

    /// Makes sure that the broker has nothing to send: it is asked for an answer often enough that records which
    /// could have been sent would have come before one of the answers. Only for members of a group.
    pub(crate) async fn listen(&mut self) -> Vec<Seen> {
        const ROUNDS: u64 = 30;
        for round in 0..ROUNDS {
            self.commit(round, Vec::new()).await;
        }
        self.take_kept()
    }

    /// Sends a message.
    pub(crate) async fn send(&self, request: Request) {
        let message = SubscribeRequest { request: Some(request) };
        self.requests.send(message).await.expect("the stream is open");
    }
}

fn seen_in(records: &Records) -> Vec<Seen> {
    values_of(&records.batches).into_iter().map(|(offset, value)| (records.partition, offset, value)).collect()
}
