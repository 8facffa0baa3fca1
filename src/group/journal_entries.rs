//! How the durable state of groups stands in the journal, readable by a person with an ordinary consumer.
//!
//! | key | value (JSON) | without a value |
//! |---|---|---|
//! | `group/NAME` | `{"generation":7}`, without members also `"empty_since_ms":1700000000000` | the group was deleted |
//! | `offset/NAME/TOPIC_ID/PARTITION` | `{"topic":"orders","offset":42,"metadata":"","committed_at_ms":1700000000000}` | dropped |
//! | `paused/NAME` | `{}`: the group is paused | it is not |
//! | `generations` | `{"floor":7}`: generations up to this were used by deleted groups | never |
//!
//! Names hold no `/`, so keys take apart in one way. A reader ignores fields it does not know and fills in `metadata`,
//! `committed_at_ms` and `empty_since_ms` where they are missing, so fields can be added; a key of another kind is
//! refused, because skipping it would lose state when the journal is cut. An entry replaces all earlier ones of its key.

use super::error::GroupError;
use super::event::{Event, OffsetKey};
use super::ids::{Generation, GroupName};
use super::state::Committed;
use crate::partition::journal::{JournalEntry, parse_json};
use crate::types::{Offset, TimestampMs, TopicId, TopicName};
use serde::{Deserialize, Serialize};

const FLOOR_KEY: &str = "generations";
const GROUP_KIND: &str = "group";
const PAUSED_KIND: &str = "paused";
const OFFSET_KIND: &str = "offset";

#[derive(Serialize, Deserialize)]
struct FloorValue {
    floor: Generation,
}

#[derive(Serialize, Deserialize)]
struct GroupValue {
    generation: Generation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    empty_since_ms: Option<TimestampMs>,
}

/// A pause has no properties yet; what is added later is ignored here.
#[derive(Serialize, Deserialize)]
struct PausedValue {}

#[derive(Serialize, Deserialize)]
struct OffsetValue {
    topic: TopicName,
    offset: Offset,
    #[serde(default)]
    metadata: String,
    #[serde(default)]
    committed_at_ms: TimestampMs,
}

/// The entry that makes `event` durable; `None` for events that are not.
pub(super) fn encode(event: &Event) -> Option<JournalEntry> {
    match event {
        Event::GenerationFloorRaised { generation } => {
            Some(JournalEntry::json(FLOOR_KEY.to_owned(), &FloorValue { floor: *generation }))
        }
        Event::GenerationAdvanced { group, generation, empty_since_ms } => {
            let value = GroupValue { generation: *generation, empty_since_ms: *empty_since_ms };
            Some(JournalEntry::json(group_key(group), &value))
        }
        Event::PauseChanged { group, paused: true } => Some(JournalEntry::json(paused_key(group), &PausedValue {})),
        Event::PauseChanged { group, paused: false } => Some(JournalEntry::tombstone(paused_key(group))),
        Event::OffsetCommitted { group, key, committed } => {
            let value = OffsetValue {
                topic: committed.topic.clone(),
                offset: committed.offset,
                metadata: committed.metadata.clone(),
                committed_at_ms: committed.at_ms,
            };
            Some(JournalEntry::json(offset_key(group, *key), &value))
        }
        Event::OffsetDropped { group, key } => Some(JournalEntry::tombstone(offset_key(group, *key))),
        Event::GroupDeleted { group } => Some(JournalEntry::tombstone(group_key(group))),
        Event::PaceSampled { .. }
        | Event::MemberJoined { .. }
        | Event::MemberAway { .. }
        | Event::MemberLeft { .. }
        | Event::OwnershipChanged { .. } => None,
    }
}

/// The event that `entry` made durable.
pub(super) fn decode(entry: &JournalEntry) -> Result<Event, GroupError> {
    decode_parts(entry)
        .map_err(|cause| GroupError::Corrupt { key: String::from_utf8_lossy(&entry.key).into_owned(), cause })
}

