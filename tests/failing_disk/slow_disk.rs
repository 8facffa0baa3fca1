//! A disk that takes long for every write, more appends than it can take, and calls that need no write beside them.

use crate::broker::Launch;
use crate::faults::actor::{Actor, GROUP, Order};
use crate::faults::lines::Lines;
use crate::faults::observed::Observed;
use crate::nbd_disk::NbdDisk;
use millstream::client::admin::TopicSettings;
use millstream::client::{Client, PartitionReader};
use millstream::types::{Offset, TopicName, TopicPartition};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::MissedTickBehavior;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

/// One write; a sync takes a few.
const WRITE_DELAY: Duration = Duration::from_millis(40);

/// What a sync must take at the least, or the disk is not slow and nothing is shown.
const SYNC_MIN: Duration = Duration::from_millis(80);

/// What calls that need no write may take, 99 times in 100.
const PROBE_P99_MAX: Duration = Duration::from_millis(100);

/// Each probe is made this often, one after the other.
const PROBES: usize = 200;
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// Records on their way at a time, and what the broker accepts of them at a time (its least setting): the rest is
/// refused.
const LOAD_RECORDS: usize = 120;
const LOAD_RECORD_BYTES: usize = 150_000;
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
    let (mut syncs, mut refused) = (Vec::new(), 0);
    while !probing.is_finished() {
        // One record alone tells how long a sync takes.
        let begun = Instant::now();
        assert!(actor.produce(&[order(topic, 1, 100)]).await.is_empty(), "one record is not too much");
        syncs.push(begun.elapsed());
        let orders: Vec<Order> =
            (0..LOAD_RECORDS).map(|i| order(topic, u32::try_from(i % 4).expect("small"), LOAD_RECORD_BYTES)).collect();
        for status in actor.produce(&orders).await {
            refused += 1;
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            let delay = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
            assert!(delay.is_some_and(|delay| !delay.is_zero()), "it says when to try again: {status:?}");
        }
    }
    let probes = probing.join().expect("every probe was answered");

    let observed = Observed::of(&actor.client, GROUP, &Lines::new(seed)).await.expect("everything is served");
    let judgement = actor.history.judge(&observed, u64::MAX);
    broker.stop();
    let sync = percentiles(&mut syncs);
    let shown: Vec<String> = probes.iter().map(|(name, at)| format!("{name} p50 {:?} p99 {:?}", at.0, at.1)).collect();
    println!(
        "slow disk: one record synced p50 {:?} p99 {:?}; {}; {} acked, {refused} refused with the advice to wait, {} \
         lost; seed={seed}",
        sync.0,
        sync.1,
        shown.join(", "),
        judgement.checked,
        judgement.broken.len()
    );
    assert!(judgement.broken.is_empty() && judgement.refused.is_empty(), "{judgement:?}");
    assert!(sync.0 >= SYNC_MIN, "the disk is not slow: {sync:?}");
    assert!(refused > 0, "the load was never too much");
    for (name, (_, p99)) in probes {
        assert!(p99 < PROBE_P99_MAX, "{name} waits for the disk: p99 {p99:?}");
    }
}

fn order(life: usize, partition: u32, len: usize) -> Order {
    Order { life, partition, len, durability: None }
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
    let (health, get, list, fetch, page) = tokio::join!(
        probe(async || drop(health.clone().check(HealthCheckRequest::default()).await.expect("it is healthy"))),
        probe(async || drop(get.topic(&topic).await.expect("the topic is there"))),
        probe(async || drop(list.list_topics("", true).await.expect("there are some"))),
        probe(async || {
            let mut reader = PartitionReader::new(&fetch, partition.clone(), Offset(0)..Offset(OLD_RECORDS));
            while reader.next().await.expect("old records can be read").is_some() {}
        }),
        probe(async || page_is_ok(admin, "/healthz").await),
    );
    vec![
        ("health", health),
        ("GetTopic", get),
        ("ListTopics", list),
        ("Fetch of old records", fetch),
        ("/healthz", page),
    ]
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
