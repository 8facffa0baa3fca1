//! All queues of the broker: finds the one a request is about, creates and deletes queues, replays and snapshots them.
//!
//! Like the state of one queue it decides on `&self` and changes by [`Queues::apply`] alone.

use super::describe::{DyingMessage, QueueDescription};
use super::error::QueueError;
use super::event::{Decision, Event, Now, Settlement, StoredProgress, push_offset};
use super::ids::{PartitionKey, Place, QueueId, QueueName, ReceiverId, Run};
use super::journal_entries::{decode, encode};
use super::letters::Letters;
use super::logs::Logs;
use super::policy::{QueueConfig, QueuePolicy, QueueStart};
use super::progress::MessageState;
use super::state::QueueState;
use crate::filter::Filter;
use crate::limits;
use crate::partition::journal::JournalEntry;
use crate::types::{Offset, TopicName, TopicPattern};
use std::collections::{BTreeMap, BTreeSet};

/// A queue is wanted.
#[derive(Debug, Clone)]
pub struct CreateQueue {
    /// What it is to be called.
    pub name: QueueName,
    /// Whose records are its messages.
    pub topics: Vec<TopicName>,
    /// And those of all topics that one of these matches.
    pub patterns: Vec<TopicPattern>,
    /// Where it begins, in words.
    pub start: QueueStart,
    /// And in each partition that there is.
    pub frontiers: Vec<(PartitionKey, TopicName, Offset)>,
    /// Which records are its messages.
    pub filter: Option<Filter>,
    /// How it delivers; checked.
    pub policy: QueuePolicy,
}

/// The state of every queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Queues {
    pub(super) by_name: BTreeMap<QueueName, QueueState>,
    pub(super) letters: Letters,
    run: Run,
    next_queue: u64,
}

impl Queues {
    /// The state that the journal's entries, oldest first, have made. Nobody receives, and nothing is leased.
    pub(super) fn replay(entries: impl IntoIterator<Item = JournalEntry>) -> Result<Self, QueueError> {
        let mut queues = Self::default();
        for entry in entries {
            queues.apply(&decode(&entry)?);
        }
        Ok(queues)
    }

    /// The whole durable state as entries; replaying them, and nothing else, makes it again.
    pub(super) fn snapshot(&self) -> Vec<JournalEntry> {
        let run = Event::RunBegun { run: self.run, next_queue: self.next_queue };
        let queues = self.by_name.values().flat_map(|queue| {
            let set = Event::QueueSet { config: queue.config.clone() };
            let partitions = queue.partitions.iter().map(|(at, progress)| Event::PartitionSet {
                queue: queue.config.name.clone(),
                at: *at,
                stored: progress.stored(),
            });
            std::iter::once(set).chain(partitions)
        });
        std::iter::once(run).chain(queues).chain(self.letters.events()).filter_map(|event| encode(&event)).collect()
    }

