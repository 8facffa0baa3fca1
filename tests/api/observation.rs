//! What tools see: reflection, health, metrics, readiness.

use crate::common::records::{numbered, set};
use crate::common::subscriber::at_offset;
use crate::common::{TestBroker, within};
use millstream::broker::produce::Produce;
use millstream::proto::admin_service_client::AdminServiceClient;
use millstream::proto::{CommitOffsetsRequest, DeleteTopicRequest, GetServerInfoRequest, ProduceRequest};
use prost::Message as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const SERVICES: [&str; 7] = [
    "millstream.v1.AdminService",
    "millstream.v1.ConsumerService",
    "millstream.v1.DeadLetterService",
    "millstream.v1.GroupService",
    "millstream.v1.ProducerService",
    "millstream.v1.QueueService",
    "millstream.v1.TopicService",
];

async fn reflect(broker: &TestBroker, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut client = ServerReflectionClient::new(broker.channel());
    let answer = client.server_reflection_info(tokio_stream::iter([request])).await.expect("answers");
    let message = answer.into_inner().message().await.expect("answers").expect("an answer");
    message.message_response.expect("an answer is not empty")
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_every_service() {
    let broker = TestBroker::start().await;
    let answer = reflect(&broker, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("a list was asked for, not {answer:?}") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
        assert!(names.contains(&service), "{service} is missing in {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_shows_records_as_typed_messages() {
    let broker = TestBroker::start().await;
    let symbol = "millstream.v1.ProduceRequest".to_owned();
    let answer = reflect(&broker, MessageRequest::FileContainingSymbol(symbol)).await;
    let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("a file was asked for: {answer:?}") };
    // The name of the type is in the descriptor only if the field is not plain bytes.
    let described = files.file_descriptor_proto.concat();
    let type_name = b".millstream.v1.RecordSet";
    assert!(described.windows(type_name.len()).any(|window| window == type_name));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_answered_for_the_whole_and_for_each_service() {
    let broker = TestBroker::start().await;
    let mut health = HealthClient::new(broker.channel());
    for service in SERVICES.into_iter().chain([""]) {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.expect("answers").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = health.check(HealthCheckRequest { service: "nope".into() }).await.expect_err("it is unknown");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

/// A client that watches must learn of the drain, and its open call must not hold the drain up.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_health_learns_of_the_drain_and_does_not_delay_it() {
    let mut broker = TestBroker::start().await;
    let mut health = HealthClient::new(broker.channel());
    let mut watched = Vec::new();
    for service in ["", "millstream.v1.ProducerService"] {
        let answer = health.watch(HealthCheckRequest { service: service.into() }).await.expect("answers");
        let mut statuses = answer.into_inner();
        let status = statuses.message().await.expect("answers").expect("a status");
        assert_eq!(status.status(), ServingStatus::Serving);
        watched.push(statuses);
    }
    broker.begin_drain();
    for statuses in &mut watched {
        let status = within("news of the drain", statuses.message()).await.expect("answers").expect("a status");
        assert_eq!(status.status(), ServingStatus::NotServing);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_door_is_ready_while_the_broker_serves_and_not_while_it_drains() {
    let mut broker = TestBroker::start().await;
    assert_eq!(broker.admin_page("/readyz").await, ("HTTP/1.1 200 OK".to_owned(), "serving\n".to_owned()));
    assert_eq!(broker.admin_page("/healthz").await.0, "HTTP/1.1 200 OK");
    broker.begin_drain();
    let (status, word) = broker.admin_page("/readyz").await;
    assert_eq!((status.as_str(), word.as_str()), ("HTTP/1.1 503 Service Unavailable", "draining\n"));
    assert_eq!(broker.admin_page("/healthz").await.0, "HTTP/1.1 200 OK", "it lives until it is gone");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_was_produced_and_read_and_refused() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    let records = set(numbered("r", 10));
    let bytes = records.len();
    broker.append("orders", 1, records).await;
    assert_eq!(broker.fetch("orders", 1, 4).await.next_offset, 10);
    let request = ProduceRequest { topic: "nope".into(), records: set(numbered("r", 1)), ..Default::default() };
    broker.producer().produce(request).await.expect_err("there is no such topic");
    let commit = CommitOffsetsRequest {
        group: "billing".into(),
        offsets: vec![at_offset("orders", 1, 3)],
        ..Default::default()
    };
    broker.consumer().commit_offsets(commit).await.expect("committed");
    let (status, page) = broker.admin_page("/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    for line in [
        "millstream_produced_records_total{topic=\"orders\"} 10".to_owned(),
        format!("millstream_produced_bytes_total{{topic=\"orders\"}} {bytes}"),
        "millstream_fetched_records_total{topic=\"orders\"} 6".to_owned(),
        "millstream_produce_requests_total 2".to_owned(),
        "millstream_produce_errors_total{reason=\"TOPIC_NOT_FOUND\"} 1".to_owned(),
        "millstream_produce_in_flight_bytes 0".to_owned(),
        "millstream_connections 1".to_owned(),
        "millstream_partition_high_watermark{topic=\"orders\",partition=\"1\"} 10".to_owned(),
        "millstream_partition_log_end_offset{topic=\"orders\",partition=\"0\"} 0".to_owned(),
        "millstream_partition_segments{topic=\"orders\",partition=\"1\"} 1".to_owned(),
        "millstream_group_committed_offset{group=\"billing\",topic=\"orders\",partition=\"1\"} 3".to_owned(),
        "millstream_group_lag_records{group=\"billing\",topic=\"orders\",partition=\"1\"} 7".to_owned(),
    ] {
        assert!(page.lines().any(|found| found == line), "no line {line} in\n{page}");
    }
    broker.topics().delete_topic(DeleteTopicRequest { name: "orders".into() }).await.expect("deleted");
    let (_, page) = broker.admin_page("/metrics").await;
    assert!(!page.contains("topic=\"orders\""), "a deleted topic leaves the page\n{page}");
}

/// The gauge was always 0: nobody counted.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_in_flight_until_they_are_answered() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let records = set(numbered("r", 10));
    let expected = format!("millstream_produce_in_flight_bytes {}", records.len());
    let produce = Produce { topic: "orders", partition: Some(0), records, ..Produce::default() };
    // Between the two steps of a produce call, which no client can see.
    let pending = broker.inside().produce(produce, None).await.expect("queued");
    let (_, page) = broker.admin_page("/metrics").await;
    assert!(page.lines().any(|line| line == expected), "no line {expected} in\n{page}");
    let (_, outcomes) = pending.finish().await;
    outcomes[0].result.as_ref().expect("appended");
    let (_, page) = broker.admin_page("/metrics").await;
    assert!(page.lines().any(|line| line == "millstream_produce_in_flight_bytes 0"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_says_who_it_is_and_stays_the_same() {
    let mut broker = TestBroker::start().await;
    let info = async |broker: &TestBroker| {
        let mut admin = AdminServiceClient::new(broker.channel());
        admin.get_server_info(GetServerInfoRequest {}).await.expect("answers").into_inner()
    };
    let before = info(&broker).await;
    assert_eq!(before.version, env!("CARGO_PKG_VERSION"));
    assert_eq!((before.batch_bytes_max, before.partitions_max, before.ephemeral), (8 << 20, 10_000, false));
    assert!(before.encoded_len() > 36 && before.broker_id.len() == 36, "{before:?}");
    broker.restart().await;
    let after = info(&broker).await;
    assert_eq!(after.broker_id, before.broker_id);
    assert!(after.started_at_ms >= before.started_at_ms);
}
