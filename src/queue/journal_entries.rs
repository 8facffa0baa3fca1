//! How the durable state of queues stands in the journal, readable by a person with an ordinary consumer.
//!
//! | key | value (JSON) | without a value |
//! |---|---|---|
//! | `run` | `{"run":7,"next_queue":3}`: the last start, and the first id no queue was given | never |
//! | `queue/NAME` | the queue as created or last updated | the queue was deleted |
//! | `progress/NAME/TOPIC_ID/PARTITION` | `{"topic":"orders","frontier":42,"open":[{"offset":40,"attempts":1,...}]}` | the topic is gone |
//! | `delivered/NAME/TOPIC_ID/PARTITION` | `{"ranges":[{"start":42,"end":52}],"at_ms":1700000000000}` | never |
//! | `settled/NAME/TOPIC_ID/PARTITION` | `{"acked":[{"start":42,"end":50}],"failed":[[50,{"wall_ms":...}]],...}` | never |
//! | `resolved/TOPIC_ID/PARTITION` | `{"topic":"work.dlq","ranges":[{"start":0,"end":7}]}`: dead letters, besides those of before | the topic is gone |
//!
//! The first three replace earlier entries of their key, and `progress` also all `delivered` and `settled` before it;
//! those two and `resolved` are changes, and each counts. So the journal is cut by writing all progress anew, never compacted. Fields
//! can be added; a key of another kind is refused, because skipping it would lose state when the journal is cut.

use super::error::QueueError;
use super::event::{Event, HandedOut, LetterEvent, MessageKey, Settlement, StoredProgress, offsets, push_offset};
use super::ids::{PartitionKey, QueueName, Run};
use super::policy::QueueConfig;
use crate::limits;
use crate::partition::journal::{JournalEntry, parse_json};
use crate::planted::{Bug, is_planted};
use crate::types::{Offset, TimestampMs, TopicId, TopicName};
use serde::{Deserialize, Serialize};
use std::ops::Range;

const RUN_KEY: &str = "run";
const QUEUE_KIND: &str = "queue";
const PROGRESS_KIND: &str = "progress";
const DELIVERED_KIND: &str = "delivered";
const SETTLED_KIND: &str = "settled";
const RESOLVED_KIND: &str = "resolved";

#[derive(Serialize, Deserialize)]
struct RunValue {
    run: Run,
    next_queue: u64,
}

#[derive(Serialize, Deserialize)]
struct DeliveredValue {
    ranges: Vec<Range<Offset>>,
    at_ms: TimestampMs,
}

#[derive(Serialize, Deserialize)]
struct ResolvedValue {
    topic: TopicName,
    ranges: Vec<Range<Offset>>,
}

/// The entry that makes `event` durable; `None` for events that are not.
pub(super) fn encode(event: &Event) -> Option<JournalEntry> {
    match event {
        Event::RunBegun { run, next_queue } => {
            Some(JournalEntry::json(RUN_KEY.to_owned(), &RunValue { run: *run, next_queue: *next_queue }))
        }
        Event::QueueSet { config } => Some(JournalEntry::json(queue_key(&config.name), config)),
        Event::QueueDeleted { queue } => Some(JournalEntry::tombstone(queue_key(queue))),
        Event::PartitionSet { queue, at, stored } => {
            Some(JournalEntry::json(partition_key(PROGRESS_KIND, queue, *at), stored))
        }
        Event::PartitionDropped { queue, at } => {
            Some(JournalEntry::tombstone(partition_key(PROGRESS_KIND, queue, *at)))
        }
        Event::Delivered { .. } if is_planted(Bug::DeliveryUnwritten) => None,
        Event::Settled { .. } if is_planted(Bug::SettlementUnwritten) => None,
        Event::Delivered { queue, at, messages, at_ms, .. } => {
            let mut ranges = Vec::new();
            for message in messages {
                push_offset(&mut ranges, message.offset);
            }
            let value = DeliveredValue { ranges, at_ms: *at_ms };
            Some(JournalEntry::json(partition_key(DELIVERED_KIND, queue, *at), &value))
        }
        Event::Settled { queue, at, settlement } => {
            Some(JournalEntry::json(partition_key(SETTLED_KIND, queue, *at), settlement))
        }
        Event::Letters(LetterEvent::Resolved { topic, at, ranges }) => {
            let value = ResolvedValue { topic: topic.clone(), ranges: ranges.clone() };
            Some(JournalEntry::json(resolved_key(*at), &value))
        }
        Event::Letters(LetterEvent::Forgotten { at }) => Some(JournalEntry::tombstone(resolved_key(*at))),
        Event::Reserved { .. }
        | Event::Returned { .. }
        | Event::Learned { .. }
        | Event::PutOff { .. }
        | Event::Extended { .. }
        | Event::Rescheduled { .. }
        | Event::Freed { .. }
        | Event::Ripened { .. }
        | Event::BreakerOpened { .. }
        | Event::BreakerProbed { .. }
        | Event::BreakerClosed { .. }
        | Event::ReceiverOpened { .. }
        | Event::ReceiverWidened { .. }
        | Event::ReceiverClosed { .. } => None,
    }
}

