//! Receiving records: a subscription that follows topics, and a reader of bounded ranges.
//!
//! ```text
//! Consumer --- Subscription (one Subscribe stream, credit, commits)      while the connection lasts
//!          \-- Polling (Fetch from known offsets)                         after a loss, without a group
//! PartitionReader (Fetch from A until B, the next one under way while the last is read)
//! ```
//!
//! A [`Consumer`] has no task of its own: it does its work inside [`Consumer::next`], so a reader that stops calling
//! stops granting credit, and the broker stops sending. Memory is bounded by the window, whatever the backlog.
//!
//! In a group, records count as done when they are committed: [`Consumer::mark`] what is done, then
//! [`Consumer::commit_marked`], or let [`ConsumerOptions::auto_commit`] do both. What was marked is also committed when
//! partitions are handed over. After a lost connection the consumer joins again and begins at what was committed, so
//! records may come twice.

mod batch;
mod credit;
mod event;
mod fetching;
mod polling;
mod progress;
mod reader;
mod subscription;

pub use batch::{ConsumedBatch, ConsumedRecord};
pub use event::{Event, RecordsEvent};
pub use reader::PartitionReader;

use super::backoff::Backoff;
use super::{Client, ClientError, PartitionOffset, PartitionOutcome};
use crate::limits;
use crate::types::{Offset, Position, TopicName, TopicPartition, TopicPattern};
use polling::Polling;
use progress::Progress;
use std::time::Duration;
use subscription::Subscription;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What to read, and how.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// 1 to 100 topics; beside patterns none are needed.
    pub topics: Vec<TopicName>,
    /// In a group: every topic that one of these matches, also those made later. At most 10.
    pub topic_patterns: Vec<TopicPattern>,
    /// Join this consumer group; `None` = read every partition asked for, and commit nothing.
    pub group: Option<String>,
    /// For people, in `group describe`.
    pub client_id: String,
    /// Keeps the place of this member in its group: whoever subscribes with the same id within the session timeout gets
    /// its partitions again, unnoticed by others. Another id for each process; two with one fence each other
    /// (`MEMBER_FENCED`). `None` = a member leaves with its connection.
    pub instance_id: Option<String>,
    /// How long the place is kept; only with an instance id. From a second to an hour.
    pub session_timeout: Duration,
    /// How the partitions of the group are shared, if most of its members ask for this.
    pub assignor: Assignor,
    /// In a group: commit by itself, this often at most. What [`Consumer::next`] returned counts as done when it is called
    /// again. `None` = nothing is committed but by [`Consumer::commit`] and [`Consumer::commit_marked`].
    pub auto_commit: Option<Duration>,
    /// Where to begin in partitions without a committed offset.
    pub start: Position,
    /// What to do when retention has deleted the place to begin.
    pub on_expired: OnExpired,
    /// Only records that match, as `docs/filters.md` says; in a group the same for all members. What is passed over is told
    /// with [`Event::Passed`], and by [`RecordsEvent::next_offset`].
    pub filter: Option<String>,
    /// Only these partitions of each topic, without a group; empty = all.
    pub partitions: Vec<u32>,
    /// Most bytes of records that are on their way or not taken yet.
    pub window_bytes: u64,
    /// Most records on their way or not taken yet.
    pub window_records: u64,
    /// About how large one message is, in bytes. At most 8 MiB.
    pub message_bytes: u32,
    /// Come back after a lost connection, and tell with [`Event::Disconnected`] and
    /// [`Event::Reconnected`]. Otherwise it is an error.
    pub reconnect: bool,
}

impl ConsumerOptions {
    /// The defaults for these topics: no group, from the end.
    pub fn new(topics: Vec<TopicName>) -> Self {
        Self {
            topics,
            topic_patterns: Vec::new(),
            group: None,
            client_id: concat!("millstream-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            instance_id: None,
            session_timeout: Duration::from_millis(limits::SESSION_TIMEOUT_MS_DEFAULT),
            assignor: Assignor::default(),
            auto_commit: None,
            start: Position::Latest,
            on_expired: OnExpired::default(),
            filter: None,
            partitions: Vec::new(),
            window_bytes: 8 << 20,
            window_records: 4 << 20,
            message_bytes: 256 << 10,
            reconnect: true,
        }
    }
}

/// What to do when retention has deleted the place to begin.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum OnExpired {
    /// End with `OFFSET_OUT_OF_RANGE`: nobody jumps over records without having said so.
    #[default]
    Fail,
    /// Go on at the first retained record.
    Earliest,
    /// Go on at the end.
    Latest,
}

/// How the partitions of a group are shared. A group goes by what most of its members ask for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Evenly over all topics together, moving as few as possible.
    #[default]
    Balanced,
    /// Topic by topic in ranges: partitions of the same number go to the same member.
    Range,
}

