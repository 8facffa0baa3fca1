//! The coordinators, each over its journal in an internal topic: consumer groups, identities of producers, queues,
//! schedules.
//!
//! One whose journal cannot be read is offline, with its reason, until the journal is repaired and the broker restarted:
//! groups must not begin at their first offsets again because a byte of `__groups` is damaged. All else is served.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::queues::dead_letters::Undertaker;
use crate::broker::schedules::dispatcher::{Dispatcher, DispatcherParts};
use crate::broker::schedules::log::{PartitionLog, Unreadable};
use crate::broker::topic_table::{Topic, TopicTable};
use crate::broker::upkeep::disk_watch::DiskWatch;
use crate::clock::SharedClock;
use crate::group::GroupCoordinator;
use crate::metrics::CoordinatorReading;
use crate::partition::PartitionJournal;
use crate::partition::journal::JournalEntry;
use crate::producer::ProducerRegistry;
use crate::queue::QueueCoordinator;
use crate::schedule::ScheduleCoordinator;
use crate::types::{Cleanup, TopicName, TopicPartition};
use std::sync::Arc;

const GROUPS_TOPIC: &str = "__groups";
const PRODUCERS_TOPIC: &str = "__producers";
pub(super) const QUEUES_TOPIC: &str = "__queues";
const SCHEDULES_TOPIC: &str = "__schedules";

/// The internal topics that coordinators keep their state in.
pub(super) const TOPICS: [(&str, Cleanup); 4] = [
    (GROUPS_TOPIC, Cleanup::Delete),
    (PRODUCERS_TOPIC, Cleanup::Delete),
    (QUEUES_TOPIC, Cleanup::Delete),
    // Rewritten by compaction in the background, not at once by its owner: it may be as large as all that is scheduled.
    (SCHEDULES_TOPIC, Cleanup::Compact),
];

/// A journal with more entries than this, and mostly out of date, is rewritten when the broker starts.
const JOURNAL_ENTRIES_KEPT: u64 = 10_000;

/// Those of one broker.
#[derive(Debug)]
pub(super) struct Coordinators {
    groups: Result<GroupCoordinator, BrokerError>,
    producers: Result<ProducerRegistry, BrokerError>,
    queues: Result<QueueCoordinator, BrokerError>,
    schedules: Result<(ScheduleCoordinator, PartitionLog), BrokerError>,
    /// Held for its drop, which ends its task.
    _undertaker: Option<Undertaker>,
    dispatcher: Option<Dispatcher>,
}

impl Coordinators {
    /// Replays every journal.
    pub(super) async fn start(clock: &SharedClock, topics: &Arc<TopicTable>, disk: &Arc<DiskWatch>) -> Self {
        let groups = start_groups(clock, topics).await;
        let producers = start_producers(clock, topics).await;
        let queues = start_queues(clock, topics).await;
        let schedules = start_schedules(clock, topics).await;
        let undertaker = queues.as_ref().ok().map(|queues| Undertaker::start(queues.clone(), Arc::clone(topics)));
        let dispatcher = schedules.as_ref().ok().map(|(schedules, log)| {
            let (schedules, log, topics) = (schedules.clone(), log.clone(), Arc::clone(topics));
            Dispatcher::start(DispatcherParts {
                schedules,
                log,
                topics,
                disk: Arc::clone(disk),
                clock: Arc::clone(clock),
            })
        });
        Self {
            groups: groups.map_err(|cause| offline("consumer groups", GROUPS_TOPIC, cause)),
            producers: producers.map_err(|cause| offline("idempotent producers", PRODUCERS_TOPIC, cause)),
            queues: queues.map_err(|cause| offline("queues", QUEUES_TOPIC, cause)),
            schedules: schedules.map_err(|cause| offline("schedules", SCHEDULES_TOPIC, cause)),
            _undertaker: undertaker,
            dispatcher,
        }
    }

    /// The schedules, and the log they stand in.
    pub(super) fn schedules(&self) -> Result<&(ScheduleCoordinator, PartitionLog), BrokerError> {
        self.schedules.as_ref().map_err(Clone::clone)
    }

    /// Ends what works on its own, before the logs are closed.
    pub(super) async fn stop(&self) {
        if let Some(dispatcher) = &self.dispatcher {
            dispatcher.stop().await;
        }
    }
}

impl Broker {
    /// The consumer groups.
    pub(super) fn groups(&self) -> Result<&GroupCoordinator, BrokerError> {
        self.coordinators.groups.as_ref().map_err(Clone::clone)
    }

    /// The identities of producers.
    pub(super) fn producers(&self) -> Result<&ProducerRegistry, BrokerError> {
        self.coordinators.producers.as_ref().map_err(Clone::clone)
    }

    /// The queues.
    pub(super) fn queue_coordinator(&self) -> Result<&QueueCoordinator, BrokerError> {
        self.coordinators.queues.as_ref().map_err(Clone::clone)
    }

