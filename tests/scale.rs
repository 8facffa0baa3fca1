//! Many partitions on a small allowance: 10,000 partitions and 40,000 segments with 1,024 file descriptors and the
//! system's default of memory maps. The broker starts in seconds, also after `kill -9`; every record is there; an idle
//! one costs next to nothing. Prints its figures.
//!
//! A test binary of its own, because it lowers the limit of its process and takes minutes in the large:
//!
//! ```sh
//! cargo test --release --test scale -- --nocapture                          # in the large
//! MILLSTREAM_SCALE_PARTITIONS=1000 cargo test --test scale -- --nocapture   # as .ci/run does: 256 descriptors
//! ```

#[path = "process/broker.rs"]
#[expect(dead_code, reason = "shared with tests/process.rs, which uses all of it")]
mod broker;
#[path = "scale/directory.rs"]
mod directory;
#[path = "scale/process.rs"]
mod process;

use broker::{Broker, Launch};
use directory::{SEGMENTS, fill, value};
use millstream::client::admin::TopicSettings;
use millstream::proto::consumer_service_client::ConsumerServiceClient;
use millstream::proto::producer_service_client::ProducerServiceClient;
use millstream::proto::{FetchPosition, FetchRequest, FetchResponse, ProduceRequest};
use millstream::types::record_set::{self, encode_record};
use millstream::types::{Durability, Offset, TopicName};
use process::Usage;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// The partitions are shared by so many topics.
const TOPICS: u32 = 4;

/// A start may take no longer than this: after a clean stop, and after `kill -9`.
const START_MAX: Duration = Duration::from_secs(10);

/// How long another call may take while 10,000 partitions are created or deleted: it waits for no more than a disk.
const OTHER_CALL_MAX: Duration = Duration::from_secs(5);

/// How long the broker is left alone to see what it does when nobody asks anything of it: some rounds of upkeep.
const IDLE_SECONDS: u64 = 20;

/// How large the test is.
#[derive(Debug, Clone, Copy)]
struct Scale {
    partitions: u32,
    /// File descriptors of the broker.
    files: u64,
}

impl Scale {
    fn chosen() -> Self {
        let chosen = std::env::var("MILLSTREAM_SCALE_PARTITIONS").ok();
        let partitions = chosen.map_or(10_000, |text| text.parse().expect("a number of partitions"));
        Self { partitions, files: if partitions < 10_000 { 256 } else { 1_024 } }
    }

    fn partitions_per_topic(self) -> u32 {
        self.partitions / TOPICS
    }

    /// Every partition.
    fn all(self) -> impl Iterator<Item = (TopicName, u32)> {
        (0..TOPICS).flat_map(move |topic| {
            (0..self.partitions_per_topic()).map(move |partition| (topic_name(topic), partition))
        })
    }
}

fn topic_name(number: u32) -> TopicName {
    TopicName::new(&format!("topic-{number}")).expect("a valid name")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_partitions_are_served_with_a_thousand_file_descriptors() {
    let scale = Scale::chosen();
    // The broker inherits it, and cannot raise it.
    let files = Rlimit { current: Some(scale.files), maximum: Some(scale.files) };
    setrlimit(Resource::Nofile, files).expect("a limit may always be lowered");
    println!("{} partitions, {} segments each, {} file descriptors", scale.partitions, SEGMENTS, scale.files);
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");

    let broker = Launch::new(&data_dir).start();
    create_and_delete_a_wide_topic(&broker, scale).await;
    create_topics(&broker, scale).await;
    timed("clean stop of empty partitions", || broker.stop());
    timed("segments written by the library", || fill(&data_dir));

    let broker = start("start after a clean stop", &data_dir);
    check_the_metrics_page(&broker, scale).await;
    produce_to_all(&broker, scale).await;
    Usage::of(&broker).check("after producing to every partition", scale.files);
    timed("kill -9", || broker.kill());

    let broker = start("start after kill -9", &data_dir);
    Usage::of(&broker).check("after the start", scale.files);
    process::watch_idle(&broker, IDLE_SECONDS).await;
    Usage::of(&broker).check("idle", scale.files);
    read_all(&broker, scale).await;
    Usage::of(&broker).check("after reading every segment", scale.files);
    let page = process::metrics(&broker).await;
    let (open, open_max) =
        (process::metric(&page, "millstream_open_files"), process::metric(&page, "millstream_open_files_max"));
    let evictions = process::metric(&page, "millstream_open_files_evictions_total");
    println!("open segment files: {open} of at most {open_max}, {evictions} closed for others");
    assert!(open <= open_max && open_max < scale.files && evictions > u64::from(scale.partitions));
    timed("clean stop", || broker.stop());
    drop(start("start after a clean stop", &data_dir));
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = run();
    println!("{what}: {:.2} s", begun.elapsed().as_secs_f64());
    result
}

fn start(what: &str, data_dir: &Path) -> Broker {
    let begun = Instant::now();
    let broker = Launch::new(data_dir).start();
    let took = begun.elapsed();
    println!("{what}: ready in {:.2} s", took.as_secs_f64());
    // How much of it was the disk's.
    broker.log().lines().filter(|line| line.contains("not clean")).for_each(|line| println!("  {line}"));
    assert!(took < START_MAX, "{what} took {took:?}, at most {START_MAX:?} is promised");
    broker
}

/// While one topic with as many partitions as there may be comes and goes, other calls are answered.
async fn create_and_delete_a_wide_topic(broker: &Broker, scale: Scale) {
    let (client, other) = (broker.client().await, broker.client().await);
    let (wide, narrow) = (TopicName::new("wide").expect("valid"), TopicName::new("narrow").expect("valid"));
    client.create_topic(&narrow, 1, &TopicSettings::default()).await.expect("created");
    let is_over = std::sync::Arc::new(AtomicBool::new(false));
    let over = std::sync::Arc::clone(&is_over);
    let others = tokio::spawn(async move {
        let (mut calls, mut longest) = (0, Duration::ZERO);
        while !over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            other.topic(&narrow).await.expect("other calls go on");
            (calls, longest) = (calls + 1, longest.max(begun.elapsed()));
        }
        (calls, longest)
    });
    let begun = Instant::now();
    client.create_topic(&wide, scale.partitions, &TopicSettings::default()).await.expect("created");
    let created = begun.elapsed();
    client.delete_topic(&wide).await.expect("deleted");
    let deleted = begun.elapsed().saturating_sub(created);
    is_over.store(true, Ordering::Relaxed);
    let (calls, longest) = others.await.expect("it does not panic");
    println!(
        "a topic of {} partitions: created in {:.2} s, deleted in {:.2} s; the longest of {calls} calls beside it: {longest:?}",
        scale.partitions,
        created.as_secs_f64(),
        deleted.as_secs_f64()
    );
    assert!(calls > 1 && longest < OTHER_CALL_MAX);
}

