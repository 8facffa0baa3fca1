//! One history: topics and groups of its own, load, kills, and after each an audit.

use crate::broker::{Broker, Launch, connect};
use crate::history::audit::{Subject, audit, topic_name};
use crate::history::checker::{Counts, QueueCounts};
use crate::history::payload::Random;
use crate::history::{Event, Payload, Rule};
use crate::workers::Queues;
use crate::world::{PATIENCE, World};
use crate::{changes, producers, readers, redrives, schedules, workers};
use millstream::client::Client;
use millstream::client::admin::TopicSettings;
use millstream::types::{Cleanup, Durability, TopicPartition};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const SEGMENT_BYTES: u64 = 1 << 20;
const RETENTION_BYTES: u64 = 3 << 20;

/// Of all rounds together.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    kills: u64,
    kills_at_start: u64,
    counts: Counts,
    queues: QueueCounts,
    restarts: Vec<Duration>,
}

impl Totals {
    /// The line of figures.
    pub(crate) fn line(mut self) -> String {
        self.restarts.sort_unstable();
        let at = |percent: usize| self.restarts[(self.restarts.len() - 1) * percent / 100].as_millis();
        let Counts { acked, repeated, polled, commits, deleted, audited } = self.counts;
        let QueueCounts { received, settled, acked: done, dead, redriven, came_due, due_repeats } = self.queues;
        format!(
            "kill: {} kills (+{} while starting), {acked} acked, 0 lost, 0 duplicated, 0 invented, 0 reordered, 0 \
             dirty reads ({repeated} repeated in doubt, {polled} polled, {commits} commits, {deleted} deleted, \
             {audited} audited); queues: {received} deliveries, {settled} settlements, {done} acks, {dead} dead letters, 0 \
             lost, 0 with two leases, 0 after their end, 0 overtaken, 0 against the filter, 0 unaccounted; {redriven} \
             letters sent back, 0 lost, 0 told of and sent again; {came_due} schedules, 0 lost, 0 early ({due_repeats} \
             repeated by kills); restart p50 {} ms, p99 {} ms, max {} ms",
            self.kills,
            self.kills_at_start,
            at(50),
            at(99),
            at(100)
        )
    }
}

/// A round that is about to begin.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) number: u64,
    pub(crate) kills: u64,
    pub(crate) seed: u64,
    pub(crate) launch: Launch,
    pub(crate) random: Random,
}

impl Round {
    /// Runs it to its end. Gives the broker that runs then.
    pub(crate) async fn run(mut self, mut broker: Broker, totals: &mut Totals) -> Broker {
        let (world, topics) = self.prepare(&broker).await;
        let queues = workers::start(&world, &broker.client().await, &topics, &mut self.random).await;
        let senders = producers::start(&world, &topics, &mut self.random).await;
        let adding = schedules::start(&world, &broker.client().await, &topics, &mut self.random);
        let topics: Vec<_> = topics.iter().map(|topic| topic_name(topic)).collect();
        let readers = readers::start(&world, &broker.client().await, &topics, &mut self.random);
        let mut changing = JoinSet::new();
        let random = |random: &mut Random| Random::new(random.below(u64::MAX));
        changing.spawn(changes::delete_records(Arc::clone(&world), topics[2].clone(), random(&mut self.random)));
        changing.spawn(changes::compact(Arc::clone(&world), topics[3].clone(), random(&mut self.random)));
        changing.spawn(changes::change_topics(Arc::clone(&world), random(&mut self.random)));
        let client = broker.client().await;
        changing.spawn(redrives::redrive(Arc::clone(&world), client, random(&mut self.random)));

        for kill in 1..self.kills {
            self.wait_for_the_moment(&world).await;
            broker = self.kill_and_restart(broker, &world, totals);
            self.audit(&broker, &world, &queues, kill).await;
        }
        world.close();
        within("the producers to deliver everything", senders.join_all()).await;
        within("the last changes", changing.join_all()).await;
        within("the last schedules", adding.join_all()).await;
        drop(readers);
        broker = self.kill_and_restart(broker, &world, totals);
        within("the schedules to be delivered", schedules::drain(&broker.client().await, &world)).await;
        self.audit(&broker, &world, &queues, self.kills).await;
        within("the queues to be done", queues.drain(&broker.client().await, &world)).await;
        world.recorder.record(Event::Finished);
        world.check(&self.context(self.kills));
        totals.add(world.recorder.counts(), world.recorder.queue_counts());
        clean_up(&world).await;
        broker
    }

