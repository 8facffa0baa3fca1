//! Whoever uses the broker under test: does one thing after another, or some side by side, and keeps the history.
//!
//! Nothing is tried again: a call that fails has an unknown outcome, and its error goes to the caller.

use super::history::{History, Life, Mark, Send, Span};
use super::lines::{Lines, key_of};
use bytes::BytesMut;
use futures_util::future::join_all;
use millstream::client::admin::TopicSettings;
use millstream::client::{Client, ClientError, PartitionOffset};
use millstream::proto::producer_service_client::ProducerServiceClient;
use millstream::proto::{Durability as WireDurability, ProduceRequest};
use millstream::types::record_set::encode_record;
use millstream::types::{Cleanup, Durability, Offset, TopicName, TopicPartition};
use std::net::SocketAddr;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

/// The one group that commits offsets.
pub(crate) const GROUP: &str = "readers";

/// A record to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) life: usize,
    pub(crate) partition: u32,
    pub(crate) len: usize,
    /// `None`: what the topic promises.
    pub(crate) durability: Option<Durability>,
}

/// The user of a broker.
pub(crate) struct Actor {
    pub(crate) history: History,
    pub(crate) client: Client,
    producers: ProducerServiceClient<Channel>,
    lines: Lines,
    /// The present moment.
    now: Box<dyn Fn() -> u64 + std::marker::Send + Sync>,
}

impl Actor {
    pub(crate) async fn new(
        address: SocketAddr,
        seed: u64,
        now: impl Fn() -> u64 + std::marker::Send + Sync + 'static,
    ) -> Self {
        let (client, producers) = connect(address).await;
        Self { history: History::default(), client, producers, lines: Lines::new(seed), now: Box::new(now) }
    }

    /// Goes on with another broker.
    pub(crate) async fn reconnect(&mut self, address: SocketAddr) {
        (self.client, self.producers) = connect(address).await;
    }

    fn asks(&self) -> Span {
        Span { asked: (self.now)(), acked: None }
    }

    /// Creates a topic; gives its number.
    pub(crate) async fn create_topic(
        &mut self,
        name: &str,
        partitions: u32,
        settings: &TopicSettings,
    ) -> Result<usize, ClientError> {
        let expires = settings.retention_bytes.is_some();
        let compacts = settings.cleanup == Some(Cleanup::Compact);
        let life = Life { name: name.to_owned(), partitions, expires, compacts, created: self.asks(), deleted: None };
        self.history.lives.push(life);
        self.client.create_topic(&topic_name(name), partitions, settings).await?;
        let life = self.history.lives.len() - 1;
        self.history.lives[life].created.acked = Some((self.now)());
        Ok(life)
    }

    /// Deletes a topic.
    pub(crate) async fn delete_topic(&mut self, life: usize) -> Result<(), ClientError> {
        let mut span = self.asks();
        self.history.lives[life].deleted = Some(span);
        self.client.delete_topic(&topic_name(&self.history.lives[life].name)).await?;
        span.acked = Some((self.now)());
        self.history.lives[life].deleted = Some(span);
        Ok(())
    }

    /// Sends records, each with a call of its own, side by side. Gives what went wrong, in the order of the records.
    pub(crate) async fn produce(&mut self, orders: &[Order]) -> Vec<Status> {
        let first = self.history.sends.len();
        let mut calls = Vec::new();
        for (line, order) in (first..).zip(orders) {
            let line = u32::try_from(line).expect("fewer than 2^32 lines");
            let value = self.lines.value(line, order.len);
            let Order { life, partition, .. } = *order;
            self.history.sends.push(Send {
                life,
                partition,
                len: value.len(),
                span: self.asks(),
                ack: None,
                refused: false,
            });
            let request = produce_request(&self.history.lives[life].name, order, line, &value);
            let (mut producers, now) = (self.producers.clone(), &self.now);
            calls.push(async move { producers.produce(request).await.map(|answer| (answer.into_inner(), now())) });
        }
        let answers = join_all(calls).await;
        let mut failures = Vec::new();
        for (send, answer) in self.history.sends[first..].iter_mut().zip(answers) {
            match answer {
                Ok((answer, now)) => {
                    let [result] = &answer.results[..] else { panic!("one partition, one result: {answer:?}") };
                    let durability = match result.durability() {
                        WireDurability::Synced => Durability::Synced,
                        _ => Durability::Written,
                    };
                    send.ack = Some((result.base_offset, durability));
                    send.span.acked = Some(now);
                }
                Err(status) => {
                    let details = status.get_error_details();
                    let facts = details.error_info().map(|info| info.metadata.clone()).unwrap_or_default();
                    send.refused = facts.get("no_side_effects").is_some_and(|word| word == "true");
                    failures.push(status);
                }
            }
        }
        failures
    }