    /// Carries out one event.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::RunBegun { run, next_queue } => {
                self.run = self.run.max(*run);
                self.next_queue = self.next_queue.max(*next_queue);
                self.by_name.values_mut().for_each(QueueState::begin_run);
            }
            Event::QueueSet { config } => {
                self.next_queue = self.next_queue.max(config.id.0.saturating_add(1));
                let queue = self.by_name.entry(config.name.clone());
                let queue = queue.or_insert_with(|| QueueState::new(config.clone()));
                queue.apply(event);
            }
            Event::QueueDeleted { queue } => {
                self.by_name.remove(queue);
            }
            Event::Letters(event) => self.letters.apply(event),
            Event::PartitionSet { queue, .. }
            | Event::PartitionDropped { queue, .. }
            | Event::Delivered { queue, .. }
            | Event::Settled { queue, .. }
            | Event::Reserved { queue, .. }
            | Event::Returned { queue, .. }
            | Event::Learned { queue, .. }
            | Event::PutOff { queue, .. }
            | Event::Extended { queue, .. }
            | Event::Rescheduled { queue, .. }
            | Event::Freed { queue, .. }
            | Event::Ripened { queue, .. }
            | Event::BreakerOpened { queue, .. }
            | Event::BreakerProbed { queue }
            | Event::BreakerClosed { queue }
            | Event::ReceiverOpened { queue, .. }
            | Event::ReceiverWidened { queue, .. }
            | Event::ReceiverClosed { queue, .. } => {
                if let Some(state) = self.by_name.get_mut(queue) {
                    state.apply(event);
                }
            }
        }
    }

    /// A new start: leases of the last one are over, backoff goes on, and what has used up its attempts is given up.
    pub(super) fn decide_start(&self, logs: &dyn Logs, now: Now) -> Vec<Event> {
        let mut events = self.decide_topics_changed(logs);
        events.extend(self.letters.decide_start(logs));
        for queue in self.by_name.values() {
            let mut waiting: BTreeMap<PartitionKey, Settlement> = BTreeMap::new();
            let mut over = Vec::new();
            for (at, progress) in &queue.partitions {
                for (offset, message) in &progress.open {
                    match &message.state {
                        MessageState::Waiting { until } => {
                            // The clock may have been set since; nothing waits longer than the policy can ask for.
                            let left_ms = u64::try_from(until.wall_ms.saturating_sub(now.wall_ms)).unwrap_or(0);
                            let until = now.after(left_ms.min(limits::RETRY_MS_MAX));
                            waiting.entry(*at).or_default().failed.push((*offset, until));
                        }
                        MessageState::Available if message.attempts > 0 => {
                            over.push(Place { at: *at, offset: *offset });
                        }
                        _ => {}
                    }
                }
            }
            let name = &queue.config.name;
            let again = |(at, settlement)| Event::Settled { queue: name.clone(), at, settlement };
            events.extend(waiting.into_iter().map(again));
            queue.free(&over, &mut events);
        }
        // At the end: nothing of the above has happened in the new run.
        // A journal may hold any number; no broker starts so often that they are used up.
        events.push(Event::RunBegun { run: Run(self.run.0.saturating_add(1)), next_queue: self.next_queue });
        events
    }

    /// Partitions that are new are taken up from their first record; what belongs to a deleted topic is forgotten.
    pub(super) fn decide_topics_changed(&self, logs: &dyn Logs) -> Vec<Event> {
        let mut events = Vec::new();
        for queue in self.by_name.values() {
            let mut wanted: BTreeMap<PartitionKey, TopicName> = BTreeMap::new();
            let matching = queue.config.patterns.iter().flat_map(|pattern| logs.matching(pattern));
            let matching = matching.filter(|topic| queue.config.covers(topic));
            for topic in queue.config.topics.iter().cloned().chain(matching) {
                let Some((topic_id, partitions)) = logs.topic(&topic) else { continue };
                wanted.extend((0..partitions).map(|partition| (PartitionKey { topic_id, partition }, topic.clone())));
            }
            let name = &queue.config.name;
            let gone = queue.partitions.keys().filter(|at| !wanted.contains_key(*at));
            events.extend(gone.map(|at| Event::PartitionDropped { queue: name.clone(), at: *at }));
            let new = wanted.into_iter().filter(|(at, _)| !queue.partitions.contains_key(at));
            events.extend(new.map(|(at, topic)| partition_set(name, at, topic, Offset::ZERO)));
        }
        events.extend(self.letters.decide_topics_changed(logs));
        events
    }

    /// A queue is created.
    pub(super) fn decide_create(&self, request: &CreateQueue, now: Now) -> Result<Decision<QueueConfig>, QueueError> {
        let CreateQueue { name, topics, patterns, start, frontiers, filter, policy } = request;
        if self.by_name.contains_key(name) {
            return Err(QueueError::Exists { queue: name.clone() });
        }
        if self.by_name.len() >= limits::QUEUES_MAX {
            return Err(QueueError::TooManyQueues { queue: name.clone(), limit: limits::QUEUES_MAX });
        }
        policy.check()?;
        let config = QueueConfig {
            id: QueueId(self.next_queue),
            name: name.clone(),
            topics: topics.clone(),
            patterns: patterns.clone(),
            start: *start,
            filter: filter.clone(),
            policy: policy.clone(),
            paused: false,
            created_at_ms: now.wall_ms,
        };
        let mut events = vec![Event::QueueSet { config: config.clone() }];
        let begin = |(at, topic, frontier): &(_, TopicName, _)| partition_set(name, *at, topic.clone(), *frontier);
        events.extend(frontiers.iter().map(begin));
        Ok(Decision { reply: config, events })
    }

    /// The policy of a queue changes, or it is paused or resumed.
    pub(super) fn decide_update(
        &self,
        name: &QueueName,
        policy: Option<&QueuePolicy>,
        paused: Option<bool>,
    ) -> Result<Decision<QueueConfig>, QueueError> {
        let before = &self.get(name)?.config;
        let mut config = before.clone();
        if let Some(policy) = policy {
            policy.check()?;
            if policy.ordering != before.policy.ordering {
                let what = "the order of a queue cannot be changed; create another queue".to_owned();
                return Err(QueueError::Policy { field: "ordering", what });
            }
            config.policy = policy.clone();
        }
        config.paused = paused.unwrap_or(config.paused);
        let mut events = if config == *before { Vec::new() } else { vec![Event::QueueSet { config: config.clone() }] };
        if paused == Some(false) && self.get(name)?.breaker.is_shut() {
            events.push(Event::BreakerClosed { queue: name.clone() });
        }
        Ok(Decision { reply: config, events })
    }

    /// A queue is deleted, with everything that is under way.
    pub(super) fn decide_delete(&self, name: &QueueName) -> Result<Decision<()>, QueueError> {
        self.get(name)?;
        Ok(Decision { reply: (), events: vec![Event::QueueDeleted { queue: name.clone() }] })
    }

    /// Dead letters of these messages are durable; `absent` ones were not in the log any more.
    pub(super) fn decide_bury(&self, queue: &QueueName, buried: &[Place], absent: &[Place]) -> Decision<()> {
        let mut settlements: BTreeMap<PartitionKey, Settlement> = BTreeMap::new();
        let Some(state) = self.by_name.get(queue) else { return Decision::default() };
        // Since then the topic may have been deleted, or the queue deleted and created again.
        let is_dying = |place: &&Place| state.dying.contains(place);
        for place in buried.iter().filter(is_dying) {
            let ranges = &mut settlements.entry(place.at).or_default().buried;
            push_offset(ranges, place.offset);
        }
        for place in absent.iter().filter(is_dying) {
            let ranges = &mut settlements.entry(place.at).or_default().absent;
            push_offset(ranges, place.offset);
        }
        let settled = |(at, settlement)| Event::Settled { queue: queue.clone(), at, settlement };
        Decision { reply: (), events: settlements.into_iter().map(settled).collect() }
    }

    /// The queue of that name.
    pub(super) fn get(&self, name: &QueueName) -> Result<&QueueState, QueueError> {
        self.by_name.get(name).ok_or_else(|| QueueError::NotFound { queue: name.clone() })
    }

    /// The present run.
    pub(super) fn run(&self) -> Run {
        self.run
    }

    /// When time has something to do next, if ever.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.by_name.values().filter_map(QueueState::next_due_ms).min()
    }

    /// Everything whose time has come.
    pub(super) fn decide_due(&self, now: Now) -> Vec<Event> {
        let due = |queue: &&QueueState| queue.next_due_ms().is_some_and(|ms| ms <= now.monotonic_ms);
        self.by_name.values().filter(due).flat_map(|queue| queue.decide_due(now)).collect()
    }

    /// Up to `most` messages of each queue that are to be written to its dead letter topic.
    pub(super) fn dying(&self, most: usize) -> Vec<DyingMessage> {
        self.by_name.values().flat_map(|queue| queue.dying(most)).collect()
    }

    /// Whether there are such messages.
    pub(super) fn has_dying(&self) -> bool {
        self.by_name.values().any(|queue| !queue.dying.is_empty())
    }

    /// Receivers that should look again: those of queues in which something stirred, and those that have room again.
    pub(super) fn take_wakes(&mut self) -> BTreeSet<ReceiverId> {
        let mut wakes = BTreeSet::new();
        for queue in self.by_name.values_mut() {
            let (stirred, roomier) = queue.take_wakes();
            wakes.extend(roomier);
            if stirred {
                wakes.extend(queue.receivers.keys());
            }
        }
        wakes
    }

    /// Everything about a queue.
    pub(super) fn describe(&self, name: &QueueName) -> Result<QueueDescription, QueueError> {
        Ok(self.get(name)?.describe())
    }

    /// Queues whose names begin with `prefix`, in order of name.
    pub(super) fn list(&self, prefix: &str) -> Vec<QueueDescription> {
        let begins = |queue: &&QueueState| queue.config.name.as_str().starts_with(prefix);
        self.by_name.values().filter(begins).map(QueueState::describe).collect()
    }
}

fn partition_set(queue: &QueueName, at: PartitionKey, topic: TopicName, frontier: Offset) -> Event {
    let stored = StoredProgress { topic, frontier, open: Vec::new() };
    Event::PartitionSet { queue: queue.clone(), at, stored }
}
