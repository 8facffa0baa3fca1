//! What a client does in each run, always the same, one call at a time; and what it was answered.
//!
//! Nothing is tried again here: a call that fails is noted as what its error says, and the next one is made.

use crate::history::audit::{Subject, audit, topic_name};
use crate::history::{Event, Payload, RecordId, Recorder, Rule};
use bytes::BytesMut;
use millstream::client::admin::TopicSettings;
use millstream::client::{Client, ClientError, PartitionOffset};
use millstream::proto::producer_service_client::ProducerServiceClient;
use millstream::proto::{self, ProduceRequest};
use millstream::types::record_set::encode_record;
use millstream::types::{Cleanup, Durability, Offset, TopicPartition};
use std::net::SocketAddr;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

const TOPICS: [&str; 4] = ["run-synced", "run-written", "run-doomed", "run-compacted"];
const GROUP: &str = "run-readers";

/// The logs by number.
const SYNCED: u16 = 0;
const WRITTEN: u16 = 1;
const DOOMED: u16 = 2;
const COMPACTED: u16 = 3;

/// A client with its memory.
pub(crate) struct Actor {
    recorder: Recorder,
    subject: Subject,
    payload: Payload,
    /// The producer of each log.
    senders: [Sender; TOPICS.len()],
    violations: Vec<String>,
}

/// An idempotent producer, as the contract of `ProduceRequest` wants it.
#[derive(Default)]
struct Sender {
    /// Id and epoch, once the broker has given them.
    identity: Option<(u64, u32)>,
    sequence: u32,
    /// The batch of which nobody knows what became of it: it is sent again, unchanged, before anything else is.
    doubted: Option<Sending>,
    /// The last batch that was in doubt: a later refusal says nothing about the first time it was sent.
    sent_before: Option<RecordId>,
}

/// A batch on its way.
#[derive(Clone)]
struct Sending {
    first: RecordId,
    count: u32,
    request: ProduceRequest,
}

/// A connection to a living broker.
struct Connection {
    client: Client,
    producers: ProducerServiceClient<Channel>,
}

impl Actor {
    pub(crate) fn new() -> Self {
        let recorder = Recorder::default();
        let mut subject = Subject { groups: vec![GROUP.to_owned()], prefix: "run-".to_owned(), ..Subject::default() };
        for (log, topic) in (0..).zip(TOPICS) {
            let rule = match log {
                // Retention takes whole segments until what is left fits 1 MiB.
                WRITTEN => Rule::Retain { bytes_min: 0 },
                COMPACTED => Rule::Compact,
                _ => Rule::Keep,
            };
            recorder.record(Event::Log { log, topic: topic.to_owned(), partition: 0, rule });
            recorder.record(Event::Producer { producer: log, topic: topic.to_owned(), idempotent: true });
            subject.logs.push(TopicPartition { topic: topic_name(topic), partition: 0 });
        }
        let payload = Payload { seed: 1, large_each: 0 };
        Self { recorder, subject, payload, senders: Default::default(), violations: Vec::new() }
    }

    /// The first life: from an empty directory to logs with several segments, commits, and deletions.
    pub(crate) async fn first_life(&mut self, address: SocketAddr) {
        let Some(mut there) = Connection::open(address).await else { return };
        for log in [SYNCED, WRITTEN, DOOMED, COMPACTED] {
            self.create(&there, log).await;
        }
        for log in [SYNCED, WRITTEN, DOOMED] {
            self.produce(&mut there, log, 3, None).await;
        }
        self.produce(&mut there, SYNCED, 2, Some(Durability::Written)).await;
        self.produce(&mut there, WRITTEN, 2, Some(Durability::Synced)).await;
        self.commit(&there, SYNCED, 4).await;
        self.delete_topic(&there, DOOMED).await;
        // Over 1 MiB in a log: it begins new segments.
        for _ in 0..3 {
            self.produce(&mut there, SYNCED, 500, None).await;
            self.produce(&mut there, WRITTEN, 900, None).await;
            self.produce(&mut there, COMPACTED, 900, None).await;
        }
        self.compact(&there).await;
        self.delete_records(&there, SYNCED, 1_200).await;
        self.commit(&there, SYNCED, 1_300).await;
        self.commit(&there, WRITTEN, 5).await;
        self.produce(&mut there, WRITTEN, 1, None).await;
    }

