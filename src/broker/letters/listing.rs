//! Every topic of dead letters, with how many are open, since when, and of what.
//!
//! How many is known exactly, from offsets; on a compacted topic those that were compacted away are counted until somebody
//! works the topic off. Of what they died is read, from the oldest on and up to a bound.

use super::STEP_LETTERS_MAX;
use super::scan::LetterScan;
use super::selection::LetterSelection;
use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::queues::reading::read_one;
use crate::broker::topic_table::Topic;
use crate::metrics::LetterReading;
use crate::partition::PartitionHandle;
use crate::queue::{LetterTopic, PartitionKey, QueueError, QueueName, RangeSet};
use crate::types::{Offset, TimestampMs, TopicName};
use std::collections::BTreeMap;
use std::ops::Range;

/// Bounds of what is read of one topic to count reasons and queues.
const COUNTED_LETTERS_MAX: u64 = 10_000;
const COUNTED_BYTES_MAX: usize = 8 << 20;

/// And of all topics of one list together.
const LISTED_BYTES_MAX: usize = 128 << 20;

/// Different reasons, or queues, that are told apart; and the longest name that is taken for one.
const NAMES_MAX: usize = 20;
const NAME_BYTES_MAX: usize = 249;

/// What all others are counted as.
const OTHER: &str = "(other)";

static NOTHING: RangeSet = RangeSet::new();

/// A topic of dead letters.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LetterTopicState {
    /// Who writes there.
    pub queues: Vec<QueueName>,
    /// Letters that are not resolved.
    pub open: u64,
    /// All that there are.
    pub kept: u64,
    /// When the oldest open one died.
    pub oldest_open_ms: Option<TimestampMs>,
    /// Of how many the rest tells.
    pub counted: u64,
    /// What they died of.
    pub by_reason: BTreeMap<String, u64>,
    /// Which queue gave them up.
    pub by_queue: BTreeMap<String, u64>,
    /// Whether there is no such topic now.
    pub missing: bool,
}

impl Broker {
    /// Every topic of dead letters whose name begins with `prefix`.
    pub async fn list_letters(&self, prefix: &str) -> Result<Vec<(TopicName, LetterTopicState)>, BrokerError> {
        let queues = self.queue_coordinator()?;
        let (mut listed, mut left) = (Vec::new(), LISTED_BYTES_MAX);
        for name in queues.letter_topics(prefix.to_owned()).await? {
            match queues.letters(name.clone()).await {
                Ok(state) => listed.push((name, self.describe_letters(state, &mut left).await)),
                // Its last queue was deleted since.
                Err(QueueError::NotDeadLetters { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(listed)
    }

    /// How many letters are open in each topic that is there.
    pub(in crate::broker) async fn letter_readings(&self) -> Result<Vec<LetterReading>, BrokerError> {
        let Ok(queues) = self.queue_coordinator() else { return Ok(Vec::new()) };
        let mut readings = Vec::new();
        for name in queues.letter_topics(String::new()).await? {
            let (Some(topic), Ok(state)) = (self.topics.get(&name), queues.letters(name.clone()).await) else {
                continue;
            };
            let open = parts(&topic, &state).map(|Part { all, resolved, .. }| open_of(&all, resolved)).sum();
            readings.push(LetterReading { topic: name, open });
        }
        Ok(readings)
    }

    /// What can be told; of a partition that is offline that is nothing.
    async fn describe_letters(&self, state: LetterTopic, bytes_left: &mut usize) -> LetterTopicState {
        let mut described = LetterTopicState { queues: state.queues.clone(), ..LetterTopicState::default() };
        let Some(topic) = self.topics.get(&state.topic) else {
            return LetterTopicState { missing: true, ..described };
        };
        for Part { handle, all, resolved } in parts(&topic, &state) {
            described.kept += all.end.records_since(all.start);
            described.open += open_of(&all, resolved);
            let first = resolved.next_outside(all.start);
            if first < all.end
                && let Ok(Some((append_time_ms, _))) = read_one(handle, first).await
            {
                let oldest = described.oldest_open_ms.map_or(append_time_ms, |oldest| oldest.min(append_time_ms));
                described.oldest_open_ms = Some(oldest);
            }
        }
        let scan = LetterScan::new(topic, &state, LetterSelection::default(), false);
        let counted = match scan {
            Ok(scan) => count(scan, bytes_left, &mut described).await,
            Err(error) => Err(error),
        };
        if let Err(error) = counted {
            tracing::warn!(%error, "dead letters cannot be counted by what they died of");
        }
        described
    }
}

/// A partition that is online.
struct Part<'a> {
    handle: &'a PartitionHandle,
    /// The offsets that its log has.
    all: Range<Offset>,
    resolved: &'a RangeSet,
}

fn parts<'a>(topic: &'a Topic, state: &'a LetterTopic) -> impl Iterator<Item = Part<'a>> {
    let online = (0..topic.entry.partitions).filter_map(|number| Some((number, topic.partition(number).ok()?)));
    online.map(|(number, handle)| {
        let offsets = handle.offsets();
        let at = PartitionKey { topic_id: topic.entry.id, partition: number };
        let resolved = state.resolved.get(&at).unwrap_or(&NOTHING);
        Part { handle, all: offsets.log_start..offsets.high_watermark.max(offsets.log_start), resolved }
    })
}

fn open_of(all: &Range<Offset>, resolved: &RangeSet) -> u64 {
    all.end.records_since(all.start).saturating_sub(resolved.count_within(all.clone()))
}

async fn count(
    mut scan: LetterScan,
    bytes_left: &mut usize,
    described: &mut LetterTopicState,
) -> Result<(), BrokerError> {
    let mut bytes = 0;
    while described.counted < COUNTED_LETTERS_MAX && bytes < COUNTED_BYTES_MAX.min(*bytes_left) {
        let Some(found) = scan.next(STEP_LETTERS_MAX).await? else { break };
        for letter in found.letters {
            bytes += letter.body.len();
            described.counted += 1;
            add(&mut described.by_reason, letter.facts.reason);
            add(&mut described.by_queue, letter.facts.queue);
        }
    }
    *bytes_left = bytes_left.saturating_sub(bytes);
    Ok(())
}

/// Names are what records say: there may be any number of them, of any length.
fn add(counts: &mut BTreeMap<String, u64>, name: String) {
    let is_told = name.len() <= NAME_BYTES_MAX && (counts.len() < NAMES_MAX || counts.contains_key(&name));
    *counts.entry(if is_told { name } else { OTHER.to_owned() }).or_default() += 1;
}
