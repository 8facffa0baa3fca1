//! Groups that follow every topic whose name matches.

use crate::common::TestBroker;
use crate::common::records::{numbered, set};
use crate::common::refusal::refusal;
use crate::common::subscriber::{Subscriber, as_member, edge};
use crate::common::within;
use millstream::client::{ConsumerOptions, Event};
use millstream::proto::subscribe_request::Open;
use millstream::proto::{DeleteTopicRequest, Edge};
use millstream::types::{Position, TopicPattern};

fn by_pattern(pattern: &str) -> Open {
    Open { topics: Vec::new(), topic_patterns: vec![pattern.into()], ..as_member("", "billing") }
}

async fn create_filled(broker: &TestBroker, topic: &str) {
    broker.create_topic(topic, 1).await;
    broker.append(topic, 0, set(numbered(topic, 3))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_made_later_join_by_themselves_from_their_first_record() {
    let broker = TestBroker::start().await;
    create_filled(&broker, "orders.eu").await;
    create_filled(&broker, "bills").await;
    let at_the_end = Open { start: Some(edge(Edge::Latest)), ..by_pattern("orders.*") };
    let mut member = Subscriber::open(&broker, at_the_end.clone()).await.expect("opens");
    member.follow_until_owning(1).await;
    assert_eq!(member.owned[&("orders.eu".to_owned(), 0)], 3, "what is there begins where the stream says");

    create_filled(&broker, "orders.us").await;
    create_filled(&broker, "my.orders.us").await;
    member.follow_until_owning(2).await;
    assert_eq!(member.take(3).await[0], (0, 0, "orders.us0".to_owned()));
    assert_eq!(member.owned.keys().map(|(topic, _)| topic.as_str()).collect::<Vec<_>>(), ["orders.eu", "orders.us"]);

    // Its place is fixed: a member that comes later, and knows the topic from the start, does not begin at the end.
    drop(member);
    let mut second = Subscriber::open(&broker, at_the_end).await.expect("opens");
    second.follow_until_owning(2).await;
    assert_eq!(second.owned[&("orders.us".to_owned(), 0)], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_goes_and_the_member_stays() {
    let broker = TestBroker::start().await;
    create_filled(&broker, "orders.eu").await;
    let mut member = Subscriber::open(&broker, by_pattern("orders.*")).await.expect("opens");
    member.take(3).await;
    broker.topics().delete_topic(DeleteTopicRequest { name: "orders.eu".into() }).await.expect("deleted");
    member.follow_until_owning(0).await;
    create_filled(&broker, "orders.eu").await;
    member.follow_until_owning(1).await;
    assert_eq!(member.take(3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_that_make_no_sense_are_refused() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let cases = [
        by_pattern(""),
        by_pattern("orders/*"),
        by_pattern(&"x".repeat(250)),
        Open { group: String::new(), ..by_pattern("orders*") },
        Open { topic_patterns: vec!["*".into(); 11], ..by_pattern("*") },
    ];
    for open in cases {
        let refused = refusal(Subscriber::open(&broker, open.clone()).await.map(|_| ()));
        let kind = (refused.reason.as_str(), refused.fact("field"));
        assert_eq!(kind, ("INVALID_ARGUMENT", "topic_patterns"), "{open:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_reads_what_matches() {
    let broker = TestBroker::start().await;
    create_filled(&broker, "orders.eu").await;
    let options = ConsumerOptions {
        group: Some("billing".to_owned()),
        topic_patterns: vec![TopicPattern::new("orders.*").expect("a valid pattern")],
        start: Position::Earliest,
        ..ConsumerOptions::new(Vec::new())
    };
    let mut consumer = broker.client().await.consumer(options).await.expect("opens");
    let topic = within("records", async {
        loop {
            if let Event::Records(records) = consumer.next().await.expect("the stream goes on") {
                return records.partition.topic;
            }
        }
    });
    assert_eq!(topic.await.as_str(), "orders.eu");
}
