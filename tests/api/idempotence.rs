//! Idempotent producers: each batch once, in order, whatever is sent twice and whoever comes back.

use crate::common::TestBroker;
use crate::common::records::{numbered, set, values_of};
use crate::common::refusal::{Refusal, refusal};
use millstream::proto::{
    InitProducerRequest, InitProducerResponse, ProduceRequest, ProduceResult, ProduceStreamRequest, TopicOptions,
};
use std::collections::HashSet;
use tonic::{Code, Status};

/// One producer, and what it sends.
#[derive(Clone, Copy)]
struct Sender {
    id: u64,
    epoch: u32,
}

impl Sender {
    async fn init(broker: &TestBroker, name: Option<&str>) -> Self {
        let request = InitProducerRequest { name: name.map(str::to_owned) };
        let answer = broker.producer().init_producer(request).await.expect("an identity").into_inner();
        let InitProducerResponse { producer_id: id, producer_epoch: epoch } = answer;
        Self { id, epoch }
    }

    /// `count` records from `sequence` on, whose values say so.
    fn request(self, sequence: u32, count: u32) -> ProduceRequest {
        let values = (sequence..sequence + count).map(|n| crate::common::records::record(format!("r{n}"))).collect();
        ProduceRequest {
            topic: "orders".into(),
            partition: Some(0),
            records: set(values),
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: Some(sequence),
            ..ProduceRequest::default()
        }
    }

    async fn send(self, broker: &TestBroker, sequence: u32, count: u32) -> Result<ProduceResult, Status> {
        let answer = broker.producer().produce(self.request(sequence, count)).await?;
        Ok(answer.into_inner().results.remove(0))
    }

    async fn must(self, broker: &TestBroker, sequence: u32, count: u32) -> (u64, bool) {
        let result = self.send(broker, sequence, count).await.expect("it is in the log");
        assert_eq!(result.record_count, count);
        (result.base_offset, result.duplicate)
    }
}

async fn broker_with_topic() -> TestBroker {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker
}

