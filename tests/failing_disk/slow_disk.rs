//! A disk that takes long for every write, more appends than it can take, and calls that need no write beside them.

use crate::broker::Launch;
use crate::faults::actor::{Actor, GROUP, Order};
use crate::faults::lines::Lines;
use crate::faults::observed::Observed;
use crate::nbd_disk::NbdDisk;
use millstream::client::admin::TopicSettings;
use millstream::client::{Client, PartitionReader};
use millstream::types::{Offset, TopicName, TopicPartition};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::MissedTickBehavior;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

/// One write; a sync takes a few.
const WRITE_DELAY: Duration = Duration::from_millis(40);

/// What a sync must take at the least, or the disk is not slow and nothing is shown.
const SYNC_MIN: Duration = Duration::from_millis(80);

/// What calls that need no write may take, 99 times in 100, beyond what this machine takes to answer anything: the same
/// probe of a server that only echoes, made at the same time, tells how busy it is.
const PROBE_P99_MAX: Duration = Duration::from_millis(100);

/// Each probe is made this often, one after the other.
const PROBES: usize = 200;
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// Records on their way at a time while the probes are made: enough that the disk is never idle.
const LOAD_RECORDS: usize = 8;
const LOAD_RECORD_BYTES: usize = 10_000;

/// More than the broker accepts at a time (this is its least setting): the rest is refused.
const FLOOD_RECORDS: usize = 80;
const FLOOD_RECORD_BYTES: usize = 180_000;
const IN_FLIGHT_BYTES_MAX: &str = "9MiB";

/// Records that are there before, for somebody to read.
const OLD_RECORDS: u64 = 50;

pub(crate) async fn run(directory: &Path, seed: u64) {
    println!("slow disk: {WRITE_DELAY:?} a write, MILLSTREAM_SEED={seed}");
    let disk = NbdDisk::slow(directory, WRITE_DELAY);
    let broker = Launch::new(&disk.data_dir())
        .variable("MILLSTREAM_LIMITS_PRODUCE_IN_FLIGHT_BYTES_MAX", IN_FLIGHT_BYTES_MAX)
        .start();
    let moment = AtomicU64::new(0);
    let mut actor = Actor::new(broker.address(), seed, move || moment.fetch_add(1, Ordering::Relaxed)).await;
    let topic = actor.create_topic("load", 4, &TopicSettings::default()).await.expect("created");
    let old: Vec<Order> = (0..OLD_RECORDS).map(|_| order(topic, 0, 1_000)).collect();
    assert!(actor.produce(&old).await.is_empty());

    // On a thread of their own, so that what is measured is the broker and not the load's own work.
    let (address, admin) = (broker.address(), admin_address(&broker.log()));
    let probing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(probe_all(address, admin))
    });
    let mut syncs = Vec::new();
    while !probing.is_finished() {
        // One record alone tells how long a sync takes.
        let begun = Instant::now();
        assert!(actor.produce(&[order(topic, 1, 100)]).await.is_empty(), "one record is not too much");
        syncs.push(begun.elapsed());
        let failures = actor.produce(&orders(topic, LOAD_RECORDS, LOAD_RECORD_BYTES)).await;
        assert!(failures.is_empty(), "{failures:?}");
    }
    let probes = probing.join().expect("every probe was answered");

    let refusals = actor.produce(&orders(topic, FLOOD_RECORDS, FLOOD_RECORD_BYTES)).await;
    refusals.iter().for_each(assert_says_when_to_retry);
    let observed = Observed::of(&actor.client, GROUP, &Lines::new(seed)).await.expect("everything is served");
    let judgement = actor.history.judge(&observed, u64::MAX);
    broker.stop();
    let sync = percentiles(&mut syncs);
    let shown: Vec<String> = probes.iter().map(|(name, at)| format!("{name} p50 {:?} p99 {:?}", at.0, at.1)).collect();
    println!(
        "slow disk: one record synced p50 {:?} p99 {:?}; {}; {} acked, {} refused with the advice to wait, {} \
         lost; seed={seed}",
        sync.0,
        sync.1,
        shown.join(", "),
        judgement.checked,
        refusals.len(),
        judgement.broken.len()
    );
    assert!(judgement.broken.is_empty() && judgement.refused.is_empty(), "{judgement:?}");
    assert!(sync.0 >= SYNC_MIN, "the disk is not slow: {sync:?}");
    assert!(!refusals.is_empty(), "the flood was not too much");
    let (_, (_, busy)) = probes.last().expect("there are some");
    for (name, (_, p99)) in &probes {
        assert!(*p99 < PROBE_P99_MAX + *busy, "{name} waits for the disk: p99 {p99:?}, an echo {busy:?}");
    }
}

