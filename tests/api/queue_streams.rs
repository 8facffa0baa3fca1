//! `StreamingReceive`: the window, verbs beside messages, leases that live with the stream, and how streams end.

use crate::common::queue_stream::{QueueStream, ack, extend, nack, open_with_window, release};
use crate::common::records::{numbered, set};
use crate::common::refusal::Refusal;
use crate::common::{TestBroker, until};
use crate::queues::{broker_with, get, patient, receive, seen, settle};
use millstream::proto::streaming_receive_request::{Request, Settle};
use millstream::proto::{DeleteQueueRequest, QueueCredit, QueuePolicy, Settlement};
use tonic::Code;

async fn open(broker: &TestBroker, window: u32) -> QueueStream {
    QueueStream::open(broker, open_with_window("work", window)).await.expect("it opens")
}

async fn leased(broker: &TestBroker, count: u64) {
    until("so many to be leased", async || (get(broker).await.partitions[0].leased == count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_bounds_what_is_out_and_acks_make_room() {
    let broker = broker_with(5, patient()).await;
    let mut stream = open(&broker, 2).await;
    let messages = stream.take(2).await;
    assert_eq!(get(&broker).await.partitions[0].frontier, 2, "no more is handed out");
    assert_eq!(stream.settle(vec![ack(&messages[0]), ack(&messages[0])]).await, [(1, "LEASE_OVER".to_owned())]);
    assert_eq!(stream.take(1).await[0].offset, 2);
    stream.send(Request::Credit(QueueCredit { messages: 2, bytes: 0 })).await;
    assert_eq!(stream.take(2).await[1].offset, 4, "credit is added");
    assert_eq!(stream.waiting(), 0);
    broker.append("orders", 0, set(numbered("more", 1))).await;
    assert_eq!(stream.settle(vec![release(&messages[1])]).await, []);
    assert_eq!(seen(&stream.take(1).await), [("m1".to_owned(), 1)], "what was released comes first");
}

/// They may be carried out together; nobody can tell.
#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_at_once_have_an_answer_each_in_order() {
    let broker = broker_with(8, patient()).await;
    let mut stream = open(&broker, 8).await;
    let messages = stream.take(8).await;
    let foreign = Settlement { lease_token: bytes::Bytes::from_static(b"?"), ..ack(&messages[0]) };
    let requests = [
        vec![ack(&messages[0])],
        vec![foreign, ack(&messages[1]), ack(&messages[0])],
        vec![extend(&messages[2], 1_000), ack(&messages[2])],
        vec![ack(&messages[2]), ack(&messages[3])],
    ];
    for (correlation_id, settlements) in (1..).zip(requests) {
        stream.send(Request::Settle(Settle { correlation_id, settlements })).await;
    }
    for expected in [(1, vec![]), (2, vec![0, 2]), (3, vec![]), (4, vec![0])] {
        assert_eq!(stream.settled().await, expected);
    }
    // One that is refused as a whole ends the stream; what was asked for before it is done.
    stream.send(Request::Settle(Settle { correlation_id: 5, settlements: vec![ack(&messages[4])] })).await;
    stream.send(Request::Settle(Settle { correlation_id: 6, settlements: Vec::new() })).await;
    assert_eq!(stream.end().await.code(), Code::InvalidArgument);
    let again: Vec<u64> = receive(&broker, 8).await.iter().map(|message| message.offset).collect();
    assert_eq!(again, [5, 6, 7], "4 was acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_share_and_neither_gets_what_the_other_has() {
    let broker = broker_with(0, patient()).await;
    let (mut one, mut two) = (open(&broker, 3).await, open(&broker, 3).await);
    broker.append("orders", 0, set(numbered("m", 6))).await;
    let (mut all, others) = tokio::join!(one.take(3), two.take(3));
    all.extend(others);
    let mut offsets: Vec<_> = all.iter().map(|message| message.offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5]);
    assert_eq!(get(&broker).await.receivers, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_vanishes_frees_its_messages_at_once_and_that_counts() {
    let broker = broker_with(2, patient()).await;
    let mut stream = open(&broker, 10).await;
    assert_eq!(stream.take(2).await.len(), 2);
    drop(stream);
    assert_eq!(seen(&receive(&broker, 10).await), [("m0".to_owned(), 2), ("m1".to_owned(), 2)]);
}

/// A call that is cancelled and one whose client has just nothing more to say look the same to the broker, so neither
/// gives anything back: a message that makes its worker throw must not come again for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_without_being_closed_counts() {
    let broker = broker_with(2, patient()).await;
    let mut stream = open(&broker, 10).await;
    let messages = stream.take(2).await;
    assert_eq!(stream.settle(vec![ack(&messages[0])]).await, []);
    stream.end_requests().await;
    assert_eq!(seen(&receive(&broker, 10).await), [("m1".to_owned(), 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_closed_in_order_gives_back_what_it_has_uncounted() {
    let broker = broker_with(3, patient()).await;
    let mut stream = open(&broker, 10).await;
    let messages = stream.take(3).await;
    assert_eq!(stream.settle(vec![ack(&messages[0])]).await, []);
    stream.close().await;
    let again = receive(&broker, 10).await;
    assert_eq!(seen(&again), [("m1".to_owned(), 1), ("m2".to_owned(), 1)]);
    assert_eq!(settle(&broker, vec![ack(&messages[1])]).await, [(0, "LEASE_OVER".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_last_as_long_as_their_stream_up_to_the_maximum() {
    let policy = QueuePolicy { lease_ms: Some(30), max_lease_ms: Some(300), ..patient() };
    let broker = broker_with(1, policy).await;
    let mut stream = open(&broker, 1).await;
    let taken = tokio::time::Instant::now();
    let message = stream.take(1).await.remove(0);
    leased(&broker, 1).await;
    let again = stream.take(1).await;
    assert!(taken.elapsed().as_millis() >= 250, "ten leases have passed");
    assert_eq!((again[0].offset, again[0].attempt), (message.offset, 2));
    assert_eq!(stream.settle(vec![nack(&message, None)]).await, [(0, "LEASE_OVER".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_queue() {
    let broker = broker_with(0, patient()).await;
    let mut stream = open(&broker, 1).await;
    broker.queues().delete_queue(DeleteQueueRequest { name: "work".into() }).await.expect("it can be deleted");
    let refused = Refusal::from(stream.end().await);
    assert_eq!(refused.kind(), (Code::NotFound, "QUEUE_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_broker_says_so_and_still_settles() {
    let broker = broker_with(2, patient()).await;
    let mut stream = open(&broker, 1).await;
    let messages = stream.take(1).await;
    broker.begin_drain();
    assert_eq!(stream.settle(vec![ack(&messages[0])]).await, []);
    assert_eq!(stream.waiting(), 0, "nothing new is handed out");
    stream.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_larger_than_the_window_comes_alone() {
    let broker = broker_with(0, patient()).await;
    let large = |letter: &str| crate::common::records::record(letter.repeat(2_000));
    let small = crate::common::records::record("small");
    broker.append("orders", 0, set(vec![small, large("x"), large("y")])).await;
    let mut open = open_with_window("work", 10);
    open.credit = Some(QueueCredit { messages: 10, bytes: 1_000 });
    let mut stream = QueueStream::open(&broker, open).await.expect("it opens");
    for offset in 0..3 {
        let messages = stream.take(1).await;
        assert_eq!((messages[0].offset, stream.waiting()), (offset, 0));
        leased(&broker, 1).await;
        assert_eq!(stream.settle(vec![ack(&messages[0])]).await, []);
    }
}