impl std::fmt::Display for Assignor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Balanced => "balanced",
            Self::Range => "range",
        })
    }
}

/// A reader of topics, alone or as a member of a group.
///
/// ```no_run
/// use millstream::client::{Client, ConsumerOptions, Event};
/// use millstream::types::TopicName;
///
/// # async fn example(topic: TopicName) -> Result<(), millstream::client::ClientError> {
/// let client = Client::connect("127.0.0.1:7171").await?;
/// let options = ConsumerOptions { group: Some("billing".to_owned()), ..ConsumerOptions::new(vec![topic]) };
/// let mut consumer = client.consumer(options).await?;
/// loop {
///     if let Event::Records(records) = consumer.next().await? {
///         for record in records.batches.iter().flat_map(|batch| batch.records()) {
///             println!("{}: {:?}", record.offset, record.value);
///         }
///         consumer.mark(&records.partition, records.next_offset());
///         consumer.commit_marked().await?;
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    options: ConsumerOptions,
    source: Source,
    progress: Progress,
    /// A request of the broker that the caller has seen and we have not answered.
    unanswered: Option<Unanswered>,
    /// With automatic commits: the records that the caller has and may still work on.
    lent: Option<(TopicPartition, Offset)>,
    /// And when what is done is committed.
    commit_at: Option<Instant>,
    backoff: Backoff,
}

/// What the broker waits for us to say.
#[derive(Debug, Clone, Copy)]
enum Unanswered {
    /// That the partitions revoked in this generation are given up, behind a last commit.
    Revoked(u64),
    /// That what came before the seek of this generation is dropped.
    Sought(u64),
}

/// Where records come from now.
#[derive(Debug)]
enum Source {
    Subscribed(Box<Subscription>),
    Polling(Box<Polling>),
    /// A task that waits and connects; see [`reconnect`].
    Lost(JoinSet<Result<Source, ClientError>>),
}

impl Client {
    /// Subscribes.
    pub async fn consumer(&self, options: ConsumerOptions) -> Result<Consumer, ClientError> {
        let subscription = Subscription::open(self, &options).await?;
        Ok(Consumer {
            client: self.clone(),
            options,
            source: Source::Subscribed(Box::new(subscription)),
            progress: Progress::default(),
            unanswered: None,
            lent: None,
            commit_at: None,
            backoff: Backoff::new(),
        })
    }
}