/// The event that `entry` made durable.
pub(super) fn decode(entry: &JournalEntry) -> Result<Event, QueueError> {
    decode_parts(entry)
        .map_err(|cause| QueueError::Corrupt { key: String::from_utf8_lossy(&entry.key).into_owned(), cause })
}

fn decode_parts(entry: &JournalEntry) -> Result<Event, String> {
    let key = std::str::from_utf8(&entry.key).map_err(|e| e.to_string())?;
    let value = entry.value.as_deref();
    let must_have = |value: Option<_>| value.ok_or_else(|| "it has no value".to_owned());
    match key.split('/').collect::<Vec<_>>()[..] {
        [RUN_KEY] => {
            let RunValue { run, next_queue } = parse_json(must_have(value)?)?;
            Ok(Event::RunBegun { run, next_queue })
        }
        [QUEUE_KIND, queue] => {
            let queue = queue_name(queue)?;
            let Some(value) = value else { return Ok(Event::QueueDeleted { queue }) };
            let config: QueueConfig = parse_json(value)?;
            if config.name != queue {
                return Err(format!("its value is of queue {}", config.name));
            }
            Ok(Event::QueueSet { config })
        }
        [PROGRESS_KIND, queue, topic_id, partition] => {
            let (queue, at) = (queue_name(queue)?, partition_of(topic_id, partition)?);
            let Some(value) = value else { return Ok(Event::PartitionDropped { queue, at }) };
            let stored: StoredProgress = parse_json(value)?;
            check_open(&stored)?;
            Ok(Event::PartitionSet { queue, at, stored })
        }
        [DELIVERED_KIND, queue, topic_id, partition] => {
            let (queue, at) = (queue_name(queue)?, partition_of(topic_id, partition)?);
            let DeliveredValue { ranges, at_ms } = parse_json(must_have(value)?)?;
            check_ranges(&ranges)?;
            let handed_out = |offset| HandedOut { offset, bytes: 0, key: MessageKey::Unknown };
            let messages = offsets(&ranges).map(handed_out).collect();
            Ok(Event::Delivered { queue, at, messages, at_ms, lease: None })
        }
        [SETTLED_KIND, queue, topic_id, partition] => {
            let (queue, at) = (queue_name(queue)?, partition_of(topic_id, partition)?);
            let settlement: Settlement = parse_json(must_have(value)?)?;
            check_ranges(&settlement.released)?;
            let Settlement { acked, buried, absent, filtered, .. } = &settlement;
            for ranges in [acked, buried, absent, filtered] {
                check_order(ranges)?;
            }
            Ok(Event::Settled { queue, at, settlement })
        }
        [RESOLVED_KIND, topic_id, partition] => {
            let at = partition_of(topic_id, partition)?;
            let Some(value) = value else { return Ok(Event::Letters(LetterEvent::Forgotten { at })) };
            let ResolvedValue { topic, ranges } = parse_json(value)?;
            check_order(&ranges)?;
            Ok(Event::Letters(LetterEvent::Resolved { topic, at, ranges }))
        }
        _ => Err("this version does not know such a key".to_owned()),
    }
}

/// Ranges whose offsets are gone through one by one must not be longer than a queue can have open.
fn check_ranges(ranges: &[Range<Offset>]) -> Result<(), String> {
    check_order(ranges)?;
    let offsets: u64 = ranges.iter().map(|range| range.end.records_since(range.start)).fold(0, u64::saturating_add);
    if offsets <= u64::from(limits::QUEUE_IN_FLIGHT_MAX) {
        return Ok(());
    }
    Err(format!("it speaks of {offsets} messages; at most {} can be open", limits::QUEUE_IN_FLIGHT_MAX))
}

/// What is open lies below the frontier: from there on messages are new, and one that is both would be handed out twice.
fn check_open(stored: &StoredProgress) -> Result<(), String> {
    match stored.open.iter().find(|message| message.offset >= stored.frontier) {
        None => Ok(()),
        Some(message) => Err(format!("{} is open and not below the frontier, {}", message.offset, stored.frontier)),
    }
}

/// No range ends before it begins.
fn check_order(ranges: &[Range<Offset>]) -> Result<(), String> {
    match ranges.iter().find(|range| range.start > range.end) {
        None => Ok(()),
        Some(Range { start, end }) => Err(format!("a range begins at {start} and ends at {end}")),
    }
}

fn queue_key(queue: &QueueName) -> String {
    format!("{QUEUE_KIND}/{queue}")
}

fn partition_key(kind: &str, queue: &QueueName, at: PartitionKey) -> String {
    format!("{kind}/{queue}/{}/{}", at.topic_id, at.partition)
}

