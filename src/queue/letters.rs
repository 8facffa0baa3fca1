//! What became of dead letters: which of them were resolved, by partition of the topics that hold them.
//!
//! A letter is open until it is resolved: sent back (redriven), or given up (purged). The record stays where it is, until
//! its topic's retention takes it; only its state is here, as ranges of offsets, so that working a topic off from its
//! beginning takes one range. Like the state of queues it is decided on `&self`, and changes by events alone.
//!
//! A topic is one of dead letters while a queue names it, and once letters of it were resolved or its queue was deleted,
//! until the topic is: letters outlive their queue.

use super::error::QueueError;
use super::event::{Decision, Event, LetterEvent};
use super::ids::{PartitionKey, QueueName};
use super::logs::Logs;
use super::policy::{QueueConfig, QueuePolicy};
use super::queues::Queues;
use super::range_set::RangeSet;
use crate::limits;
use crate::types::{Offset, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A snapshot tells at most so many ranges in one entry.
const ENTRY_RANGES_MAX: usize = 1_000;

/// A topic of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterTopic {
    /// Its name.
    pub topic: TopicName,
    /// Who writes there now, in order of name.
    pub queues: Vec<QueueName>,
    /// What is resolved; partitions of which nothing is are missing.
    pub resolved: BTreeMap<PartitionKey, RangeSet>,
}

/// What is resolved of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ResolvedPartition {
    topic: TopicName,
    offsets: RangeSet,
}

/// What is resolved of every partition that holds dead letters.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Letters {
    partitions: BTreeMap<PartitionKey, ResolvedPartition>,
}

impl Letters {
    /// Carries out one event.
    pub(super) fn apply(&mut self, event: &LetterEvent) {
        match event {
            LetterEvent::Resolved { topic, at, ranges } => {
                let partition = self.partitions.entry(*at);
                let unknown = || ResolvedPartition { topic: topic.clone(), offsets: RangeSet::new() };
                partition.or_insert_with(unknown).offsets.extend(ranges.iter().cloned());
            }
            LetterEvent::Forgotten { at } => drop(self.partitions.remove(at)),
        }
    }

    /// The events that make this state from none.
    pub(super) fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.partitions.iter().flat_map(|(at, resolved)| {
            let ResolvedPartition { topic, offsets } = resolved;
            let known = offsets.ranges().is_empty().then(|| resolved_event(topic, *at, Vec::new()));
            let chunks = offsets.ranges().chunks(ENTRY_RANGES_MAX);
            known.into_iter().chain(chunks.map(|ranges| resolved_event(topic, *at, ranges.to_vec())))
        })
    }

    /// What belongs to a deleted topic is forgotten.
    pub(super) fn decide_topics_changed(&self, logs: &dyn Logs) -> impl Iterator<Item = Event> {
        let gone = self.partitions.iter().filter(|(at, resolved)| !is_of(&resolved.topic, **at, logs));
        gone.map(|(at, _)| Event::Letters(LetterEvent::Forgotten { at: *at }))
    }

    /// A power cut may have taken letters that were not synced, and what is appended next gets their offsets: what was
    /// resolved beyond the end of a log is not.
    pub(super) fn decide_start(&self, logs: &dyn Logs) -> Vec<Event> {
        let mut events = Vec::new();
        for (at, ResolvedPartition { topic, offsets }) in &self.partitions {
            let Some(bounds) = logs.bounds(topic, *at) else { continue };
            let mut left = offsets.clone();
            left.truncate(bounds.high_watermark);
            if left != *offsets {
                events.push(Event::Letters(LetterEvent::Forgotten { at: *at }));
                events.push(resolved_event(topic, *at, left.ranges().to_vec()));
            }
        }
        events
    }

    fn is_known(&self, topic: &TopicName) -> bool {
        self.partitions.values().any(|resolved| resolved.topic == *topic)
    }
}

impl Queues {
    /// Letters of one partition are resolved. What the log has no more is resolved with them, which makes ranges fewer.
    pub(super) fn decide_resolve(
        &self,
        topic: &TopicName,
        at: PartitionKey,
        ranges: &[Range<Offset>],
        logs: &dyn Logs,
    ) -> Result<Decision<()>, QueueError> {
        self.letter_topic(topic)?;
        if !is_of(topic, at, logs) {
            return Err(QueueError::NotDeadLetters { topic: topic.clone() });
        }
        let known = self.letters.partitions.get(&at).map(|resolved| &resolved.offsets);
        let before = known.cloned().unwrap_or_default();
        let gone = logs.bounds(topic, at).map(|bounds| Offset::ZERO..bounds.log_start);
        let ranges: Vec<_> = gone.into_iter().chain(ranges.iter().cloned()).filter(|range| !range.is_empty()).collect();
        let mut after = before.clone();
        after.extend(ranges.iter().cloned());
        check_resolved(topic, at.partition, &after)?;
        let events = if after == before { Vec::new() } else { vec![resolved_event(topic, at, ranges)] };
        Ok(Decision { reply: (), events })
    }