async fn create_topics(broker: &Broker, scale: Scale) {
    let client = broker.client().await;
    for topic in 0..TOPICS {
        // Both kinds: one whose files are synced at once, one whose files are not unless they are in the way.
        let durability = if topic % 2 == 0 { Durability::Synced } else { Durability::Written };
        let settings = TopicSettings { durability: Some(durability), ..TopicSettings::default() };
        client.create_topic(&topic_name(topic), scale.partitions_per_topic(), &settings).await.expect("created");
    }
}

async fn check_the_metrics_page(broker: &Broker, scale: Scale) {
    let begun = Instant::now();
    let page = process::metrics(broker).await;
    println!("/metrics: {} bytes in {:.3} s", page.len(), begun.elapsed().as_secs_f64());
    let segments: u64 = process::values(&page, "millstream_partition_segments{topic=\"topic-").sum();
    assert_eq!(segments, u64::from(scale.partitions * SEGMENTS), "every segment is there");
}

async fn channel(broker: &Broker) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", broker.address())).expect("an address");
    endpoint.connect().await.expect("the broker serves")
}

/// One more record to every partition, many at a time.
async fn produce_to_all(broker: &Broker, scale: Scale) {
    const UNDER_WAY: usize = 64;
    let begun = Instant::now();
    let channel = channel(broker).await;
    let mut calls = JoinSet::new();
    for (topic, partition) in scale.all() {
        if calls.len() >= UNDER_WAY {
            calls.join_next().await.expect("one is under way").expect("it does not panic");
        }
        let mut producers = ProducerServiceClient::new(channel.clone());
        calls.spawn(async move {
            let mut records = bytes::BytesMut::new();
            let number = u64::from(SEGMENTS);
            encode_record(&mut records, None, Some(&value(&topic, partition, number)), std::iter::empty(), None);
            let records = records.freeze();
            let request =
                ProduceRequest { topic: topic.to_string(), partition: Some(partition), records, ..Default::default() };
            let answer = producers.produce(request).await.expect("appended").into_inner();
            assert_eq!(answer.results[0].base_offset, number);
        });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("it does not panic");
    }
    println!("a record produced to every partition: {:.2} s", begun.elapsed().as_secs_f64());
}

/// Every record of every partition, and so something of every segment, in an order in which neighbours are far apart.
async fn read_all(broker: &Broker, scale: Scale) {
    const POSITIONS: usize = 500;
    let begun = Instant::now();
    let mut consumers = ConsumerServiceClient::new(channel(broker).await).max_decoding_message_size(64 << 20);
    let all: Vec<_> = scale.all().collect();
    // A step that has no factor in common with the count comes by every place once.
    let step = (all.len() / 3..).find(|step| greatest_common_divisor(*step, all.len()) == 1).expect("there is one");
    let order: Vec<_> = (0..all.len()).map(|i| &all[i * step % all.len()]).collect();
    for number in 0..=u64::from(SEGMENTS) {
        for places in order.chunks(POSITIONS) {
            let position = |(topic, partition): &&(TopicName, u32)| FetchPosition {
                topic: topic.to_string(),
                partition: *partition,
                offset: number,
            };
            let positions = places.iter().map(position).collect();
            let request = FetchRequest { positions, max_bytes: 32 << 20, ..FetchRequest::default() };
            check(consumers.fetch(request).await.expect("readable").into_inner(), places, number);
        }
    }
    println!("everything read, in {} passes: {:.2} s", SEGMENTS + 1, begun.elapsed().as_secs_f64());
}

/// Each partition answers with its own records, from the one that was asked for to the last.
fn check(answer: FetchResponse, places: &[&(TopicName, u32)], first: u64) {
    assert_eq!(answer.partitions.len(), places.len());
    for (fetched, (topic, partition)) in answer.partitions.iter().zip(places) {
        assert_eq!((fetched.topic.as_str(), fetched.partition), (topic.as_str(), *partition));
        assert_eq!(fetched.error, None, "{topic}/{partition}");
        let mut next = first;
        for batch in &fetched.batches {
            assert_eq!(batch.base_offset, next, "{topic}/{partition}");
            for record in record_set::records(&batch.records) {
                let found = record.value.expect("each has one");
                assert_eq!(found, value(topic, *partition, next), "{topic}/{partition} at {next}");
                next += 1;
            }
        }
        assert_eq!(next, u64::from(SEGMENTS) + 1, "{topic}/{partition}: everything to the end");
        assert_eq!(Offset(fetched.high_watermark), Offset(next));
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
