//! A disk whose syncs hang: produce waits, then is refused; nobody else waits for it.

use crate::common::records::{record, set, sized};
use crate::common::refusal::Refusal;
use crate::common::stalling_disk::StallingDisk;
use crate::common::subscriber::at_offset;
use crate::common::{TestBroker, until, within};
use millstream::proto::consumer_service_client::ConsumerServiceClient;
use millstream::proto::producer_service_client::ProducerServiceClient;
use millstream::proto::topic_service_client::TopicServiceClient;
use millstream::proto::{
    CommitOffsetsRequest, CreateTopicRequest, DeleteRecordsRequest, Durability, FetchPosition, FetchRequest,
    ListTopicsRequest, ProduceRequest, ProduceResponse, TopicOptions,
};
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

type Appended = Result<tonic::Response<ProduceResponse>, tonic::Status>;

const IN_FLIGHT_BYTES: u64 = 64 << 10;

fn produce(topic: &str, bytes: usize) -> ProduceRequest {
    ProduceRequest { topic: topic.into(), partition: Some(0), records: sized(1, bytes), ..ProduceRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_syncs_hang_produce_is_refused_and_nothing_else_waits() {
    let disk = StallingDisk::default();
    let broker = TestBroker::start_with(|setting| {
        setting.fs = Arc::new(disk.clone());
        setting.options.produce_in_flight_bytes_max = IN_FLIGHT_BYTES;
    })
    .await;
    let options = TopicOptions { segment_bytes: Some(1 << 20), ..Default::default() };
    broker.create_topic_with("orders", 1, options).await;
    for i in 0..4 {
        assert_eq!(broker.append("orders", 0, sized(1, 900_000)).await, i);
    }
    broker.append("orders", 0, set(vec![record("recent")])).await;

    broker.create_topic("clicks", 1).await;
    broker.append("clicks", 0, sized(2, 100)).await;

    let stall = disk.stall();
    let mut hanging = Vec::new();
    let mut producer = broker.producer();
    let append = tokio::spawn(async move { producer.produce(produce("orders", 40_000)).await });
    let (mut consumer, mut topics) = (broker.consumer(), broker.topics());
    let offsets = vec![at_offset("orders", 0, 2)];
    let commit = CommitOffsetsRequest { group: "billing".into(), offsets, ..Default::default() };
    hanging.push(tokio::spawn(async move { consumer.commit_offsets(commit).await.map(drop) }));
    let create = CreateTopicRequest { name: "late".into(), partitions: 1, options: None };
    hanging.push(tokio::spawn(async move { topics.create_topic(create).await.map(drop) }));
    // More than there are threads that may wait with them.
    for _ in 0..40 {
        let mut topics = broker.topics();
        let delete = DeleteRecordsRequest { topic: "clicks".into(), partition: 0, before_offset: 1 };
        hanging.push(tokio::spawn(async move { topics.delete_records(delete).await.map(drop) }));
    }
    // The append, the journal of groups, the catalog, a checkpoint: everything that syncs has begun to.
    until("syncs to hang", async || (disk.waiting() >= 4).then_some(())).await;

    let refused = broker.producer().produce(produce("orders", 40_000)).await.expect_err("the budget is used up");
    let delay = refused.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(delay.is_some_and(|delay| !delay.is_zero()), "it says when to come back: {refused:?}");
    let refused = Refusal::from(refused);
    assert_eq!(refused.kind(), (Code::ResourceExhausted, "OVERLOADED"));
    assert_eq!(refused.fact("limit_bytes"), IN_FLIGHT_BYTES.to_string());
    assert_eq!(refused.fact("no_side_effects"), "true");

    nothing_waits(&broker).await;
    assert!(disk.waiting() >= 4 && !append.is_finished(), "the syncs hang all the time");

    drop(stall);
    let answer = within("the append to be answered", append).await.expect("no panic").expect("appended");
    assert_eq!(answer.into_inner().results[0].base_offset, 5);
    for call in hanging {
        within("a call that hung", call).await.expect("no panic").expect("done");
    }
    assert_eq!(broker.append("orders", 0, sized(1, 40_000)).await, 6, "produce goes on");
}

/// Everything that a slow disk must not make slow.
async fn nothing_waits(broker: &TestBroker) {
    let health = HealthCheckRequest { service: String::new() };
    within("health", HealthClient::new(broker.channel()).check(health)).await.expect("answers");
    for page in ["/healthz", "/readyz", "/metrics"] {
        let (status, _) = within(page, broker.admin_page(page)).await;
        assert!(status.contains("200"), "{page}: {status}");
    }
    assert!(
        within("metrics", broker.has_metric("millstream_partition_log_end_offset{topic=\"orders\",partition=\"0\"} 6"))
            .await
    );
    within("topics", broker.topics().list_topics(ListTopicsRequest::default())).await.expect("answers");
    let state = within("a topic", broker.partition_state("orders", 0)).await;
    assert_eq!(state.high_watermark, 5, "what is not synced is not shown");
    within("the broker", broker.client().await.server_info()).await.expect("answers");
    for offset in 0..5 {
        let fetched = within("old and new data", broker.fetch("orders", 0, offset)).await;
        assert_eq!(fetched.batches[0].base_offset, offset);
    }
}

/// Small writes that wait for no sync are done by the threads that serve connections. They serve nobody but the broker here: a
/// thread that also runs the clients would be woken for them, and look after the others by chance.
#[test]
fn a_small_write_that_hangs_holds_one_thread_and_no_second() {
    let (network, clients) = (runtime(2), runtime(1));
    let disk = StallingDisk::default();
    let fs = disk.clone();
    let broker = network.block_on(TestBroker::start_with(|setting| setting.fs = Arc::new(fs)));
    clients.block_on(others_are_served_while_a_write_hangs(&broker, &disk));
    network.block_on(async { drop(broker) });
}

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("threads")
}

async fn others_are_served_while_a_write_hangs(broker: &TestBroker, disk: &StallingDisk) {
    const PARTITIONS: u32 = 6;
    let (mut topics, mut consumer) =
        (TopicServiceClient::new(connect(broker).await), ConsumerServiceClient::new(connect(broker).await));
    let options = TopicOptions { durability: Some(Durability::Written.into()), ..Default::default() };
    broker.create_topic_with("quick", PARTITIONS, options).await;
    for partition in 0..PARTITIONS {
        broker.append("quick", partition, sized(1, 100)).await;
    }
    let stall = disk.stall_writes_elsewhere();
    let hanging = within("a write that hangs", append_that_hangs(broker, disk)).await;
    for partition in 1..PARTITIONS {
        let answer = within("an append elsewhere", append_quickly(broker, partition).await).await;
        assert_eq!(answer.expect("no panic").expect("appended").into_inner().results[0].base_offset, 1);
        within("metrics", broker.admin_page("/metrics")).await;
        within("topics", topics.list_topics(ListTopicsRequest::default())).await.expect("answers");
        let position = FetchPosition { topic: "quick".into(), partition: 0, offset: 0 };
        let request = FetchRequest { positions: vec![position], ..Default::default() };
        let fetched = within("old data", consumer.fetch(request)).await.expect("answers").into_inner();
        assert_eq!(fetched.partitions[0].batches[0].base_offset, 0);
        assert_eq!(disk.held_elsewhere(), 1, "one thread hangs all the time");
    }
    drop(stall);
    within("the append that hung", hanging).await.expect("no panic").expect("appended");
}

/// Appends until it is a thread that serves connections which writes: it does not if a storage thread has something to do, or,
/// on a busy machine, if a write has been slow.
async fn append_that_hangs(broker: &TestBroker, disk: &StallingDisk) -> JoinHandle<Appended> {
    loop {
        let append = append_quickly(broker, 0).await;
        let is_clear = async || (append.is_finished() || disk.held_elsewhere() == 1).then_some(());
        until("a write to end or to hang", is_clear).await;
        if !append.is_finished() {
            return append;
        }
    }
}

/// On a connection of its own: what shares one with a write that hangs may wait with it.
async fn append_quickly(broker: &TestBroker, partition: u32) -> JoinHandle<Appended> {
    let mut producer = ProducerServiceClient::new(connect(broker).await);
    let request = ProduceRequest { partition: Some(partition), ..produce("quick", 100) };
    tokio::spawn(async move { producer.produce(request).await })
}

/// A connection that the caller's runtime looks after.
async fn connect(broker: &TestBroker) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", broker.address())).expect("an address");
    within("a connection", endpoint.connect()).await.expect("the broker listens")
}
