//! Conditional append, and the fencing token of a partition.

use crate::common::TestBroker;
use crate::common::records::{numbered, set, values_of};
use crate::common::refusal::refusal;
use millstream::proto::{FencePartitionRequest, InitProducerRequest, ProduceRequest, ProduceResult};
use tonic::{Code, Status};

fn request(token: Option<u64>, expected_offset: Option<u64>) -> ProduceRequest {
    ProduceRequest {
        topic: "orders".into(),
        partition: Some(0),
        records: set(numbered("r", 1)),
        fencing_token: token,
        expected_offset,
        ..ProduceRequest::default()
    }
}

async fn send(broker: &TestBroker, request: ProduceRequest) -> Result<ProduceResult, Status> {
    Ok(broker.producer().produce(request).await?.into_inner().results.remove(0))
}

async fn fence(broker: &TestBroker, token: Option<u64>, clear: bool) -> Result<Option<u64>, Status> {
    let request = FencePartitionRequest { topic: "orders".into(), partition: 0, token, clear };
    Ok(broker.producer().fence_partition(request).await?.into_inner().token)
}

async fn broker_with_topic() -> TestBroker {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_expects_an_offset_happens_there_or_not_at_all() {
    let mut broker = broker_with_topic().await;
    assert_eq!(send(&broker, request(None, Some(0))).await.expect("the log is empty").base_offset, 0);
    for wrong in [0, 2, u64::MAX] {
        let refused = refusal(send(&broker, request(None, Some(wrong))).await);
        assert_eq!(refused.kind(), (Code::FailedPrecondition, "OFFSET_MISMATCH"));
        assert_eq!(
            (refused.fact("log_end_offset"), refused.fact("expected_offset")),
            ("1", wrong.to_string().as_str())
        );
        assert_eq!(refused.fact("retryable"), "false");
    }
    assert_eq!(send(&broker, request(None, Some(1))).await.expect("it is next").base_offset, 1);
    broker.restart().await;
    assert_eq!(refusal(send(&broker, request(None, Some(1))).await).reason, "OFFSET_MISMATCH");
    assert_eq!(send(&broker, request(None, Some(2))).await.expect("it is next").base_offset, 2);
    assert_eq!(values_of(&broker.fetch("orders", 0, 0).await.batches).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_writers_that_expect_the_same_offset_one_wins() {
    let broker = broker_with_topic().await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut producer = broker.producer();
        writers.spawn(async move { producer.produce(request(None, Some(0))).await.is_ok() });
    }
    assert_eq!(writers.join_all().await.into_iter().filter(|won| *won).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_recognised_although_its_offset_is_taken_since() {
    let broker = broker_with_topic().await;
    let given = broker.producer().init_producer(InitProducerRequest::default()).await.expect("given").into_inner();
    let stamped = ProduceRequest { producer_id: given.producer_id, base_sequence: Some(0), ..request(None, Some(0)) };
    let first = send(&broker, stamped.clone()).await.expect("appended");
    assert_eq!(send(&broker, stamped).await.expect("known"), ProduceResult { duplicate: true, ..first });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_token_takes_over_and_lower_ones_are_refused_after_a_restart_too() {
    let mut broker = broker_with_topic().await;
    send(&broker, request(None, None)).await.expect("there is no token yet");
    send(&broker, request(Some(5), None)).await.expect("the first token");
    send(&broker, request(Some(5), None)).await.expect("the same one");
    for _ in 0..2 {
        for lower in [None, Some(0), Some(4)] {
            let refused = refusal(send(&broker, request(lower, None)).await);
            assert_eq!((refused.kind(), refused.fact("current_token")), ((Code::Aborted, "FENCED"), "5"), "{lower:?}");
        }
        assert_eq!(broker.partition_state("orders", 0).await.fencing_token, Some(5));
        broker.restart().await;
    }
    send(&broker, request(Some(7), None)).await.expect("a higher one");
    assert_eq!(refusal(send(&broker, request(Some(5), None)).await).fact("current_token"), "7");
    assert_eq!(broker.partition_state("orders", 1).await.fencing_token, None, "a token is of one partition");
    assert_eq!(values_of(&broker.fetch("orders", 0, 0).await.batches).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_fenced_without_a_record_and_cleared_on_purpose_only() {
    let mut broker = broker_with_topic().await;
    assert_eq!(fence(&broker, Some(9), false).await.expect("raised"), Some(9));
    assert_eq!(fence(&broker, Some(9), false).await.expect("it is the token"), Some(9));
    let lower = refusal(fence(&broker, Some(8), false).await);
    assert_eq!((lower.kind(), lower.fact("current_token")), ((Code::Aborted, "FENCED"), "9"));
    for (token, clear) in [(None, false), (Some(1), true)] {
        assert_eq!(refusal(fence(&broker, token, clear).await).kind(), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    }
    broker.restart().await;
    assert_eq!(refusal(send(&broker, request(None, None)).await).reason, "FENCED");
    assert_eq!(fence(&broker, None, true).await.expect("cleared"), None);
    send(&broker, request(None, None)).await.expect("everyone may write");
    send(&broker, request(Some(1), None)).await.expect("any token is a first one again");
    broker.restart().await;
    assert_eq!(broker.partition_state("orders", 0).await.fencing_token, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_about_one_partition() {
    let broker = broker_with_topic().await;
    for request in [request(Some(1), None), request(None, Some(0))] {
        let refused = refusal(send(&broker, ProduceRequest { partition: None, ..request }).await);
        assert_eq!((refused.reason.as_str(), refused.fact("field")), ("INVALID_ARGUMENT", "partition"));
    }
    let nowhere = FencePartitionRequest { topic: "orders".into(), partition: 2, token: Some(1), clear: false };
    assert_eq!(refusal(broker.producer().fence_partition(nowhere).await).reason, "PARTITION_NOT_FOUND");
    let internal = FencePartitionRequest { topic: "__groups".into(), partition: 0, token: Some(1), clear: false };
    assert_eq!(refusal(broker.producer().fence_partition(internal).await).reason, "TOPIC_INTERNAL");
}