fn resolved_key(at: PartitionKey) -> String {
    format!("{RESOLVED_KIND}/{}/{}", at.topic_id, at.partition)
}

fn queue_name(text: &str) -> Result<QueueName, String> {
    QueueName::new(text).map_err(|e| e.to_string())
}

fn partition_of(topic_id: &str, partition: &str) -> Result<PartitionKey, String> {
    let topic_id = topic_id.parse().map(TopicId).map_err(|_| format!("{topic_id:?} is not a topic id"))?;
    let partition = partition.parse().map_err(|_| format!("{partition:?} is not a partition"))?;
    Ok(PartitionKey { topic_id, partition })
}

#[cfg(test)]
mod tests {
    use super::super::event::{DeathReason, Moment, StoredMessage};
    use super::super::test_support::{config, partition, queue, topic};
    use super::*;
    use bytes::Bytes;

    fn text_entry(key: &str, value: Option<&str>) -> JournalEntry {
        JournalEntry { key: Bytes::copy_from_slice(key.as_bytes()), value: value.map(|v| v.to_owned().into()) }
    }

    fn examples() -> Vec<Event> {
        let (queue, at) = (queue("work"), partition(3));
        let message = |offset, dying| StoredMessage {
            offset: Offset(offset),
            attempts: 2,
            first_delivered_ms: 1,
            last_delivered_ms: 2,
            until: Some(Moment { monotonic_ms: 0, wall_ms: 9 }),
            dying,
        };
        let open = vec![message(1, None), message(2, Some(DeathReason::Rejected("\"\u{0}".to_owned())))];
        let stored = StoredProgress { topic: topic("orders"), frontier: Offset(7), open };
        let range = |start, end| vec![Offset(start)..Offset(end)];
        let settlement = Settlement {
            acked: range(0, 5),
            buried: range(6, 7),
            absent: range(7, u64::MAX),
            filtered: range(3, 1_000_000),
            released: range(8, 10),
            failed: vec![(Offset(11), Moment { monotonic_ms: 0, wall_ms: -5 })],
            dying: vec![(Offset(12), DeathReason::AttemptsExhausted(String::new()))],
        };
        let handed_out = |offset| HandedOut { offset: Offset(offset), bytes: 0, key: MessageKey::Unknown };
        let messages = [4, 5, 9].map(handed_out).into();
        vec![
            Event::RunBegun { run: Run(2), next_queue: 5 },
            Event::QueueSet { config: config("work", |_| ()) },
            Event::QueueDeleted { queue: queue.clone() },
            Event::PartitionSet { queue: queue.clone(), at, stored },
            Event::PartitionDropped { queue: queue.clone(), at },
            Event::Delivered { queue: queue.clone(), at, messages, at_ms: 5, lease: None },
            Event::Settled { queue, at, settlement },
            Event::Letters(LetterEvent::Resolved { topic: topic("work.dlq"), at, ranges: vec![Offset(0)..Offset(4)] }),
            Event::Letters(LetterEvent::Forgotten { at }),
        ]
    }

    #[test]
    fn durable_events_come_back_from_their_entries() {
        for event in examples() {
            let entry = encode(&event).expect("every example is durable");
            assert_eq!(decode(&entry), Ok(event));
        }
    }

    #[test]
    fn a_delivery_is_one_entry_of_ranges() {
        let entry = encode(&examples()[5]).expect("it is durable");
        let expected = r#"{"ranges":[{"start":4,"end":6},{"start":9,"end":10}],"at_ms":5}"#;
        assert_eq!(entry, text_entry("delivered/work/00000000-0000-0000-0000-000000000007/3", Some(expected)));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_by_name() {
        let cases = [
            ("", None),
            ("lease/q", None),
            ("run", None),
            ("queue/..", None),
            ("resolved/00000000-0000-0000-0000-000000000007/x", None),
            (
                "resolved/00000000-0000-0000-0000-000000000007/0",
                Some(r#"{"topic":"t","ranges":[{"start":5,"end":4}]}"#),
            ),
            ("queue/q", Some("{}")),
            ("progress/q/7/0", Some(r#"{"topic":"t","frontier":1}"#)),
            (
                "progress/q/00000000-0000-0000-0000-000000000007/0",
                Some(r#"{"topic":"t","frontier":3,"open":[{"offset":3}]}"#),
            ),
            ("delivered/q/00000000-0000-0000-0000-000000000007/0", None),
            ("settled/q/00000000-0000-0000-0000-000000000007/0", Some(r#"{"acked":[{"start":5,"end":4}]}"#)),
            (
                "delivered/q/00000000-0000-0000-0000-000000000007/0",
                Some(r#"{"ranges":[{"start":0,"end":18446744073709551615}],"at_ms":0}"#),
            ),
        ];
        for (key, value) in cases {
            let refused = decode(&text_entry(key, value));
            assert!(matches!(&refused, Err(QueueError::Corrupt { key: named, .. }) if named == key), "{refused:?}");
        }
    }
}