    /// The policy of a queue changes, and should it write its dead letters elsewhere, those it wrote stay known.
    pub(super) fn decide_update_keeping(
        &self,
        queue: &QueueName,
        policy: Option<&QueuePolicy>,
        paused: Option<bool>,
        logs: &dyn Logs,
    ) -> Result<Decision<QueueConfig>, QueueError> {
        let mut decision = self.decide_update(queue, policy, paused)?;
        let after = decision.reply.policy.dead_letter_topic.as_ref();
        let kept = self.keep_letters(queue, after, logs);
        decision.events.extend(kept);
        Ok(decision)
    }

    /// A queue is deleted, and the dead letters it wrote stay known.
    pub(super) fn decide_delete_keeping(&self, queue: &QueueName, logs: &dyn Logs) -> Result<Decision<()>, QueueError> {
        let mut decision = self.decide_delete(queue)?;
        decision.events.extend(self.keep_letters(queue, None, logs));
        Ok(decision)
    }

    /// What is to be noted when a queue no longer writes where it did, but to `after`: no queue may name the topic then.
    fn keep_letters(&self, queue: &QueueName, after: Option<&TopicName>, logs: &dyn Logs) -> Option<Event> {
        let before = self.get(queue).ok()?.config.policy.dead_letter_topic.as_ref()?;
        if after == Some(before) || self.letters.is_known(before) {
            return None;
        }
        let (topic_id, _) = logs.topic(before)?;
        Some(resolved_event(before, PartitionKey { topic_id, partition: 0 }, Vec::new()))
    }

    /// Topics of dead letters whose names begin with `prefix`, in order.
    pub(super) fn letter_topics(&self, prefix: &str) -> Vec<TopicName> {
        let named = self.by_name.values().filter_map(|queue| queue.config.policy.dead_letter_topic.as_ref());
        let known = self.letters.partitions.values().map(|resolved| &resolved.topic);
        let all: BTreeSet<_> = named.chain(known).filter(|topic| topic.as_str().starts_with(prefix)).collect();
        all.into_iter().cloned().collect()
    }

    /// The topic of dead letters of that name.
    pub(super) fn letter_topic(&self, topic: &TopicName) -> Result<LetterTopic, QueueError> {
        let writes = |config: &&QueueConfig| config.policy.dead_letter_topic.as_ref() == Some(topic);
        let queues = self.by_name.values().map(|queue| &queue.config).filter(writes);
        let queues: Vec<_> = queues.map(|config| config.name.clone()).collect();
        if queues.is_empty() && !self.letters.is_known(topic) {
            return Err(QueueError::NotDeadLetters { topic: topic.clone() });
        }
        let resolved = self.letters.partitions.iter().filter(|(_, resolved)| resolved.topic == *topic);
        let resolved = resolved.map(|(at, resolved)| (*at, resolved.offsets.clone())).collect();
        Ok(LetterTopic { topic: topic.clone(), queues, resolved })
    }
}

/// Whether what is resolved of a partition may be kept: too many ranges would make memory and journal grow without bound.
pub fn check_resolved(topic: &TopicName, partition: u32, resolved: &RangeSet) -> Result<(), QueueError> {
    let limit = limits::LETTER_RANGES_MAX;
    match resolved.ranges() {
        ranges if ranges.len() <= limit => Ok(()),
        ranges => Err(QueueError::TooManyRanges {
            topic: topic.clone(),
            partition,
            limit,
            half: ranges[ranges.len() / 2].start,
        }),
    }
}

fn resolved_event(topic: &TopicName, at: PartitionKey, ranges: Vec<Range<Offset>>) -> Event {
    Event::Letters(LetterEvent::Resolved { topic: topic.clone(), at, ranges })
}

/// Whether the partition is one of the topic that has that name now.
fn is_of(topic: &TopicName, at: PartitionKey, logs: &dyn Logs) -> bool {
    logs.topic(topic).is_some_and(|(id, partitions)| id == at.topic_id && at.partition < partitions)
}
