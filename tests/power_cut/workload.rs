//! What the broker is made to do while its disk is recorded: appends of every durability to partitions that roll, commits,
//! deletions, topics that come and go, retention, stops and kills.

use crate::broker::{Broker, Launch};
use crate::faults::actor::{Actor, Order};
use crate::faults::history::History;
use crate::faults::random::Random;
use millstream::client::admin::TopicSettings;
use millstream::types::{Cleanup, Durability};
use std::fs::OpenOptions;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Most short-lived topics at a time.
const PASSING_MAX: usize = 2;

/// The topic that is compacted; the last of those that stay.
pub(crate) const COMPACTED: &str = "compacted";

const PAGE_BYTES: u64 = 4096;

/// Uses the broker that `launch` starts, for this many steps.
pub(crate) async fn run(
    launch: &Launch,
    data_dir: &Path,
    seed: u64,
    steps: u64,
    clock: impl Fn() -> u64 + Send + Sync + 'static,
) -> History {
    let broker = launch.start();
    let actor = Actor::new(broker.address(), seed, clock).await;
    let (random, broker) = (Random::new(seed), Some(broker));
    let mut workload = Workload { launch, data_dir, broker, actor, random, lasting: 0..0, passing: Vec::new() };
    workload.begin().await;
    for _ in 0..steps {
        workload.step().await;
    }
    workload.actor.history
}

struct Workload<'a> {
    launch: &'a Launch,
    data_dir: &'a Path,
    /// Always there but for the moment between two.
    broker: Option<Broker>,
    actor: Actor,
    random: Random,
    /// Topics that stay, and those that come and go, by number.
    lasting: Range<usize>,
    passing: Vec<usize>,
}

fn settings() -> TopicSettings {
    TopicSettings { segment_bytes: Some(1 << 20), ..TopicSettings::default() }
}

impl Workload<'_> {
    async fn begin(&mut self) {
        let written = TopicSettings { durability: Some(Durability::Written), ..settings() };
        let expiring = TopicSettings { retention_bytes: Some(2 << 20), ..settings() };
        let compacted = TopicSettings { cleanup: Some(Cleanup::Compact), ..settings() };
        for (name, partitions, settings) in
            [("synced", 3, settings()), ("written", 2, written), ("expiring", 1, expiring), (COMPACTED, 1, compacted)]
        {
            let topic = self.actor.create_topic(name, partitions, &settings).await.expect("created");
            self.lasting = 0..topic + 1;
        }
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..58 => {
                let orders = self.orders();
                let failures = self.actor.produce(&orders).await;
                assert!(failures.is_empty(), "{failures:?}");
            }
            58..68 => self.write_back(),
            68..77 => self.commit().await,
            77..84 => self.delete_records().await,
            84..90 if self.passing.len() < PASSING_MAX => {
                // The name of one that is gone may come again.
                let used = |name: &str, passing: &[usize], history: &History| {
                    passing.iter().any(|topic| history.lives[*topic].name == name)
                };
                let name = format!("passing-{}", self.random.below(8));
                if !used(&name, &self.passing, &self.actor.history) {
                    let topic = self.actor.create_topic(&name, 2, &settings()).await.expect("created");
                    self.passing.push(topic);
                }
            }
            90..96 if !self.passing.is_empty() => {
                let topic = self.passing.swap_remove(self.random.index(self.passing.len()));
                self.actor.delete_topic(topic).await.expect("deleted");
            }
            96 => self.kill().await,
            97 => {
                self.broker.take().expect("it runs").stop();
                self.start().await;
            }
            98..100 => self.actor.compact(self.lasting.end - 1).await.expect("compacted"),
            _ => {}
        }
    }

    /// One to six records, for partitions that are chosen anew for each.
    fn orders(&mut self) -> Vec<Order> {
        (0..=self.random.below(6))
            .map(|_| {
                let (life, partition) = self.partition();
                let len = match self.random.below(100) {
                    0..70 => self.random.below(2_000),
                    70..94 => self.random.below(20_000),
                    _ => 100_000 + self.random.below(100_000),
                };
                let durability = match self.random.below(10) {
                    0..5 => None,
                    5..7 => Some(Durability::Synced),
                    _ => Some(Durability::Written),
                };
                Order { life, partition, len: usize::try_from(len).expect("64-bit"), durability }
            })
            .collect()
    }

    /// Has the kernel write part of a file that nobody has synced, as it does sooner or later by itself, and without a
    /// flush: so later records get to the disk before earlier ones.
    fn write_back(&mut self) {
        let mut files = log_files(&self.data_dir.join("topics"));
        files.sort();
        if !files.is_empty() {
            let file = OpenOptions::new().read(true).open(&files[self.random.index(files.len())]);
            // Retention may just have deleted it.
            let Ok(file) = file else { return };
            let len = file.metadata().map_or(0, |metadata| metadata.len());
            let from = self.random.below(len / PAGE_BYTES + 1) * PAGE_BYTES;
            let advice = rustix::fs::Advice::DontNeed;
            rustix::fs::fadvise(&file, from, std::num::NonZeroU64::new(len / 2), advice).expect("advice is taken");
        }
    }

    /// Any partition of any topic that is there.
    fn partition(&mut self) -> (usize, u32) {
        let topics: Vec<usize> = self.lasting.clone().chain(self.passing.iter().copied()).collect();
        let life = topics[self.random.index(topics.len())];
        let partitions = self.actor.history.lives[life].partitions;
        (life, u32::try_from(self.random.below(partitions.into())).expect("below a u32"))
    }

    async fn commit(&mut self) {
        let life = self.random.index(self.lasting.end);
        let partition =
            u32::try_from(self.random.below(self.actor.history.lives[life].partitions.into())).expect("small");
        let here = self.actor.history.commits.iter().filter(|mark| (mark.life, mark.partition) == (life, partition));
        let before = here.map(|mark| mark.offset).max().unwrap_or(0);
        let end = self.actor.end(life, partition);
        if end > before {
            self.actor.commit(life, partition, end).await.expect("committed");
        }
    }

    async fn delete_records(&mut self) {
        let (life, partition) = self.partition();
        let end = self.actor.end(life, partition);
        if end > 0 {
            let before = end - self.random.below(end.min(40));
            self.actor.delete_records(life, partition, before).await.expect("deleted");
        }
    }

    /// `kill -9` in the middle of appends.
    async fn kill(&mut self) {
        let orders = self.orders();
        let broker = self.broker.take().expect("it runs");
        let (begun, wait) = tokio::sync::oneshot::channel();
        let killer = std::thread::spawn(move || {
            let _ = wait.blocking_recv();
            broker.kill();
        });
        let after = std::time::Duration::from_micros(self.random.below(4_000));
        let signal = async move {
            tokio::time::sleep(after).await;
            let _ = begun.send(());
        };
        // Whoever is not answered does not know; the history says so.
        let ((), _) = tokio::join!(signal, self.actor.produce(&orders));
        killer.join().expect("it only kills");
        self.start().await;
    }

    async fn start(&mut self) {
        let broker = self.launch.start();
        self.actor.reconnect(broker.address()).await;
        self.broker = Some(broker);
    }
}

/// Every segment file below a directory.
fn log_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let below = |path: PathBuf| if path.is_dir() { log_files(&path) } else { vec![path] };
    paths.flat_map(below).filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}