    /// Commits an offset.
    pub(crate) async fn commit(&mut self, life: usize, partition: u32, offset: u64) -> Result<(), ClientError> {
        self.history.commits.push(Mark { life, partition, offset, span: self.asks() });
        let offsets = vec![PartitionOffset::new(self.at(life, partition), Offset(offset))];
        let refused = self.client.commit_offsets(GROUP, offsets).await?;
        assert!(refused.is_empty(), "{refused:?}");
        self.history.commits.last_mut().expect("it was pushed").span.acked = Some((self.now)());
        Ok(())
    }

    /// Deletes the records before an offset.
    pub(crate) async fn delete_records(&mut self, life: usize, partition: u32, before: u64) -> Result<(), ClientError> {
        self.history.deletions.push(Mark { life, partition, offset: before, span: self.asks() });
        let topic = topic_name(&self.history.lives[life].name);
        self.client.delete_records(&topic, partition, Offset(before)).await?;
        self.history.deletions.last_mut().expect("it was pushed").span.acked = Some((self.now)());
        Ok(())
    }

    /// Has a topic compacted.
    pub(crate) async fn compact(&mut self, life: usize) -> Result<(), ClientError> {
        let compacted = self.client.compact_topic(&topic_name(&self.history.lives[life].name)).await?;
        assert!(compacted.iter().all(|partition| partition.refusal.is_none()), "{compacted:?}");
        Ok(())
    }

    /// The offset after the last record that was acknowledged as synced: so far everybody may read.
    pub(crate) fn end(&self, life: usize, partition: u32) -> u64 {
        let here = self.history.sends.iter().filter(|send| (send.life, send.partition) == (life, partition));
        let acks = here.filter_map(|send| send.ack).filter(|(_, durability)| *durability == Durability::Synced);
        acks.map(|(offset, _)| offset + 1).max().unwrap_or(0)
    }

    fn at(&self, life: usize, partition: u32) -> TopicPartition {
        TopicPartition { topic: topic_name(&self.history.lives[life].name), partition }
    }
}

async fn connect(address: SocketAddr) -> (Client, ProducerServiceClient<Channel>) {
    let client = Client::connect(&address.to_string()).await.expect("the broker has said that it is ready");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    (client, ProducerServiceClient::new(endpoint.connect().await.expect("the broker serves")))
}

/// Appends one record, outside of any history; gives its offset.
pub(crate) async fn append(
    address: SocketAddr,
    topic: &str,
    partition: u32,
    line: u32,
    value: &[u8],
) -> Result<u64, Status> {
    let (_, mut producers) = connect(address).await;
    let order = Order { life: 0, partition, len: value.len(), durability: Some(Durability::Synced) };
    let answer = producers.produce(produce_request(topic, &order, line, value)).await?.into_inner();
    Ok(answer.results.first().map_or(u64::MAX, |result| result.base_offset))
}

fn topic_name(name: &str) -> TopicName {
    TopicName::new(name).expect("names here are valid")
}

fn produce_request(topic: &str, order: &Order, line: u32, value: &[u8]) -> ProduceRequest {
    let mut records = BytesMut::new();
    encode_record(&mut records, Some(&key_of(line)), Some(value), std::iter::empty(), None);
    let durability = match order.durability {
        None => WireDurability::Unspecified,
        Some(Durability::Written) => WireDurability::Written,
        Some(Durability::Synced) => WireDurability::Synced,
    };
    ProduceRequest {
        topic: topic.to_owned(),
        partition: Some(order.partition),
        records: records.freeze(),
        durability: durability.into(),
        ..ProduceRequest::default()
    }
}