impl Consumer {
    /// The next thing that happened. Calling it says that what the last call returned has been dealt with: its
    /// credit goes back to the broker, and revoked partitions are committed as marked and released.
    ///
    /// May be dropped at any await and called again; nothing is lost.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        self.mark_lent();
        loop {
            let was_lost = matches!(self.source, Source::Lost(_));
            match self.next_of_source().await {
                Ok(event) => {
                    self.backoff.reset();
                    self.observe(&event);
                    return Ok(event);
                }
                Err(lost) if self.options.reconnect && helps_to_reconnect(&lost) => {
                    self.lose(&lost);
                    if !was_lost {
                        return Ok(Event::Disconnected { lost });
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn next_of_source(&mut self) -> Result<Event, ClientError> {
        match &mut self.source {
            Source::Subscribed(subscription) => {
                match self.unanswered.take() {
                    Some(Unanswered::Revoked(generation)) => {
                        subscription.release(self.progress.take_marked(), generation)?;
                        self.progress.forget_left();
                    }
                    Some(Unanswered::Sought(generation)) => {
                        self.progress.forget_left();
                        subscription.release(Vec::new(), generation)?;
                    }
                    None => {}
                }
                loop {
                    if self.commit_at.is_some_and(|at| at <= Instant::now()) {
                        self.commit_at = None;
                        subscription.commit_unanswered(self.progress.take_marked())?;
                    }
                    tokio::select! {
                        biased;
                        () = sleep_until(self.commit_at) => {}
                        event = subscription.next(&self.options) => return event,
                    }
                }
            }
            Source::Polling(polling) => polling.next(&self.client).await,
            Source::Lost(reconnecting) => {
                let joined = reconnecting.join_next().await;
                let joined = joined.and_then(Result::ok);
                self.source = joined.ok_or(ClientError::Closed)??;
                Ok(Event::Reconnected)
            }
        }
    }

    /// With automatic commits: the caller is done with what it was given last.
    fn mark_lent(&mut self) {
        let Some(((partition, next_offset), interval)) = self.lent.take().zip(self.options.auto_commit) else { return };
        self.progress.mark(&partition, next_offset);
        self.commit_at.get_or_insert_with(|| Instant::now() + interval);
    }

    /// Says that everything of a partition before `next_offset` is done; [`Consumer::commit_marked`] commits it.
    pub fn mark(&mut self, partition: &TopicPartition, next_offset: Offset) {
        self.progress.mark(partition, next_offset);
    }

    /// Commits what was marked since the last commit, and waits until it is durable. What was refused: empty if
    /// nothing was. Records that arrive meanwhile are kept for [`Consumer::next`].
    pub async fn commit_marked(&mut self) -> Result<Vec<PartitionOutcome>, ClientError> {
        let offsets = self.progress.take_marked();
        self.commit(offsets).await
    }

    /// Commits offsets, as [`Consumer::commit_marked`] does.
    pub async fn commit(&mut self, offsets: Vec<PartitionOffset>) -> Result<Vec<PartitionOutcome>, ClientError> {
        let committed = match &mut self.source {
            _ if offsets.is_empty() => Ok(Vec::new()),
            Source::Subscribed(subscription) => subscription.commit(offsets).await,
            Source::Polling(_) => Err(ClientError::BadAnswer { what: "a consumer without a group commits nothing" }),
            Source::Lost(_) => Err(ClientError::ConnectionLost { cause: "not connected again yet".to_owned() }),
        };
        if let (Err(lost), Source::Subscribed(_)) = (&committed, &self.source)
            && self.options.reconnect
            && helps_to_reconnect(lost)
        {
            // What arrived and was not handed out can no longer be committed, and comes again: it is dropped here.
            self.lose(lost);
        }
        committed
    }

    /// Where this reader is: the next offset of every partition it reads.
    pub fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        self.progress.positions()
    }

    /// The id that the broker gave this member; empty without a group.
    pub fn member_id(&self) -> &str {
        match &self.source {
            Source::Subscribed(subscription) => subscription.member_id(),
            Source::Polling(_) | Source::Lost(_) => "",
        }
    }

    fn observe(&mut self, event: &Event) {
        match event {
            Event::Assigned { partitions, .. } => self.progress.assign(partitions),
            Event::Records(records) => self.come_to(&records.partition, records.next_offset()),
            Event::Passed { partition, next_offset, .. } => self.come_to(partition, *next_offset),
            // Its connection ends soon: what is done is committed with the next call.
            Event::Draining => self.commit_at = self.commit_at.map(|_| Instant::now()),
            Event::Revoked { generation, partitions } => {
                self.progress.revoke(partitions);
                self.unanswered = Some(Unanswered::Revoked(*generation));
            }
            Event::Seek { generation, partitions } => {
                self.progress.seek(partitions);
                self.unanswered = Some(Unanswered::Sought(*generation));
            }
            Event::Reconnected if self.options.group.is_some() => self.progress = Progress::default(),
            Event::Paused
            | Event::Resumed
            | Event::Heartbeat { .. }
            | Event::Disconnected { .. }
            | Event::Reconnected => {}
        }
    }

    /// Everything before `next_offset` is in the caller's hands.
    fn come_to(&mut self, partition: &TopicPartition, next_offset: Offset) {
        self.progress.advance(partition, next_offset);
        if self.options.auto_commit.is_some() && self.options.group.is_some() {
            self.lent = Some((partition.clone(), next_offset));
        }
    }

    /// Gives the source up and begins to look for a new one, after a while.
    fn lose(&mut self, lost: &ClientError) {
        self.unanswered = None;
        (self.lent, self.commit_at) = (None, None);
        let wait = self.backoff.next_wait(lost.retry_after());
        let mut task = JoinSet::new();
        task.spawn(reconnect(self.client.clone(), self.options.clone(), self.progress.positions(), wait));
        self.source = Source::Lost(task);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Besides what may simply be tried again: a member that was removed from its group, because it was silent for too
/// long, may join as a new one.
fn helps_to_reconnect(lost: &ClientError) -> bool {
    let reason = lost.refusal().map(|refusal| refusal.reason.as_str());
    lost.is_retryable() || reason == Some("MEMBER_REMOVED")
}

/// A new source after the old one was lost: a group is joined again and its committed offsets count; without a group
/// we know better than the broker where we were.
async fn reconnect(
    client: Client,
    options: ConsumerOptions,
    positions: Vec<(TopicPartition, Offset)>,
    wait: Duration,
) -> Result<Source, ClientError> {
    tokio::time::sleep(wait).await;
    if options.group.is_some() || positions.is_empty() {
        return Ok(Source::Subscribed(Box::new(Subscription::open(&client, &options).await?)));
    }
    let mut polling = Polling::new(positions, options.on_expired, options.filter);
    polling.probe(&client).await?;
    Ok(Source::Polling(Box::new(polling)))
}

#[cfg(test)]
pub(crate) use batch::tests::batch as test_batch;

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
