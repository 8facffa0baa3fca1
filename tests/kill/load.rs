//! Everything that goes on in a world while things go wrong: producers, schedules, groups, queues, redrives, deletions,
//! topics that come and go; and how all of it is read and judged, and ended.

use crate::history::audit::{Subject, audit, reason_of, topic_name};
use crate::history::payload::Random;
use crate::history::{Event, Payload, Rule};
use crate::workers::{Leases, Queues};
use crate::world::{PATIENCE, World};
use crate::{changes, producers, readers, redrives, schedules, workers};
use millstream::client::Client;
use millstream::client::admin::TopicSettings;
use millstream::types::{Cleanup, Durability, TopicPartition};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const SEGMENT_BYTES: u64 = 1 << 20;
const RETENTION_BYTES: u64 = 3 << 20;

/// Creates the topics of a history, and says in it what it is about. Everybody is a client of `client` who is not given
/// another one.
pub(crate) async fn prepare(client: &Client, prefix: String, seed: u64) -> (Arc<World>, Vec<String>) {
    let small = TopicSettings { segment_bytes: Some(SEGMENT_BYTES), ..TopicSettings::default() };
    let written = TopicSettings { durability: Some(Durability::Written), ..small.clone() };
    let trimmed = TopicSettings { retention_bytes: Some(RETENTION_BYTES), ..small.clone() };
    let compacted = TopicSettings { cleanup: Some(Cleanup::Compact), ..small.clone() };
    let kinds = [("synced", 3, small), ("written", 2, written), ("trimmed", 2, trimmed), ("compacted", 2, compacted)];
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
    let world = World::new(client.clone(), subject, Payload { seed, large_each: 97 });
    for event in events {
        world.recorder.record(event);
    }
    (Arc::new(world), names)
}

/// What is under way.
#[derive(Debug)]
pub(crate) struct Load {
    world: Arc<World>,
    queues: Queues,
    senders: JoinSet<()>,
    adding: JoinSet<()>,
    readers: JoinSet<()>,
    changing: JoinSet<()>,
}

impl Load {
    /// Starts all of it. Whoever holds a stream open, of a queue or as a member of a group, is a client of `streaming`.
    pub(crate) async fn start(
        world: &Arc<World>,
        topics: &[String],
        streaming: &Client,
        leases: Leases,
        random: &mut Random,
    ) -> Self {
        let (world, client) = (Arc::clone(world), world.client.clone());
        let queues = workers::start(&world, streaming, topics, leases, random).await;
        let senders = producers::start(&world, topics, random).await;
        let adding = schedules::start(&world, topics, random);
        let names: Vec<_> = topics.iter().map(|topic| topic_name(topic)).collect();
        let readers = readers::start(&world, streaming, &names, random);
        let mut changing = JoinSet::new();
        let mut random = || Random::new(random.below(u64::MAX));
        changing.spawn(changes::delete_records(Arc::clone(&world), names[2].clone(), random()));
        changing.spawn(changes::compact(Arc::clone(&world), names[3].clone(), random()));
        changing.spawn(changes::change_topics(Arc::clone(&world), random()));
        changing.spawn(redrives::redrive(Arc::clone(&world), client, random()));
        Self { world, queues, senders, adding, readers, changing }
    }

    /// Starts queues with their workers, schedules and redrives; nobody sends, and there are no groups.
    #[allow(dead_code, reason = "test binaries share this file, and only that of the full disk needs it")]
    pub(crate) async fn without_producers(
        world: &Arc<World>,
        topics: &[String],
        streaming: &Client,
        leases: Leases,
        random: &mut Random,
    ) -> Self {
        let (world, client) = (Arc::clone(world), world.client.clone());
        let queues = workers::start(&world, streaming, topics, leases, random).await;
        let adding = schedules::start(&world, topics, random);
        let mut changing = JoinSet::new();
        changing.spawn(redrives::redrive(Arc::clone(&world), client, Random::new(random.below(u64::MAX))));
        Self { world, queues, senders: JoinSet::new(), adding, readers: JoinSet::new(), changing }
    }

    /// The names of its queues.
    #[allow(dead_code, reason = "test binaries share this file, and only that of the full disk needs it")]
    pub(crate) fn queue_names(&self) -> Vec<String> {
        self.queues.names()
    }

    /// Reads everything, while nothing is sent or changed, and judges.
    pub(crate) async fn audit(&self, client: &Client, context: &str) {
        let world = &self.world;
        let closed = within("the load to pause", world.gate.write()).await;
        within("the last redrive", redrives::until_none_is_at_work(client, world)).await;
        within("an audit", audit(client, &world.subject, world.payload, &world.recorder)).await;
        within("an audit of the queues", self.queues.audit(client, world)).await;
        world.check(context);
        drop(closed);
    }

    /// Lets whoever sends or changes something come to an end. What waits and what is queued goes on.
    pub(crate) async fn settle(&mut self) {
        self.world.close();
        for (what, tasks) in [
            ("the producers to deliver everything", &mut self.senders),
            ("the last changes", &mut self.changing),
            ("the last schedules", &mut self.adding),
        ] {
            within(what, std::mem::take(tasks).join_all()).await;
        }
        self.readers.abort_all();
    }

    /// After that: waits until nothing is left to do, reads everything once more, and judges the whole.
    pub(crate) async fn finish(self, client: &Client, context: &str) {
        within("the schedules to be delivered", schedules::drain(client, &self.world)).await;
        self.audit(client, context).await;
        let Self { world, queues, .. } = self;
        within("the queues to be done", queues.drain(client, &world)).await;
        world.recorder.record(Event::Finished);
        world.check(context);
    }
}

/// Deletes what the history made, and sees that it is gone.
pub(crate) async fn clean_up(world: &World) {
    let client: &Client = &world.client;
    let prefix = &world.subject.prefix;
    for topic in client.list_topics(prefix, false).await.expect("topics can be listed") {
        client.delete_topic(&topic.name).await.expect("a topic can be deleted");
    }
    for group in client.list_groups(prefix).await.expect("groups can be listed") {
        // Its members are gone as soon as the broker sees their streams end.
        let deleted = async {
            while let Err(error) = client.delete_group(&group.name).await {
                assert_eq!(reason_of(&error), "GROUP_HAS_MEMBERS", "{error}");
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