fn order(life: usize, partition: u32, len: usize) -> Order {
    Order { life, partition, len, durability: None }
}

/// So many records, for all partitions by turns.
fn orders(life: usize, records: usize, len: usize) -> Vec<Order> {
    (0..records).map(|i| order(life, u32::try_from(i % 4).expect("small"), len)).collect()
}

#[track_caller]
fn assert_says_when_to_retry(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let delay = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
    assert!(delay.is_some_and(|delay| !delay.is_zero()), "it says when to try again: {status:?}");
}

/// The address that the broker has printed.
fn admin_address(log: &str) -> SocketAddr {
    let mut lines = log.lines();
    let address = lines.find_map(|line| line.strip_prefix("  admin       http://")).expect("it is printed");
    address.parse().expect("an address")
}

/// The median, and what 99 of 100 stay below.
fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    (at(50), at(99))
}

/// Makes every probe on a connection of its own, side by side.
async fn probe_all(broker: SocketAddr, admin: SocketAddr) -> Vec<(&'static str, (Duration, Duration))> {
    let connect = async || Client::connect(&broker.to_string()).await.expect("it serves");
    let topic = TopicName::new("load").expect("valid");
    let channel = Endpoint::from_shared(format!("http://{broker}")).expect("an address").connect().await;
    let health = HealthClient::new(channel.expect("it serves"));
    let (get, list, fetch) = (connect().await, connect().await, connect().await);
    let partition = TopicPartition { topic: topic.clone(), partition: 0 };
    let echo = echo_server();
    let (health, get, list, fetch, page, echo) = tokio::join!(
        probe(async || drop(health.clone().check(HealthCheckRequest::default()).await.expect("it is healthy"))),
        probe(async || drop(get.topic(&topic).await.expect("the topic is there"))),
        probe(async || drop(list.list_topics("", true).await.expect("there are some"))),
        probe(async || {
            let mut reader = PartitionReader::new(&fetch, partition.clone(), Offset(0)..Offset(OLD_RECORDS));
            while reader.next().await.expect("old records can be read").is_some() {}
        }),
        probe(async || page_is_ok(admin, "/healthz").await),
        probe(async || echoes(echo).await),
    );
    let named = [("health", health), ("GetTopic", get), ("ListTopics", list), ("Fetch of old records", fetch)];
    named.into_iter().chain([("/healthz", page), ("an echo", echo)]).collect()
}

/// Sends back one byte to whoever sends one, from a thread of its own, until the test ends.
fn echo_server() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut byte = [0];
            let echoed = stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte));
            echoed.expect("the probe waits for it");
        }
    });
    address
}

async fn echoes(server: SocketAddr) {
    let mut stream = tokio::net::TcpStream::connect(server).await.expect("it listens");
    stream.write_all(&[1]).await.expect("it reads");
    stream.read_u8().await.expect("it answers");
}

async fn probe(call: impl AsyncFn()) -> (Duration, Duration) {
    let mut interval = tokio::time::interval(PROBE_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        interval.tick().await;
        let begun = Instant::now();
        call().await;
        times.push(begun.elapsed());
    }
    percentiles(&mut times)
}

async fn page_is_ok(admin: SocketAddr, page: &str) {
    let mut stream = tokio::net::TcpStream::connect(admin).await.expect("the admin door is open");
    let request = format!("GET {page} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
