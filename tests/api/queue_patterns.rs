//! Queues of topics by pattern: those there are, those to come, and never what the queue itself has given up.

use crate::common::queue_stream::{ack, reject};
use crate::common::records::{numbered, record, set};
use crate::common::refusal::refusal;
use crate::common::{TestBroker, until};
use crate::queues::{LONG_MS, expect, get, patient, receive, receive_now, seen, settle};
use millstream::proto::{CreateQueueRequest, Edge, Position, QueuePolicy, TopicOptions, position::At};
use tonic::Status;

async fn create(broker: &TestBroker, patterns: &[&str], policy: QueuePolicy) -> Result<(), Status> {
    let request = CreateQueueRequest {
        name: "work".into(),
        topic_patterns: patterns.iter().map(ToString::to_string).collect(),
        start: Some(Position { at: Some(At::Edge(Edge::Earliest as i32)) }),
        policy: Some(policy),
        ..CreateQueueRequest::default()
    };
    broker.queues().create_queue(request).await.map(drop)
}

/// The topics of what is received, with values and attempts.
async fn received(broker: &TestBroker, count: usize) -> Vec<(String, u64)> {
    let mut messages = Vec::new();
    while messages.len() < count {
        messages.extend(receive(broker, 10).await);
    }
    let mut places: Vec<_> = messages.into_iter().map(|message| (message.topic, message.offset)).collect();
    places.sort();
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_takes_every_topic_that_matches_also_those_made_later() {
    let mut broker = TestBroker::start().await;
    for topic in ["orders.eu", "orders.us", "returns"] {
        broker.create_topic(topic, 1).await;
        broker.append(topic, 0, set(numbered("m", 1))).await;
    }
    create(&broker, &["orders.*"], patient()).await.expect("created");
    let place = |topic: &str| (topic.to_owned(), 0);
    assert_eq!(received(&broker, 2).await, [place("orders.eu"), place("orders.us")]);
    assert_eq!(receive_now(&broker).await, []);

    // Whoever waits already is woken by a topic that did not exist when it came.
    let waiting = receive(&broker, 10);
    let made = async {
        broker.create_topic("orders.asia", 1).await;
        broker.append("orders.asia", 0, set(vec![record("late")])).await;
    };
    let (messages, ()) = tokio::join!(waiting, made);
    assert_eq!(seen(&messages), expect(&[("late", 1)]));
    assert_eq!(settle(&broker, vec![ack(&messages[0])]).await, []);

    broker.restart().await;
    let queue = get(&broker).await.queue.expect("it has one");
    assert_eq!((queue.topics.len(), queue.topic_patterns), (0, vec!["orders.*".to_owned()]));
    broker.create_topic("orders.africa", 1).await;
    broker.append("orders.africa", 0, set(vec![record("later")])).await;
    let places = received(&broker, 3).await;
    assert_eq!(places, [place("orders.africa"), place("orders.eu"), place("orders.us")], "what was leased comes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_queue_has_given_up_does_not_come_back_by_its_pattern() {
    let broker = TestBroker::start().await;
    broker.create_topic("work.in", 1).await;
    broker.append("work.in", 0, set(numbered("m", 1))).await;
    create(&broker, &["*"], QueuePolicy { attempts_max: Some(1), lease_ms: Some(LONG_MS), ..patient() })
        .await
        .expect("ok");
    let messages = receive(&broker, 10).await;
    assert_eq!(settle(&broker, vec![reject(&messages[0])]).await, []);
    until("the letter", async || (get(&broker).await.counts?.dead_lettered == 1).then_some(())).await;
    assert_eq!(receive_now(&broker).await, []);
    let topics: Vec<_> = get(&broker).await.partitions.into_iter().map(|found| found.topic).collect();
    assert_eq!(topics, ["work.in"], "neither the letters nor the broker's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_leaves_the_queue_and_one_of_its_name_joins_from_the_start() {
    let broker = TestBroker::start().await;
    broker.create_topic_with("orders.eu", 1, TopicOptions::default()).await;
    broker.append("orders.eu", 0, set(numbered("old", 2))).await;
    create(&broker, &["orders.*"], patient()).await.expect("created");
    assert_eq!(receive(&broker, 1).await.len(), 1);
    let request = millstream::proto::DeleteTopicRequest { name: "orders.eu".into() };
    broker.topics().delete_topic(request).await.expect("deleted");
    assert_eq!(get(&broker).await.partitions, []);
    broker.create_topic("orders.eu", 2).await;
    broker.append("orders.eu", 1, set(numbered("new", 1))).await;
    assert_eq!(seen(&receive(&broker, 10).await), expect(&[("new0", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_needs_topics_or_patterns_and_patterns_that_can_match() {
    let broker = TestBroker::start().await;
    for (patterns, field) in [(&[][..], "topics"), (&["a/b"], "topic_patterns"), (&["*"; 11], "topic_patterns")] {
        let refused = refusal(create(&broker, patterns, patient()).await);
        assert_eq!((refused.reason.as_str(), refused.fact("field")), ("INVALID_ARGUMENT", field), "{patterns:?}");
    }
    create(&broker, &["nothing.yet.*"], patient()).await.expect("topics may come later");
    assert_eq!(get(&broker).await.partitions, []);
}