fn decode_parts(entry: &JournalEntry) -> Result<Event, String> {
    let key = std::str::from_utf8(&entry.key).map_err(|e| e.to_string())?;
    let value = entry.value.as_deref();
    match key.split('/').collect::<Vec<_>>()[..] {
        [FLOOR_KEY] => {
            let value: FloorValue = parse_json(value.ok_or("it has no value")?)?;
            Ok(Event::GenerationFloorRaised { generation: value.floor })
        }
        [GROUP_KIND, group] => {
            let group = group_name(group)?;
            let Some(value) = value else { return Ok(Event::GroupDeleted { group }) };
            let GroupValue { generation, empty_since_ms } = parse_json(value)?;
            Ok(Event::GenerationAdvanced { group, generation, empty_since_ms })
        }
        [PAUSED_KIND, group] => {
            let PausedValue {} = value.map_or(Ok(PausedValue {}), parse_json)?;
            Ok(Event::PauseChanged { group: group_name(group)?, paused: value.is_some() })
        }
        [OFFSET_KIND, group, topic_id, partition] => {
            let group = group_name(group)?;
            let topic_id = topic_id.parse().map(TopicId).map_err(|_| format!("{topic_id:?} is not a topic id"))?;
            let partition = partition.parse().map_err(|_| format!("{partition:?} is not a partition"))?;
            let key = OffsetKey { topic_id, partition };
            let Some(value) = value else { return Ok(Event::OffsetDropped { group, key }) };
            let OffsetValue { topic, offset, metadata, committed_at_ms } = parse_json(value)?;
            Ok(Event::OffsetCommitted {
                group,
                key,
                committed: Committed { topic, offset, metadata, at_ms: committed_at_ms },
            })
        }
        _ => Err("this version does not know such a key".to_owned()),
    }
}

fn group_key(group: &GroupName) -> String {
    format!("{GROUP_KIND}/{group}")
}

fn paused_key(group: &GroupName) -> String {
    format!("{PAUSED_KIND}/{group}")
}

fn offset_key(group: &GroupName, key: OffsetKey) -> String {
    format!("{OFFSET_KIND}/{group}/{}/{}", key.topic_id, key.partition)
}

fn group_name(text: &str) -> Result<GroupName, String> {
    GroupName::new(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn text_entry(key: &str, value: Option<&str>) -> JournalEntry {
        JournalEntry { key: Bytes::copy_from_slice(key.as_bytes()), value: value.map(|v| v.to_owned().into()) }
    }

    fn examples() -> Vec<Event> {
        let group = GroupName::new("billing").unwrap();
        let key = OffsetKey { topic_id: TopicId(uuid::Uuid::from_u128(7)), partition: 3 };
        let topic = TopicName::new("orders").unwrap();
        let committed = Committed { topic, offset: Offset(u64::MAX), metadata: "\"\u{0}\u{e4}".to_owned(), at_ms: -1 };
        vec![
            Event::GenerationFloorRaised { generation: Generation(9) },
            Event::GenerationAdvanced { group: group.clone(), generation: Generation(7), empty_since_ms: None },
            Event::OffsetCommitted { group: group.clone(), key, committed },
            Event::PauseChanged { group: group.clone(), paused: true },
            Event::PauseChanged { group: group.clone(), paused: false },
            Event::OffsetDropped { group: group.clone(), key },
            Event::GroupDeleted { group: group.clone() },
            Event::GenerationAdvanced { group, generation: Generation(8), empty_since_ms: Some(5) },
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
    fn entries_stand_in_the_journal_as_documented() {
        let entries: Vec<_> = examples().iter().filter_map(encode).collect();
        assert_eq!(entries[1], text_entry("group/billing", Some(r#"{"generation":7}"#)));
        assert_eq!(entries[3], text_entry("paused/billing", Some("{}")));
        assert_eq!(entries[5], text_entry("offset/billing/00000000-0000-0000-0000-000000000007/3", None));
    }

    #[test]
    fn fields_added_later_are_ignored_and_optional_ones_filled_in() {
        let key = "offset/g/00000000-0000-0000-0000-000000000007/0";
        let entry = text_entry(key, Some(r#"{"topic":"t","offset":5,"leader_epoch":3}"#));
        let Ok(Event::OffsetCommitted { committed, .. }) = decode(&entry) else { panic!("not read") };
        assert_eq!((committed.offset, committed.metadata.as_str(), committed.at_ms), (Offset(5), "", 0));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_by_name() {
        let offset = r#"{"topic":"t","offset":5}"#;
        let cases = [
            ("", None),
            ("lease/g", None),
            ("generations", None),
            ("group/..", None),
            ("group/g", Some("{}")),
            ("group/g", Some("not json")),
            ("offset/g/7/0", Some(offset)),
            ("offset/g/00000000-0000-0000-0000-000000000007/-1", Some(offset)),
            ("offset/g/00000000-0000-0000-0000-000000000007/0", Some(r#"{"topic":"t"}"#)),
        ];
        for (key, value) in cases {
            let refused = decode(&text_entry(key, value));
            assert!(matches!(&refused, Err(GroupError::Corrupt { key: named, .. }) if named == key), "{refused:?}");
        }
    }
}