    /// The second life, which begins with what a kill has left, and with retention.
    pub(crate) async fn second_life(&mut self, address: SocketAddr) {
        let Some(mut there) = Connection::open(address).await else { return };
        self.produce(&mut there, SYNCED, 3, None).await;
        self.produce(&mut there, WRITTEN, 3, None).await;
        self.commit(&there, SYNCED, 1_500).await;
        self.delete_records(&there, WRITTEN, 2_000).await;
        self.produce(&mut there, COMPACTED, 100, None).await;
        self.compact(&there).await;
    }

    /// The broker is gone.
    pub(crate) fn down(&self) {
        self.recorder.record(Event::Down);
    }

    /// After everything: all is compared with what was answered; what was in doubt is sent again; the broker takes
    /// records as ever; and all is compared once more.
    pub(crate) async fn audit(&mut self, address: SocketAddr) {
        let mut there = Connection::open(address).await.expect("it serves");
        audit(&there.client, &self.subject, self.payload, &self.recorder).await;
        for log in [SYNCED, WRITTEN, COMPACTED] {
            let is_there = there.client.topic(&self.subject.logs[usize::from(log)].topic).await.is_ok();
            if is_there && !self.produce(&mut there, log, 1, None).await {
                self.violations.push(format!("{}: a broker without a fault takes no record", TOPICS[usize::from(log)]));
            }
        }
        self.down();
        audit(&there.client, &self.subject, self.payload, &self.recorder).await;
        // A topic that was never made, or is deleted, leaves its producer without an answer.
        for sender in &self.senders {
            if let Some(Sending { first, count, .. }) = sender.doubted {
                self.recorder.record(Event::Refused { first, count, certain: false });
            }
        }
        self.recorder.record(Event::Finished);
    }

    /// What is wrong, in words.
    pub(crate) fn into_violations(self) -> Vec<String> {
        let anomalies = self.recorder.look();
        anomalies.iter().map(ToString::to_string).chain(self.violations).collect()
    }

    async fn create(&self, there: &Connection, log: u16) {
        let topic = self.subject.logs[usize::from(log)].topic.clone();
        let mut settings = TopicSettings { segment_bytes: Some(1 << 20), ..TopicSettings::default() };
        if log == WRITTEN {
            settings.durability = Some(Durability::Written);
            settings.retention_bytes = Some(1 << 20);
        }
        settings.cleanup = (log == COMPACTED).then_some(Cleanup::Compact);
        self.recorder.record(Event::TopicAsked { topic: topic.to_string(), exists: true });
        if there.client.create_topic(&topic, 1, &settings).await.is_ok() {
            self.recorder.record(Event::TopicDone { topic: topic.to_string(), exists: true });
        }
    }

    async fn compact(&self, there: &Connection) {
        // Whatever it comes to: the checker knows what may be gone.
        let _ = there.client.compact_topic(&self.subject.logs[usize::from(COMPACTED)].topic).await;
    }

    async fn delete_topic(&self, there: &Connection, log: u16) {
        let topic = &self.subject.logs[usize::from(log)].topic;
        self.recorder.record(Event::TopicAsked { topic: topic.to_string(), exists: false });
        if there.client.delete_topic(topic).await.is_ok() {
            self.recorder.record(Event::TopicDone { topic: topic.to_string(), exists: false });
        }
    }

