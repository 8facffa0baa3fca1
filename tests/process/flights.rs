//! Real input: a year of departures from New York, through a broker that is killed while they are written, to groups
//! of which one loses a member half-way.
//!
//! In the plain run these are the 5,000 rows of tests/data/flights.csv. `MILLSTREAM_FLIGHTS=FILE` takes another file
//! of that shape; docs/tour.md says where the whole year is.

use crate::broker::{Broker, Launch};
use crate::group::{DoomedMember, Group, Seen};
use crate::ledger::{Ledger, Source, ends, read_log};
use millstream::client::admin::TopicSettings;
use millstream::client::{Client, Producer, ProducerOptions};
use millstream::types::TopicName;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

const PARTITIONS: u32 = 6;

/// Rows without a header line.
#[derive(Debug)]
struct Flights {
    rows: Vec<Vec<u8>>,
}

impl Flights {
    /// Rows of the file that was asked for, or of the one that comes with the tests; and how often to kill the broker.
    fn read() -> (Self, usize) {
        let asked = std::env::var_os("MILLSTREAM_FLIGHTS");
        let kills = if asked.is_some() { 5 } else { 2 };
        let path = asked.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/flights.csv").into());
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let rows = text.split(|byte| *byte == b'\n').filter(|row| !row.is_empty() && !row.starts_with(b"year,"));
        (Self { rows: rows.map(<[u8]>::to_vec).collect() }, kills)
    }
}

impl Source for Flights {
    /// Carrier and flight number: `UA1545`.
    fn key(&self, line: u32) -> Cow<'_, [u8]> {
        let row = &self.rows[line as usize];
        let fields: Vec<_> = row.split(|byte| *byte == b',').skip(9).take(2).collect();
        Cow::Owned(fields.concat())
    }

    fn value(&self, line: u32) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.rows[line as usize])
    }
}

/// The groups of the test: two that see everything alone, one that shares.
struct Groups {
    alone: [Arc<Group>; 2],
    shared: Arc<Group>,
    members: JoinSet<()>,
    doomed: DoomedMember,
}

impl Groups {
    async fn start(broker: &Broker, topic: &TopicName) -> Self {
        let alone = ["audit", "billing"].map(|name| Group::new(name, topic));
        let shared = Group::new("boards", topic);
        let mut members = JoinSet::new();
        for group in &alone {
            members.spawn(Arc::clone(group).read_as("only".to_owned(), broker.client().await));
        }
        for name in ["first", "second"] {
            members.spawn(Arc::clone(&shared).read_as(name.to_owned(), broker.client().await));
        }
        let doomed = DoomedMember::start(&shared, "doomed", broker.address());
        Self { alone, shared, members, doomed }
    }

    /// One member goes without a word in the middle of its work; the groups finish all the same.
    async fn lose_a_member_and_finish(self, client: &Client, sent: impl Future<Output = Vec<u64>>) -> [Arc<Group>; 3] {
        let Self { alone: [audit, billing], shared, members, doomed } = self;
        let everyone_works = |seen: &Seen| ["first", "second", "doomed"].iter().all(|member| seen.by(member) > 0);
        shared.wait_until("every member's first records", everyone_works).await;
        // It may still be on its way back from the last kill; the others would finish without it.
        shared.wait_until_it_has(client, "doomed").await;
        let before = shared.seen().by("doomed");
        let ends = async {
            shared.wait_until("more records of the doomed member", |seen| seen.by("doomed") > before).await;
            doomed.vanish();
        };
        let (ends, ()) = tokio::join!(sent, ends);
        let groups = [audit, billing, shared];
        for group in &groups {
            group.finished(&ends).await;
        }
        drop(members);
        groups
    }
}

/// Sends all but the last part of the rows; in the middle of each part the broker is killed and started again. Gives
/// the broker that runs at the end, and how many lines were in doubt at the kills.
async fn send_through_kills(
    flights: &Flights,
    ledger: &mut Ledger,
    producer: &Producer,
    launch: &Launch,
    mut broker: Broker,
    kills: usize,
) -> (Broker, usize) {
    let mut doubted = 0;
    let part = flights.rows.len() / (kills + 1);
    for first in (0..kills).map(|i| i * part) {
        for _ in 0..part {
            ledger.send(producer, flights).await;
        }
        // The rows behind this one are on their way.
        ledger.acknowledged(u32::try_from(first + part / 2).expect("lines are 32-bit")).await;
        broker.kill();
        doubted += ledger.doubt_unacknowledged();
        broker = launch.start();
    }
    (broker, doubted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flights_survive_kills_of_the_broker_and_of_a_consumer() {
    let (flights, kills) = Flights::read();
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let launch = Launch::new(directory.path()).listen(&broker.address());
    let client = broker.client().await;
    let topic = TopicName::new("flights").expect("valid");
    let settings = TopicSettings { segment_bytes: Some(1 << 20), ..TopicSettings::default() };
    client.create_topic(&topic, PARTITIONS, &settings).await.expect("created");

    let begun = Instant::now();
    let groups = Groups::start(&broker, &topic).await;
    let mut ledger = Ledger::default();
    let options = ProducerOptions { batch_bytes: 4 << 10, ..ProducerOptions::default() };
    let producer = client.producer(topic.as_str(), options).await.expect("the topic is there");
    let (broker, doubted) = send_through_kills(&flights, &mut ledger, &producer, &launch, broker, kills).await;
    let last_part = async {
        while (ledger.next_line() as usize) < flights.rows.len() {
            ledger.send(&producer, &flights).await;
        }
        ledger.all_acknowledged().await;
        ends(&client, &topic).await
    };
    let groups = groups.lose_a_member_and_finish(&client, last_part).await;
    let seconds = begun.elapsed().as_secs_f64();

    // Once more, with nothing under way: what was acknowledged and committed is still there.
    broker.kill();
    let broker = launch.start();
    let client = broker.client().await;
    let log = read_log(&client, &topic, &flights).await;
    let duplicates = ledger.check_whole(&log, &flights);
    let expected: Vec<u64> = log.iter().map(|lines| lines.len() as u64).collect();
    for group in &groups {
        group.check_saw_all(&log);
        let mut committed = vec![0; log.len()];
        for offset in client.fetch_offsets(group.name(), &[]).await.expect("the group is there") {
            committed[offset.partition.partition as usize] = offset.offset.0;
        }
        assert_eq!(committed, expected, "committed offsets of group {}", group.name());
    }
    let repeats: Vec<_> = groups.iter().map(|group| group.seen().repeats).collect();
    println!(
        "flights: {} rows, {PARTITIONS} partitions, 3 groups, {seconds:.1} s, {} kills, {doubted} rows in doubt, \
         {duplicates} duplicates, {repeats:?} records read again",
        flights.rows.len(),
        kills + 1
    );
    broker.stop();
}
