//! A consumer group as the tests see it: what its members saw, and how far they committed.

use crate::broker::connect;
use crate::ledger::{LogLines, line_of};
use millstream::client::consumer::RecordsEvent;
use millstream::client::{Client, ConsumedBatch, Consumer, ConsumerOptions, Event};
use millstream::types::{Position, TopicName};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// A group that makes no progress for this long hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// What all members of one group did together.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    topic: TopicName,
    seen: Mutex<Seen>,
    moved: watch::Sender<u64>,
}

/// What was seen of each partition.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By partition and offset: the number of the line.
    lines: BTreeMap<u32, BTreeMap<u64, u32>>,
    /// Committed, and answered, by partition.
    committed: BTreeMap<u32, u64>,
    /// Records that came to each member.
    by_member: BTreeMap<String, u64>,
    /// Records that came more than once.
    pub(crate) repeats: u64,
}

impl Seen {
    /// How many records came to a member.
    pub(crate) fn by(&self, member: &str) -> u64 {
        self.by_member.get(member).copied().unwrap_or_default()
    }

    fn has_committed(&self, ends: &[u64]) -> bool {
        (0..).zip(ends).all(|(partition, end)| self.committed.get(&partition).copied().unwrap_or_default() == *end)
    }
}

impl Group {
    pub(crate) fn new(name: &str, topic: &TopicName) -> Arc<Self> {
        let (seen, moved) = (Mutex::default(), watch::Sender::new(0));
        Arc::new(Self { name: name.to_owned(), topic: topic.clone(), seen, moved })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads as a member, and commits what it read, until the task is dropped.
    pub(crate) async fn read_as(self: Arc<Self>, member: String, client: Client) {
        let options = ConsumerOptions {
            group: Some(self.name.clone()),
            client_id: member.clone(),
            start: Position::Earliest,
            // Small enough that a member is never ahead of its commits by much.
            message_bytes: 16 << 10,
            ..ConsumerOptions::new(vec![self.topic.clone()])
        };
        let mut consumer = client.consumer(options).await.expect("the group can be joined");
        loop {
            // Lost connections are the consumer's own business; it joins again.
            if let Event::Records(records) = consumer.next().await.expect("nothing but lost connections goes wrong") {
                self.note(&member, &records);
                self.commit(&mut consumer, &records).await;
                self.moved.send_modify(|count| *count += 1);
            }
        }
    }

    fn note(&self, member: &str, records: &RecordsEvent) {
        let seen = &mut *self.seen();
        let lines = seen.lines.entry(records.partition.partition).or_default();
        for record in records.batches.iter().flat_map(ConsumedBatch::records) {
            let line = line_of(&record.headers).expect("every record is a line that was sent");
            if let Some(before) = lines.insert(record.offset.0, line) {
                assert_eq!(before, line, "the record at {}/{} has changed", record.partition, record.offset);
                seen.repeats += 1;
            }
        }
        *seen.by_member.entry(member.to_owned()).or_default() += records.record_count();
    }

    async fn commit(&self, consumer: &mut Consumer, records: &RecordsEvent) {
        consumer.mark(&records.partition, records.next_offset());
        // A commit that was lost with its connection, or refused because the partition has moved on, is no commit:
        // the records come again.
        if consumer.commit_marked().await.is_ok_and(|refused| refused.is_empty()) {
            let seen = &mut *self.seen();
            let committed = seen.committed.entry(records.partition.partition).or_default();
            *committed = records.next_offset().0.max(*committed);
        }
    }

    /// Waits until `holds`.
    pub(crate) async fn wait_until(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let mut moved = self.moved.subscribe();
        while !holds(&self.seen()) {
            let more = tokio::time::timeout(PATIENCE, moved.changed()).await;
            more.unwrap_or_else(|_| panic!("group {} does not get as far as {what}", self.name)).expect("it is ours");
        }
    }

    /// Waits until a member has partitions.
    pub(crate) async fn wait_until_it_has(&self, client: &Client, member: &str) {
        let has = async || {
            let described = client.describe_group(&self.name).await.expect("the group is there");
            described.members.iter().any(|one| one.client_id == member && !one.partitions.is_empty())
        };
        let waited = tokio::time::timeout(PATIENCE, async {
            while !has().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{member} does not come back to group {}", self.name));
    }

    /// Waits until the group has committed everything up to `ends`.
    pub(crate) async fn finished(&self, ends: &[u64]) {
        self.wait_until("the end", |seen| seen.has_committed(ends)).await;
    }

    /// Checks that the group saw every record of the log, and nothing else.
    #[track_caller]
    pub(crate) fn check_saw_all(&self, log: &LogLines) {
        let seen = self.seen();
        for (partition, lines) in (0..).zip(log) {
            let expected = (0..).zip(lines.iter().copied()).collect::<BTreeMap<u64, u32>>();
            let found = seen.lines.get(&partition).cloned().unwrap_or_default();
            assert!(found == expected, "group {} saw other records than are in partition {partition}", self.name);
        }
    }
}

/// A member that can be made to vanish. It lives in a runtime, on threads and a connection of its own; when that goes,
/// its socket is closed by the kernel and nothing is said, which is all a broker sees of a client's `kill -9`.
#[derive(Debug)]
pub(crate) struct DoomedMember(Runtime);

impl DoomedMember {
    pub(crate) fn start(group: &Arc<Group>, member: &str, address: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads can be made");
        let (group, member) = (Arc::clone(group), member.to_owned());
        runtime.spawn(async move { group.read_as(member, connect(address).await).await });
        Self(runtime)
    }

    pub(crate) fn vanish(self) {
        self.0.shutdown_background();
    }
}