    /// Creates the topics, and says in the history what it is about.
    async fn prepare(&self, broker: &Broker) -> (Arc<World>, Vec<String>) {
        let prefix = format!("round-{}-", self.number);
        let small = TopicSettings { segment_bytes: Some(SEGMENT_BYTES), ..TopicSettings::default() };
        let written = TopicSettings { durability: Some(Durability::Written), ..small.clone() };
        let trimmed = TopicSettings { retention_bytes: Some(RETENTION_BYTES), ..small.clone() };
        let compacted = TopicSettings { cleanup: Some(Cleanup::Compact), ..small.clone() };
        let kinds =
            [("synced", 3, small), ("written", 2, written), ("trimmed", 2, trimmed), ("compacted", 2, compacted)];
        let client = broker.client().await;
        let letters = workers::letter_topics(&prefix);
        let mut subject = Subject { letters, prefix, ..Subject::default() };
        subject.groups = (0..readers::GROUPS).map(|group| format!("{}group-{group}", subject.prefix)).collect();
        let (mut names, mut events) = (Vec::new(), Vec::new());
        for (kind, partitions, settings) in kinds {
            let name = format!("{}{kind}", subject.prefix);
            let topic = topic_name(&name);
            client.create_topic(&topic, partitions, &settings).await.expect("created");
            events.push(Event::TopicDone { topic: name.clone(), exists: true });
            for partition in 0..partitions {
                let log = u16::try_from(subject.logs.len()).expect("few");
                let rule = match settings.retention_bytes {
                    // Retention takes whole segments until what is left fits.
                    Some(bytes) => Rule::Retain { bytes_min: bytes - SEGMENT_BYTES },
                    None if settings.cleanup.is_some() => Rule::Compact,
                    None => Rule::Keep,
                };
                events.push(Event::Log { log, topic: name.clone(), partition, rule });
                subject.logs.push(TopicPartition { topic: topic.clone(), partition });
            }
            names.push(name);
        }
        let world = World::new(client, subject, Payload { seed: self.seed, large_each: 97 });
        for event in events {
            world.recorder.record(event);
        }
        (Arc::new(world), names)
    }

    /// Some time under load; or the moment after something was promised, which must hold by then.
    async fn wait_for_the_moment(&mut self, world: &World) {
        if self.random.below(3) == 0 {
            let _ = tokio::time::timeout(Duration::from_millis(500), world.acked.notified()).await;
            tokio::time::sleep(Duration::from_micros(self.random.below(3_000))).await;
        } else {
            tokio::time::sleep(Duration::from_millis(5 + self.random.below(496))).await;
        }
    }

    /// Kills the broker and starts it again; every third time on average it is killed while it starts, too.
    fn kill_and_restart(&mut self, broker: Broker, world: &World, totals: &mut Totals) -> Broker {
        broker.kill();
        totals.kills += 1;
        world.recorder.record(Event::Down);
        while self.random.below(3) == 0 {
            let moment = Duration::from_micros(self.random.below(60_000));
            // However far it came: dropped, it is killed.
            drop(self.launch.spawn().wait(moment));
            totals.kills_at_start += 1;
            world.recorder.record(Event::Down);
        }
        let begun = Instant::now();
        let broker = self.launch.start();
        totals.restarts.push(begun.elapsed());
        world.lives.send_modify(|lives| *lives += 1);
        broker
    }

    /// Reads everything, while nothing is sent or changed, and judges.
    async fn audit(&self, broker: &Broker, world: &World, queues: &Queues, kill: u64) {
        let client = connect(broker.address()).await;
        let closed = within("the load to pause", world.gate.write()).await;
        within("an audit", audit(&client, &world.subject, world.payload, &world.recorder)).await;
        within("an audit of the queues", queues.audit(&client, world)).await;
        world.check(&self.context(kill));
        drop(closed);
    }

    fn context(&self, kill: u64) -> String {
        format!("MILLSTREAM_SEED={}, round {}, after kill {kill}", self.seed, self.number)
    }
}

impl Totals {
    fn add(&mut self, counts: Counts, queues: QueueCounts) {
        self.queues.received += queues.received;
        self.queues.settled += queues.settled;
        self.queues.acked += queues.acked;
        self.queues.dead += queues.dead;
        self.queues.redriven += queues.redriven;
        self.queues.came_due += queues.came_due;
        self.queues.due_repeats += queues.due_repeats;
        let total = &mut self.counts;
        total.acked += counts.acked;
        total.repeated += counts.repeated;
        total.polled += counts.polled;
        total.commits += counts.commits;
        total.deleted += counts.deleted;
        total.audited += counts.audited;
    }
}

/// Deletes what the round made, and sees that it is gone.
async fn clean_up(world: &World) {
    let client: &Client = &world.client;
    let prefix = &world.subject.prefix;
    for topic in client.list_topics(prefix, false).await.expect("topics can be listed") {
        client.delete_topic(&topic.name).await.expect("a topic can be deleted");
    }
    for group in client.list_groups(prefix).await.expect("groups can be listed") {
        // Its members are gone as soon as the broker sees their streams end.
        let deleted = async {
            while let Err(error) = client.delete_group(&group.name).await {
                assert_eq!(crate::history::audit::reason_of(&error), "GROUP_HAS_MEMBERS", "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the members to be gone", deleted).await;
    }
    assert!(client.list_topics(prefix, false).await.expect("topics can be listed").is_empty());
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}
