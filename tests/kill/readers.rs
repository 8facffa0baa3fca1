//! Members of consumer groups that read everything and commit what they read.

use crate::history::Event as Entry;
use crate::history::audit::recognized;
use crate::history::payload::Random;
use crate::world::World;
use millstream::client::consumer::RecordsEvent;
use millstream::client::{Client, ClientError, Consumer, ConsumerOptions, Event, OnExpired, PartitionOffset};
use millstream::types::{Offset, Position, TopicName, TopicPartition};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Groups, and members of each.
pub(crate) const GROUPS: u16 = 2;
const MEMBERS: u16 = 2;

/// Starts all members; they read until they are dropped.
pub(crate) fn start(world: &Arc<World>, client: &Client, topics: &[TopicName], random: &mut Random) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for group in 0..GROUPS {
        for _ in 0..MEMBERS {
            let (world, client, topics) = (Arc::clone(world), client.clone(), topics.to_vec());
            let random = Random::new(random.below(u64::MAX));
            tasks.spawn(async move {
                let mut member = Member { world, group, stream: 0, random, marked: BTreeMap::new() };
                loop {
                    // However a stream ends, it ends with its broker or with its place in the group: join again.
                    let Err(_) = member.read(&client, &topics).await;
                    member.world.next_life().await;
                }
            });
        }
    }
    tasks
}

struct Member {
    world: Arc<World>,
    group: u16,
    stream: u32,
    random: Random,
    /// What the next commit commits.
    marked: BTreeMap<u16, u64>,
}

impl Member {
    /// Reads until the stream breaks.
    async fn read(&mut self, client: &Client, topics: &[TopicName]) -> Result<std::convert::Infallible, ClientError> {
        self.stream = self.world.next_stream();
        self.marked.clear();
        self.world.recorder.record(Entry::Opened { stream: self.stream, group: self.group });
        let options = ConsumerOptions {
            group: Some(self.world.subject.groups[usize::from(self.group)].clone()),
            start: Position::Earliest,
            on_expired: OnExpired::Earliest,
            // Small, so that a member is seldom far ahead of its commits.
            message_bytes: 32 << 10,
            reconnect: false,
            ..ConsumerOptions::new(topics.to_vec())
        };
        let mut consumer = client.consumer(options).await?;
        loop {
            match consumer.next().await? {
                Event::Assigned { generation, partitions } => {
                    for PartitionOffset { partition, offset, .. } in partitions {
                        let log = self.log(&partition);
                        let (stream, offset) = (self.stream, offset.0);
                        self.world.recorder.record(Entry::Assigned { stream, log, generation, offset });
                    }
                }
                Event::Revoked { partitions, .. } => {
                    for partition in partitions {
                        let log = self.log(&partition);
                        // The client commits what was marked when it lets go; that is not answered to us.
                        self.marked.remove(&log);
                        self.world.recorder.record(Entry::Revoked { stream: self.stream, log });
                    }
                }
                Event::Records(records) => self.take(&mut consumer, &records).await?,
                _ => {}
            }
        }
    }

    async fn take(&mut self, consumer: &mut Consumer, records: &RecordsEvent) -> Result<(), ClientError> {
        let (log, offset) = (self.log(&records.partition), records.next_offset().0);
        let batches = records.batches.iter().flat_map(|batch| recognized(batch, self.world.payload)).collect();
        self.world.recorder.record(Entry::Polled { stream: self.stream, log, batches });
        self.world.recorder.record(Entry::CommitAsked { group: self.group, log, offset });
        consumer.mark(&records.partition, Offset(offset));
        self.marked.insert(log, offset);
        if self.random.below(3) > 0 {
            return Ok(());
        }
        let refused = consumer.commit_marked().await?;
        for refused in refused {
            self.marked.remove(&self.log(&refused.partition));
        }
        for (log, offset) in std::mem::take(&mut self.marked) {
            self.world.recorder.record(Entry::CommitDone { group: self.group, log, offset });
        }
        self.world.acked.notify_waiters();
        Ok(())
    }

    fn log(&self, partition: &TopicPartition) -> u16 {
        self.world.subject.log(partition).expect("a partition of a topic that was asked for")
    }
}