async fn values(broker: &TestBroker) -> Vec<String> {
    values_of(&broker.fetch("orders", 0, 0).await.batches).into_iter().map(|(_, value)| value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_answer_of_the_first_time_and_appends_nothing() {
    let broker = broker_with_topic().await;
    let sender = Sender::init(&broker, None).await;
    let first = sender.send(&broker, 0, 3).await.expect("appended");
    broker.append("orders", 0, set(numbered("other-", 4))).await;
    assert_eq!(sender.must(&broker, 3, 2).await, (7, false));
    let again = sender.send(&broker, 0, 3).await.expect("known");
    assert_eq!(again, ProduceResult { duplicate: true, ..first });
    assert_eq!(sender.must(&broker, 3, 2).await, (7, true));
    assert_eq!(values(&broker).await.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_five_batches_are_known_and_older_ones_refused() {
    let broker = broker_with_topic().await;
    let sender = Sender::init(&broker, None).await;
    for sequence in 0..6 {
        assert_eq!(sender.must(&broker, sequence, 1).await, (sequence.into(), false));
    }
    for sequence in 1..6 {
        assert_eq!(sender.must(&broker, sequence, 1).await, (sequence.into(), true));
    }
    let old = refusal(sender.send(&broker, 0, 1).await);
    assert_eq!((old.kind(), old.fact("expected_sequence")), ((Code::FailedPrecondition, "OUT_OF_SEQUENCE"), "6"));
    assert_eq!(values(&broker).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_refused_and_nothing_behind_it_is_appended() {
    let broker = broker_with_topic().await;
    let sender = Sender::init(&broker, None).await;
    sender.must(&broker, 0, 2).await;
    let gap = refusal(sender.send(&broker, 3, 1).await);
    assert_eq!(gap.kind(), (Code::FailedPrecondition, "OUT_OF_SEQUENCE"));
    for (fact, value) in [("expected_sequence", "2"), ("base_sequence", "3"), ("partition", "0"), ("topic", "orders")] {
        assert_eq!(gap.fact(fact), value, "{fact}");
    }
    assert_eq!((gap.fact("retryable"), gap.fact("no_side_effects")), ("false", "true"));
    assert_eq!(refusal(sender.send(&broker, 4, 1).await).reason, "OUT_OF_SEQUENCE");
    assert_eq!(sender.must(&broker, 2, 1).await, (2, false));
    assert_eq!(sender.must(&broker, 3, 1).await, (3, false));
    assert_eq!(values(&broker).await, ["r0", "r1", "r2", "r3"]);
}

/// Batches that share a drain are told apart before any of them is on disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_with_repeats_and_gaps_in_it_appends_each_record_once() {
    let broker = broker_with_topic().await;
    let sender = Sender::init(&broker, None).await;
    let sent = [(0, 2), (0, 2), (5, 1), (2, 3), (5, 1), (2, 3), (0, 2), (6, 1)];
    let requests = sent.map(|(sequence, count)| ProduceStreamRequest {
        correlation_id: sequence.into(),
        request: Some(sender.request(sequence, count)),
    });
    let answers = broker.producer().produce_stream(tokio_stream::iter(requests)).await.expect("opens");
    let mut answers = answers.into_inner();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await.expect("the stream is whole") {
        let result = answer.results.into_iter().next().expect("with a partition there is one");
        seen.push(match result.error {
            None => Ok((result.base_offset, result.duplicate)),
            Some(error) => Err(Refusal::from(error).reason),
        });
    }
    let gap = || Err("OUT_OF_SEQUENCE".to_owned());
    let expected = [Ok((0, false)), Ok((0, true)), gap(), Ok((2, false)), Ok((5, false)), Ok((2, true)), Ok((0, true))];
    assert_eq!(seen[..7], expected);
    assert_eq!(seen[7], Ok((6, false)));
    assert_eq!(values(&broker).await, ["r0", "r1", "r2", "r3", "r4", "r5", "r6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_producer_survives_restarts() {
    let mut broker = broker_with_topic().await;
    let sender = Sender::init(&broker, None).await;
    sender.must(&broker, 0, 3).await;
    sender.must(&broker, 3, 1).await;
    for _ in 0..2 {
        broker.restart().await;
        assert_eq!(sender.must(&broker, 0, 3).await, (0, true));
        assert_eq!(sender.must(&broker, 3, 1).await, (3, true));
        assert_eq!(refusal(sender.send(&broker, 5, 1).await).reason, "OUT_OF_SEQUENCE");
    }
    assert_eq!(sender.must(&broker, 4, 2).await, (4, false));
    // Without the cache the log itself says it.
    broker.restart().await;
    for entry in walk(broker.data_dir()) {
        if entry.ends_with("producers.snapshot") {
            #[expect(clippy::disallowed_methods, reason = "what is taken away past the seam must be made again")]
            std::fs::remove_file(entry).expect("it is a cache");
        }
    }
    broker.restart().await;
    assert_eq!(sender.must(&broker, 4, 2).await, (4, true));
    assert_eq!(values(&broker).await.len(), 6);
}

/// Every file below a directory.
fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_life_of_a_name_fences_the_one_before_in_every_partition() {
    let mut broker = broker_with_topic().await;
    broker.create_topic("bills", 1).await;
    let zombie = Sender::init(&broker, Some("billing")).await;
    zombie.must(&broker, 0, 1).await;
    let successor = Sender::init(&broker, Some("billing")).await;
    assert_eq!((successor.id, successor.epoch), (zombie.id, zombie.epoch + 1));
    for restarts in 0..2 {
        for topic in ["orders", "bills"] {
            let request = ProduceRequest { topic: topic.into(), ..zombie.request(restarts + 1, 1) };
            let fenced = refusal(broker.producer().produce(request).await);
            assert_eq!(fenced.kind(), (Code::Aborted, "PRODUCER_FENCED"), "{topic}");
            assert_eq!(fenced.fact("current_epoch"), successor.epoch.to_string());
        }
        let repeat = refusal(zombie.send(&broker, 0, 1).await);
        assert_eq!(repeat.reason, "PRODUCER_FENCED", "also what would be a repeat");
        broker.restart().await;
    }
    assert_eq!(successor.must(&broker, 0, 2).await, (1, false), "it begins with sequence 0");
    assert_eq!(values(&broker).await, ["r0", "r0", "r1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_never_given_twice_and_must_have_been_given() {
    let mut broker = broker_with_topic().await;
    let mut given = HashSet::new();
    for _ in 0..3 {
        for name in [None, None, Some("a"), Some("b")] {
            let sender = Sender::init(&broker, name).await;
            assert!(given.insert((sender.id, sender.epoch)), "{} {}", sender.id, sender.epoch);
        }
        broker.restart().await;
    }
    assert_eq!(given.iter().map(|(id, _)| id).collect::<HashSet<_>>().len(), 8, "six without a name, two with one");
    let invented = Sender { id: u64::MAX, epoch: 0 };
    assert_eq!(refusal(invented.send(&broker, 0, 1).await).kind(), (Code::FailedPrecondition, "PRODUCER_UNKNOWN"));
    let real = Sender::init(&broker, None).await;
    let unknown_here = refusal(real.send(&broker, 4, 1).await);
    assert_eq!(unknown_here.reason, "PRODUCER_UNKNOWN", "a first batch has sequence 0");
    let bad_name = InitProducerRequest { name: Some("a/b".into()) };
    assert_eq!(refusal(broker.producer().init_producer(bad_name).await).reason, "INVALID_NAME");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_sense_is_told_which_field_is_wrong() {
    let broker = broker_with_topic().await;
    let sender = Sender::init(&broker, None).await;
    let good = sender.request(0, 1);
    let cases = [
        (ProduceRequest { partition: None, ..good.clone() }, "partition"),
        (ProduceRequest { base_sequence: None, ..good.clone() }, "base_sequence"),
        (ProduceRequest { producer_id: 0, ..good.clone() }, "producer_id"),
        (ProduceRequest { producer_id: 0, base_sequence: None, producer_epoch: 1, ..good.clone() }, "producer_id"),
        (ProduceRequest { producer_epoch: 65_536, ..good.clone() }, "producer_epoch"),
    ];
    for (request, field) in cases {
        let refused = refusal(broker.producer().produce(request).await);
        assert_eq!((refused.kind(), refused.fact("field")), ((Code::InvalidArgument, "INVALID_ARGUMENT"), field));
    }
    assert!(values(&broker).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_as_durable_as_it_asks() {
    let broker = TestBroker::start().await;
    let written = millstream::proto::Durability::Written as i32;
    let options = TopicOptions { durability: Some(written), ..TopicOptions::default() };
    broker.create_topic_with("orders", 1, options).await;
    let sender = Sender::init(&broker, None).await;
    assert_eq!(sender.send(&broker, 0, 1).await.expect("appended").durability, written);
    let synced = millstream::proto::Durability::Synced;
    let request = ProduceRequest { durability: synced.into(), ..sender.request(0, 1) };
    let result = broker.producer().produce(request).await.expect("known").into_inner().results.remove(0);
    assert_eq!((result.duplicate, result.durability()), (true, synced));
}
