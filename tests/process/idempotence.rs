//! What a broker knows of producers, message ids and fencing tokens after `kill -9`: everything it answered with.

use crate::broker::{Broker, Launch};
use bytes::{Bytes, BytesMut};
use millstream::client::admin::TopicSettings;
use millstream::client::{ClientError, NewRecord, PartitionReader, ProducerOptions};
use millstream::proto::producer_service_client::ProducerServiceClient;
use millstream::proto::{InitProducerRequest, InitProducerResponse, ProduceRequest, ProduceResult};
use millstream::types::record_set::encode_identified_record;
use millstream::types::{Durability, Offset, TopicName, TopicPartition};
use std::collections::HashSet;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

async fn producer(broker: &Broker) -> ProducerServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", broker.address())).expect("an address");
    ProducerServiceClient::new(endpoint.connect().await.expect("it serves"))
}

fn records(ids: &[&str]) -> Bytes {
    let mut set = BytesMut::new();
    for id in ids {
        encode_identified_record(&mut set, None, Some(id.as_bytes()), std::iter::empty(), None, Some(id));
    }
    set.freeze()
}

async fn send(broker: &Broker, request: ProduceRequest) -> Result<ProduceResult, Status> {
    Ok(producer(broker).await.produce(request).await?.into_inner().results.remove(0))
}

async fn create_topic(broker: &Broker, durability: Durability) {
    let settings = TopicSettings {
        durability: Some(durability),
        dedup_window_ms: Some(600_000),
        segment_bytes: Some(1 << 20),
        ..TopicSettings::default()
    };
    let topic = TopicName::new("orders").expect("valid");
    broker.client().await.create_topic(&topic, 1, &settings).await.expect("created");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_gaps_ids_and_tokens_are_known_after_a_kill_9() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Launch::new(directory.path()).start();
    create_topic(&broker, Durability::Written).await;
    let given =
        producer(&broker).await.init_producer(InitProducerRequest::default()).await.expect("given").into_inner();
    let request = |sequence: u32, ids: &[&str], token| ProduceRequest {
        topic: "orders".into(),
        partition: Some(0),
        records: records(ids),
        producer_id: given.producer_id,
        base_sequence: Some(sequence),
        fencing_token: Some(token),
        ..ProduceRequest::default()
    };
    // Many segments, so that the cache, a checkpoint and the log behind it each have their part.
    let long = "x".repeat(100);
    let ids = |batch: u32| -> Vec<String> { (0..1000).map(|n| format!("{batch}-{n}-{long}")).collect() };
    let mut sequence = 0;
    for batch in 0..20 {
        let ids = ids(batch);
        let sent = request(sequence, &ids.iter().map(String::as_str).collect::<Vec<_>>(), 7);
        assert_eq!(send(&broker, sent).await.expect("appended").base_offset, u64::from(sequence));
        sequence += 1000;
    }
    for _ in 0..3 {
        broker.kill();
        broker = Launch::new(directory.path()).start();
        let last = ids(19);
        let repeat = request(19_000, &last.iter().map(String::as_str).collect::<Vec<_>>(), 7);
        let answer = send(&broker, repeat).await.expect("known");
        assert_eq!((answer.base_offset, answer.duplicate, answer.record_count), (19_000, true, 1000));
        let gap = send(&broker, request(sequence + 1, &["gap"], 7)).await.expect_err("a gap");
        assert!(gap.message().contains("sequence"), "{gap}");
        let first = ids(0);
        let again = send(&broker, request(sequence, &[&first[17], "new"], 7)).await.expect("in sequence");
        let found: Vec<_> = again.duplicates.iter().map(|found| (found.record_index, found.offset)).collect();
        if sequence == 20_000 {
            assert_eq!((again.record_count, found), (1, vec![(0, 17)]));
        } else {
            assert_eq!((again.record_count, found), (0, vec![(0, 17), (1, 20_000)]));
        }
        // What held nothing new is not in the log, so a crash forgets that it was sent, and nothing else.
        sequence = 20_002;
        let lower = send(&broker, request(sequence, &["late"], 6)).await.expect_err("fenced");
        assert!(lower.message().contains("fenced"), "{lower}");
    }
    broker.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_id_is_given_again_and_no_zombie_comes_back_after_a_kill_9() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut given = HashSet::new();
    let mut before: Option<InitProducerResponse> = None;
    for life in 0..4 {
        let broker = Launch::new(directory.path()).start();
        if life == 0 {
            create_topic(&broker, Durability::Synced).await;
        }
        for name in [None, None, Some("billing".to_owned())] {
            let is_named = name.is_some();
            let answer = producer(&broker).await.init_producer(InitProducerRequest { name }).await;
            let identity = answer.expect("given").into_inner();
            assert!(given.insert((identity.producer_id, identity.producer_epoch)), "{identity:?} was given before");
            let stamped = |identity: InitProducerResponse| ProduceRequest {
                topic: "orders".into(),
                partition: Some(0),
                records: records(&[&format!("{identity:?}")]),
                producer_id: identity.producer_id,
                producer_epoch: identity.producer_epoch,
                base_sequence: Some(0),
                ..ProduceRequest::default()
            };
            send(&broker, stamped(identity)).await.expect("it is the present one");
            if let Some(zombie) = before.filter(|_| is_named) {
                assert_eq!(identity.producer_id, zombie.producer_id);
                let fenced = send(&broker, stamped(zombie)).await.expect_err("fenced");
                assert!(fenced.message().contains("fenced"), "{fenced}");
            }
            before = before.filter(|_| !is_named).or(is_named.then_some(identity));
        }
        broker.kill();
    }
}

/// A producer that sends while the broker is killed again and again: everything once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_of_the_client_library_appends_once_over_kills() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Launch::new(directory.path()).start();
    let launch = Launch::new(directory.path()).listen(&broker.address());
    create_topic(&broker, Durability::Synced).await;
    let client = broker.client().await;
    let options = ProducerOptions { batch_bytes: 200, ..ProducerOptions::default() };
    let producer = client.producer("orders", options).await.expect("the topic is there");
    let mut number = 0_u32;
    for round in 0..5 {
        let mut last = None;
        for _ in 0..400 {
            let value = number.to_string();
            last = Some(producer.send(NewRecord::value(value.as_bytes())).await.expect("taken"));
            number += 1;
        }
        if round % 2 == 0 {
            let acknowledged: Result<_, ClientError> = last.expect("there is one").wait().await;
            acknowledged.expect("acknowledged");
        }
        broker.kill();
        broker = launch.start();
    }
    producer.flush().await.expect("all acknowledged in the end");
    let topic = TopicName::new("orders").expect("valid");
    let end = client.topic(&topic).await.expect("it is there").1[0].high_watermark;
    let mut reader = PartitionReader::new(&client, TopicPartition { topic, partition: 0 }, Offset::ZERO..end);
    let mut values = Vec::new();
    while let Some(batch) = reader.next().await.expect("readable") {
        values.extend(batch.values().map(|value| String::from_utf8_lossy(value.expect("it has one")).into_owned()));
    }
    assert_eq!(values, (0..number).map(|n| n.to_string()).collect::<Vec<_>>());
    broker.stop();
}
