//! Appending records by single calls: where they go, what comes back, what is kept.

use crate::common::TestBroker;
use crate::common::records::{keyed, numbered, record, records_of, set, timed, values_of};
use bytes::Bytes;
use millstream::proto::{Durability, Header, ProduceRequest, ProduceResult, Record, TopicOptions};
use millstream::types::partitioner::partition_of_key;
use std::collections::BTreeSet;

async fn produce(broker: &TestBroker, records: Vec<Record>) -> Vec<ProduceResult> {
    let request = ProduceRequest { topic: "orders".into(), records: set(records), ..Default::default() };
    broker.producer().produce(request).await.expect("appended").into_inner().results
}

#[tokio::test(flavor = "multi_thread")]
async fn records_get_consecutive_offsets_from_0() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let first = produce(&broker, numbered("a", 3)).await;
    let second = produce(&broker, numbered("b", 2)).await;
    assert_eq!((first[0].base_offset, first[0].record_count, first[0].partition), (0, 3, 0));
    assert_eq!((second[0].base_offset, second[0].record_count), (3, 2));
    assert!(first[0].append_time_ms > 0 && second[0].append_time_ms >= first[0].append_time_ms);
    assert_eq!(first[0].record_indexes, [0_u32; 0], "they all went to one partition");

    let fetched = broker.fetch("orders", 0, 0).await;
    assert_eq!((fetched.next_offset, fetched.log_start_offset, fetched.high_watermark), (5, 0, 5));
    let expected = [(0, "a0"), (1, "a1"), (2, "a2"), (3, "b0"), (4, "b1")].map(|(i, value)| (i, value.to_owned()));
    assert_eq!(values_of(&fetched.batches), expected);
    let times: Vec<i64> = fetched.batches.iter().map(|batch| batch.append_time_ms).collect();
    assert_eq!(times, [first[0].append_time_ms, second[0].append_time_ms]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_key_go_where_kafka_clients_put_them() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 5).await;
    // Murmur2 of "foobar" is -790332482: without its sign bit 1357151166, modulo 5 that is 1.
    let results = produce(&broker, vec![keyed("foobar", "x")]).await;
    assert_eq!((results.len(), results[0].partition), (1, 1));

    let keys: Vec<String> = (0..50).map(|i| format!("key-{i}")).collect();
    let results = produce(&broker, keys.iter().map(|key| keyed(key.clone(), key.clone())).collect()).await;
    let mut seen = BTreeSet::new();
    for result in &results {
        assert_eq!(result.record_indexes.len(), result.record_count as usize);
        assert!(result.record_indexes.is_sorted());
        let stored = broker.fetch("orders", result.partition, result.base_offset).await;
        let stored = values_of(&stored.batches);
        for ((i, offset), (stored_offset, value)) in result.record_indexes.iter().zip(result.base_offset..).zip(stored)
        {
            assert_eq!((offset, &keys[*i as usize]), (stored_offset, &value));
            assert_eq!(partition_of_key(value.as_bytes(), 5), result.partition, "{value}");
            seen.insert(*i);
        }
    }
    assert_eq!(seen.len(), 50, "each record went to one partition");
    assert_eq!(results.len(), 5, "fifty keys reach every partition");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_go_together_and_to_another_partition_each_time() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 3).await;
    let mut partitions = Vec::new();
    for _ in 0..6 {
        let results = produce(&broker, numbered("r", 4)).await;
        assert_eq!((results.len(), results[0].record_count), (1, 4));
        partitions.push(results[0].partition);
    }
    assert_eq!(partitions[..3].iter().collect::<BTreeSet<_>>().len(), 3, "{partitions:?}");
    assert_eq!(partitions[..3], partitions[3..]);
}

/// A request whose records all have keys used to take the turn of the next one without: in step with such requests,
/// everything without a key went to the same partition.
#[tokio::test(flavor = "multi_thread")]
async fn requests_with_keys_do_not_take_the_turn_of_those_without() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    let mut partitions = Vec::new();
    for _ in 0..4 {
        partitions.push(produce(&broker, numbered("r", 1)).await[0].partition);
        produce(&broker, vec![keyed("k", "v")]).await;
    }
    assert_ne!(partitions[0], partitions[1], "{partitions:?}");
    assert_eq!(partitions[..2], partitions[2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_key_is_a_key_and_no_key_is_none() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 7).await;
    let home = partition_of_key(b"", 7);
    for _ in 0..3 {
        let results = produce(&broker, vec![keyed("", "x")]).await;
        assert_eq!(results[0].partition, home);
    }
    let results = produce(&broker, vec![record("no key"), keyed("", "empty"), record("no key")]).await;
    let keyed_part = results.iter().find(|result| result.record_indexes == [1]).expect("the record with a key");
    assert_eq!(keyed_part.partition, home);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_record_has_comes_back_as_it_was() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let header = |key: &str, value: &'static [u8]| Header { key: key.into(), value: value.into() };
    let every_byte: Bytes = (0..=255_u8).collect::<Vec<_>>().into();
    let records = vec![
        Record::default(),
        Record { key: Some(Bytes::new()), value: Some(Bytes::new()), ..Default::default() },
        Record { key: Some("tombstone".into()), value: None, ..Default::default() },
        keyed(every_byte.clone(), every_byte),
        Record {
            headers: vec![header("b", b"2"), header("a", b""), header("b", b"1"), header("", b"\x00")],
            ..record("headers keep order and duplicates")
        },
        Record { headers: vec![header("gr\u{fc}n\u{1f33f}", b"\xff")], ..record("\u{4e16}\u{754c}") },
        timed(0, "1970"),
        timed(-1, "before"),
        timed(i64::MIN, "first"),
        timed(i64::MAX, "last"),
    ];
    broker.append("orders", 0, set(records.clone())).await;
    let stored: Vec<Record> =
        records_of(&broker.fetch("orders", 0, 0).await.batches).into_iter().map(|(_, record)| record).collect();
    assert_eq!(stored, records);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_says_which_durability_was_reached() {
    let broker = TestBroker::start().await;
    let written = TopicOptions { durability: Some(Durability::Written as i32), ..Default::default() };
    broker.create_topic_with("fast", 1, written).await;
    broker.create_topic("safe", 1).await;
    for (topic, asked, reached) in [
        ("fast", Durability::Unspecified, Durability::Written),
        ("fast", Durability::Synced, Durability::Synced),
        ("fast", Durability::Written, Durability::Written),
        ("safe", Durability::Unspecified, Durability::Synced),
        ("safe", Durability::Synced, Durability::Synced),
        ("safe", Durability::Written, Durability::Written),
    ] {
        let (records, durability) = (set(numbered("r", 1)), asked as i32);
        let request = ProduceRequest { topic: topic.into(), records, durability, ..Default::default() };
        let answer = broker.producer().produce(request).await.expect("appended").into_inner();
        assert_eq!(answer.results[0].durability(), reached, "{topic}, asked {asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_created_by_the_first_produce_only_if_the_broker_is_told_so() {
    let broker = TestBroker::start_with(|setting| {
        setting.options.auto_create_topics = true;
        setting.options.default_partitions = 3;
    })
    .await;
    let results = produce(&broker, vec![record("first")]).await;
    assert_eq!(results[0].base_offset, 0);
    assert_eq!(broker.partition_state("orders", 2).await.partition, 2, "it has the default number of partitions");
    let bad_name = ProduceRequest { topic: "a/b".into(), records: set(numbered("r", 1)), ..Default::default() };
    assert!(broker.producer().produce(bad_name).await.is_err());
}