    /// Tells groups and queues which topics there are now. Those that are offline learn it when they start.
    pub(super) async fn tell_of_topics(&self) -> Result<(), BrokerError> {
        if let Ok(groups) = &self.coordinators.groups {
            groups.topics_changed(self.topics.snapshot()).await?;
        }
        if let Ok(queues) = &self.coordinators.queues {
            queues.topics_changed().await?;
        }
        Ok(())
    }

    /// Which of them serve.
    pub(super) fn coordinator_readings(&self) -> Vec<CoordinatorReading> {
        let Coordinators { groups, producers, queues, schedules, .. } = &self.coordinators;
        let online = [
            (GROUPS_TOPIC, groups.is_ok()),
            (PRODUCERS_TOPIC, producers.is_ok()),
            (QUEUES_TOPIC, queues.is_ok()),
            (SCHEDULES_TOPIC, schedules.is_ok()),
        ];
        online.map(|(journal, is_online)| CoordinatorReading { journal, is_online }).into()
    }
}

fn offline(what: &'static str, journal: &str, cause: BrokerError) -> BrokerError {
    tracing::error!(%what, journal, %cause, "a coordinator is offline; log repair mends its journal");
    let at = TopicPartition { topic: TopicName::new(journal).expect("a valid name"), partition: 0 };
    BrokerError::CoordinatorOffline { what, at, cause: Box::new(cause) }
}

fn journal_in(name: &str, topics: &TopicTable) -> Result<Arc<PartitionJournal>, BrokerError> {
    let topic = internal_topic(name, topics)?;
    Ok(Arc::new(PartitionJournal::new(name, topic.partition(0)?.clone())))
}

fn internal_topic(name: &str, topics: &TopicTable) -> Result<Arc<Topic>, BrokerError> {
    Ok(topics.get(&TopicName::new(name)?).expect("it was added before the logs were opened"))
}

async fn replay(journal: &PartitionJournal) -> Result<Vec<JournalEntry>, BrokerError> {
    journal.replay().await.map_err(BrokerError::Files)
}

/// Replays the groups' journal, starts their coordinator, and rewrites a journal that is mostly out of date.
async fn start_groups(clock: &SharedClock, topics: &TopicTable) -> Result<GroupCoordinator, BrokerError> {
    let journal = journal_in(GROUPS_TOPIC, topics)?;
    let replayed = replay(&journal).await?;
    let groups = GroupCoordinator::start(Arc::clone(&journal) as _, replayed, Arc::clone(clock), topics.snapshot())?;
    rewrite_if_long(&journal, groups.snapshot().await?).await;
    Ok(groups)
}

/// The same for the producers' journal.
async fn start_producers(clock: &SharedClock, topics: &TopicTable) -> Result<ProducerRegistry, BrokerError> {
    let journal = journal_in(PRODUCERS_TOPIC, topics)?;
    let replayed = replay(&journal).await?;
    let producers = ProducerRegistry::start(Arc::clone(&journal) as _, &replayed, Arc::clone(clock))?;
    rewrite_if_long(&journal, producers.snapshot()).await;
    Ok(producers)
}

/// The same for the queues' journal, which their coordinator also cuts while it runs.
async fn start_queues(clock: &SharedClock, topics: &Arc<TopicTable>) -> Result<QueueCoordinator, BrokerError> {
    let journal = journal_in(QUEUES_TOPIC, topics)?;
    let replayed = replay(&journal).await?;
    let logs = Arc::clone(topics);
    let queues = QueueCoordinator::start(Arc::clone(&journal) as _, replayed, Arc::clone(clock), logs)?;
    rewrite_if_long(&journal, queues.snapshot().await?).await;
    Ok(queues)
}

/// Replays the log of schedules, which compaction rewrites.
async fn start_schedules(
    clock: &SharedClock,
    topics: &TopicTable,
) -> Result<(ScheduleCoordinator, PartitionLog), BrokerError> {
    let log = PartitionLog(internal_topic(SCHEDULES_TOPIC, topics)?.partition(0)?.clone());
    let replayed = log.replay().await.map_err(|cause| match cause {
        Unreadable::Storage(error) => BrokerError::Files(error),
        Unreadable::Entry(error) => BrokerError::Schedule(error),
    })?;
    Ok((ScheduleCoordinator::start(Arc::new(log.clone()), replayed, Arc::clone(clock)), log))
}

/// Nobody else calls yet, so the snapshot is the whole state.
async fn rewrite_if_long(journal: &PartitionJournal, snapshot: Vec<JournalEntry>) {
    let entries = journal.len();
    if entries > JOURNAL_ENTRIES_KEPT
        && (snapshot.len() as u64) < entries / 2
        && let Err(error) = journal.replace(snapshot).await
    {
        tracing::warn!(%error, "a journal was not rewritten; it is at the next start");
    }
}
