//! What is there after the broker was stopped and started again.

use crate::common::TestBroker;
use crate::common::records::{numbered, set, values_of};
use crate::common::refusal::refusal;
use crate::common::subscriber::{Subscriber, from_start};
use millstream::proto::{GetTopicRequest, ListTopicsRequest, TopicOptions, UpdateTopicRequest};

#[tokio::test(flavor = "multi_thread")]
async fn records_topics_and_options_are_as_they_were() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    for partition in 0..2 {
        for _ in 0..3 {
            broker.append("orders", partition, set(numbered(&format!("{partition}-"), 10))).await;
        }
    }
    let options = TopicOptions { retention_bytes: Some(1 << 30), ..TopicOptions::default() };
    let update = UpdateTopicRequest { name: "orders".into(), options: Some(options), partitions: 3, reset: Vec::new() };
    let topic = broker.topics().update_topic(update).await.expect("updated").into_inner().topic;
    let mut before = Vec::new();
    for partition in 0..2 {
        before.push(broker.fetch("orders", partition, 0).await.batches);
    }
    for round in 1..4 {
        broker.restart().await;
        let found = broker.topics().get_topic(GetTopicRequest { name: "orders".into() }).await.expect("it is there");
        assert_eq!(found.into_inner().topic, topic);
        for (partition, batches) in (0..2).zip(&before) {
            let fetched = broker.fetch("orders", partition, 0).await;
            assert_eq!(fetched.batches[..3], batches[..], "partition {partition} after restart {round}");
        }
        assert_eq!(broker.append("orders", 0, set(numbered("after-", 1))).await, 29 + round, "offsets go on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_stay_deleted() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    broker.delete_records("orders", 0, 7).await;
    broker.restart().await;
    let state = broker.partition_state("orders", 0).await;
    assert_eq!((state.log_start_offset, state.high_watermark, state.log_end_offset), (7, 10, 10));
    let mut reader = Subscriber::open(&broker, from_start("orders")).await.expect("opens");
    let seen: Vec<u64> = reader.take(3).await.into_iter().map(|(_, offset, _)| offset).collect();
    assert_eq!(seen, [7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_records_are_all_deleted_goes_on_where_it_was() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    broker.delete_records("orders", 0, 10).await;
    broker.restart().await;
    assert_eq!(broker.append("orders", 0, set(numbered("new-", 1))).await, 10);
    assert_eq!(values_of(&broker.fetch("orders", 0, 10).await.batches), [(10, "new-0".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_stays_deleted() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.create_topic("bills", 1).await;
    let delete = millstream::proto::DeleteTopicRequest { name: "orders".into() };
    broker.topics().delete_topic(delete).await.expect("deleted");
    broker.restart().await;
    let gone = refusal(broker.topics().get_topic(GetTopicRequest { name: "orders".into() }).await);
    assert_eq!(gone.reason, "TOPIC_NOT_FOUND");
    let topics = broker.topics().list_topics(ListTopicsRequest::default()).await.expect("lists").into_inner().topics;
    assert_eq!(topics.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["bills"]);
}
