//! `kill -9`, again and again, at moments that a seeded generator chooses: while records are written, and while the
//! broker recovers from the kill before. After each start everything acknowledged so far stands at its offset.
//!
//! The seed is printed; `MILLSTREAM_SEED` runs it again, `MILLSTREAM_KILLS` makes it longer.

use crate::broker::{Broker, Launch};
use crate::ledger::{Ledger, Source, ends, read_log};
use millstream::client::admin::TopicSettings;
use millstream::client::{Client, Producer, ProducerOptions};
use millstream::types::{Durability, TopicName};
use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

const PARTITIONS: usize = 4;
const PRODUCERS: u32 = 3;

/// A small generator (xorshift) of everything that is random here.
#[derive(Debug, Clone, Copy)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Lines that follow from their number and the seed: of many lengths, with bytes of all values.
#[derive(Debug, Clone, Copy)]
struct Noise {
    seed: u64,
}

impl Source for Noise {
    /// Each producer has keys of its own, so that the order of a key is the order one producer sent.
    fn key(&self, line: u32) -> Cow<'_, [u8]> {
        Cow::Owned(format!("{}-{}", line % PRODUCERS, line / PRODUCERS % 7).into_bytes())
    }

    fn value(&self, line: u32) -> Cow<'_, [u8]> {
        let mut random = Random(self.seed ^ (u64::from(line) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let most = if line.is_multiple_of(50) { 40_000 } else { 900 };
        let len = random.below(most);
        Cow::Owned((0..len).map(|_| random.below(256).to_le_bytes()[0]).collect())
    }
}

/// A number from the environment.
fn asked(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}; it must be a number")))
}

/// One producer for each durability a request may ask for; what was written survives a kill as what was synced does.
async fn producers(client: &Client, topic: &TopicName) -> Vec<Producer> {
    let mut producers = Vec::new();
    for durability in [None, Some(Durability::Written), Some(Durability::Synced)] {
        let options = ProducerOptions { durability, batch_bytes: 8 << 10, ..ProducerOptions::default() };
        producers.push(client.producer(topic.as_str(), options).await.expect("the topic is there"));
    }
    producers
}

/// Starts the broker; every third time on average it is killed while it starts, and started again. Gives how many
/// kills that took.
fn start_with_kills(launch: &Launch, random: &mut Random) -> (Broker, usize) {
    let mut kills = 0;
    while random.below(3) == 0 {
        kills += 1;
        match launch.spawn().wait(Duration::from_micros(random.below(60_000))) {
            Ok(broker) => drop(broker.kill()),
            Err(starting) => drop(starting.kill()),
        }
    }
    (launch.start(), kills)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_every_kill_9() {
    let seed = asked("MILLSTREAM_SEED").unwrap_or_else(|| RandomState::new().hash_one(0_u8)) | 1;
    let kills_wanted = asked("MILLSTREAM_KILLS").unwrap_or(20);
    println!("kill -9: MILLSTREAM_SEED={seed} MILLSTREAM_KILLS={kills_wanted}");
    let (mut random, source) = (Random(seed), Noise { seed });

    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Launch::new(directory.path()).start();
    let launch = Launch::new(directory.path()).listen(&broker.address());
    let client = broker.client().await;
    let topic = TopicName::new("noise").expect("valid");
    let settings = TopicSettings { segment_bytes: Some(1 << 20), ..TopicSettings::default() };
    client.create_topic(&topic, 4, &settings).await.expect("created");
    let producers = producers(&client, &topic).await;

    let begun = Instant::now();
    let mut ledger = Ledger::default();
    let mut verified = vec![0; PARTITIONS];
    let (mut kills, mut kills_at_start, mut doubted, mut checked) = (0, 0, 0, 0);
    while kills < kills_wanted {
        let first = ledger.next_line();
        let count = 1 + u32::try_from(random.below(600)).expect("small");
        for line in first..first + count {
            ledger.send(&producers[(line % PRODUCERS) as usize], &source).await;
        }
        ledger.acknowledged(first + u32::try_from(random.below(count.into())).expect("small")).await;
        // Half of the kills follow an acknowledgement as closely as can be: what it promises must hold by then. The
        // moment of the others is random; nothing is waited for.
        if random.below(2) == 0 {
            tokio::time::sleep(Duration::from_micros(random.below(3_000))).await;
        }
        broker.kill();
        // All answers taken here are of the broker that is gone, so what they promise is visible when the next serves.
        doubted += ledger.doubt_unacknowledged();
        let (started, more) = start_with_kills(&launch, &mut random);
        (broker, kills, kills_at_start) = (started, kills + 1, kills_at_start + more);

        let log = read_log(&client, &topic, &source, &verified).await;
        checked += ledger.check_acknowledged(&log, &verified);
        let grown = verified.iter().zip(&log).map(|(from, lines)| from + lines.len() as u64).collect();
        verified = grown;
    }
    ledger.all_acknowledged().await;
    broker.kill();
    broker = launch.start();
    let log = read_log(&client, &topic, &source, &[0; PARTITIONS]).await;
    let duplicates = ledger.check_whole(&log, &source);
    let records: u64 = ends(&client, &topic).await.iter().sum();
    println!(
        "kill -9: {} kills and {kills_at_start} while starting, {:.1} s, {} lines acknowledged, {doubted} in \
         doubt at a kill, {records} records, {duplicates} duplicates, {checked} checked after restarts, 0 lost",
        kills + 1,
        begun.elapsed().as_secs_f64(),
        ledger.next_line()
    );
    broker.stop();
}