    /// Sends records as one batch; whether they were acknowledged.
    async fn produce(&mut self, there: &mut Connection, log: u16, count: u32, durability: Option<Durability>) -> bool {
        let sender = &mut self.senders[usize::from(log)];
        if let Some(doubted) = sender.doubted.take()
            && !self.send(there, log, doubted).await
        {
            return false;
        }
        let Some((producer_id, producer_epoch)) = self.identity(there, log).await else { return false };
        let first = self.recorder.sent(log, count);
        let mut records = BytesMut::new();
        for id in first..first + count {
            let content = self.payload.of(id);
            let headers = content.headers().into_iter();
            encode_record(&mut records, Some(&content.key), Some(&content.value), headers, None);
        }
        let durability = match durability {
            None => proto::Durability::Unspecified,
            Some(Durability::Written) => proto::Durability::Written,
            Some(Durability::Synced) => proto::Durability::Synced,
        };
        let request = ProduceRequest {
            topic: TOPICS[usize::from(log)].to_owned(),
            partition: Some(0),
            records: records.freeze(),
            durability: durability.into(),
            producer_id,
            producer_epoch,
            base_sequence: Some(self.senders[usize::from(log)].sequence),
            ..ProduceRequest::default()
        };
        self.send(there, log, Sending { first, count, request }).await
    }

    async fn identity(&mut self, there: &mut Connection, log: u16) -> Option<(u64, u32)> {
        let sender = &mut self.senders[usize::from(log)];
        if sender.identity.is_none() {
            // The broker keeps the epochs of those that have a name.
            let name = (log == SYNCED).then(|| "run-producer".to_owned());
            let given = there.producers.init_producer(proto::InitProducerRequest { name }).await.ok()?.into_inner();
            sender.identity = Some((given.producer_id, given.producer_epoch));
        }
        sender.identity
    }

    /// Sends a batch, or sends it again. It is held to its word: what it says had no effect has none, and what nobody
    /// knows the effect of is sent again later.
    async fn send(&mut self, there: &mut Connection, log: u16, sending: Sending) -> bool {
        let sender = &mut self.senders[usize::from(log)];
        let Sending { first, count, request } = sending.clone();
        match there.producers.produce(request).await {
            Ok(answer) => {
                let offset = answer.into_inner().results[0].base_offset;
                sender.sequence += count;
                self.recorder.record(Event::Acked { first, count, log, offset });
                return true;
            }
            Err(status) => {
                let details = status.get_error_details();
                let says = details.error_info().and_then(|info| info.metadata.get("no_side_effects"));
                let was_doubted = sender.sent_before == Some(first);
                if says.is_some_and(|says| says == "true") && !was_doubted {
                    self.recorder.record(Event::Refused { first, count, certain: true });
                } else {
                    sender.sent_before = Some(first);
                    sender.doubted = Some(sending);
                }
            }
        }
        false
    }

    async fn delete_records(&self, there: &Connection, log: u16, before: u64) {
        let partition = &self.subject.logs[usize::from(log)];
        self.recorder.record(Event::DeleteAsked { log, before });
        if let Ok(start) = there.client.delete_records(&partition.topic, partition.partition, Offset(before)).await {
            self.recorder.record(Event::DeleteDone { log, start: start.0 });
        }
    }

    async fn commit(&self, there: &Connection, log: u16, offset: u64) {
        self.recorder.record(Event::CommitAsked { group: 0, log, offset });
        let partition = self.subject.logs[usize::from(log)].clone();
        let committed: Result<_, ClientError> =
            there.client.commit_offsets(GROUP, vec![PartitionOffset::new(partition, Offset(offset))]).await;
        if committed.is_ok_and(|refused| refused.is_empty()) {
            self.recorder.record(Event::CommitDone { group: 0, log, offset });
        }
    }
}

impl Connection {
    /// `None` if the broker is gone already.
    async fn open(address: SocketAddr) -> Option<Self> {
        let client = Client::connect(&address.to_string()).await.ok()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.tcp_nodelay(true).connect().await.ok()?;
        Some(Self { client, producers: ProducerServiceClient::new(channel) })
    }
}
