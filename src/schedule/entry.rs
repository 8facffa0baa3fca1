//! How schedules stand in the log.
//!
//! | key | value | without a value |
//! |---|---|---|
//! | the id | a line of JSON that says what, where and when; behind it the record, as on the wire | it is over |
//!
//! An entry replaces all earlier ones of its key, so compaction may drop those. The line can be read by a person with an
//! ordinary consumer; the record is not looked at before it is due.

use super::error::ScheduleError;
use super::ids::ScheduleId;
use super::recurrence::{Missed, Recurrence};
use crate::partition::journal::{JournalEntry, parse_json};
use crate::types::{TimestampMs, TopicName};
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// An occurrence is missed when it is so late, in milliseconds: cron counts in minutes.
const MISSED_AFTER_MS: u64 = 60_000;

/// What is to be delivered where and when; the record itself stands beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// To this topic.
    pub topic: TopicName,
    /// To this partition; `None` = by key, or by message id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// When, by the broker's clock.
    pub due_ms: TimestampMs,
    /// When again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<Recurrence>,
    /// When it was made.
    pub created_at_ms: TimestampMs,
    /// How often it was delivered.
    #[serde(default)]
    pub delivered: u64,
    /// When it was delivered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivered_ms: Option<TimestampMs>,
}

/// A schedule with its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is called.
    pub id: ScheduleId,
    /// What, where and when.
    pub schedule: Schedule,
    /// The record as a message of its own, as a client sent it.
    pub record: Bytes,
}

impl Schedule {
    /// Whether this occurrence is so late at `now_ms` that it is to be left out.
    pub fn is_left_out(&self, now_ms: TimestampMs) -> bool {
        let late_ms = u64::try_from(now_ms.saturating_sub(self.due_ms)).unwrap_or(0);
        let skips = self.recurrence.as_ref().is_some_and(|recurrence| recurrence.missed == Missed::Skip);
        skips && late_ms > MISSED_AFTER_MS
    }

    /// What is left to do when this occurrence was delivered, or left out, at `now_ms`; `None` = nothing.
    ///
    /// Occurrences up to now count as missed: there is one delivery for all of them.
    pub fn next(&self, now_ms: TimestampMs, was_delivered: bool) -> Result<Option<Self>, ScheduleError> {
        let Some(recurrence) = &self.recurrence else { return Ok(None) };
        // The clock may have been set back since: the same occurrence never comes again.
        let Some(due_ms) = recurrence.next_after(now_ms.max(self.due_ms))? else { return Ok(None) };
        let mut next = Self { due_ms, ..self.clone() };
        if was_delivered {
            next.delivered = next.delivered.saturating_add(1);
            next.last_delivered_ms = Some(now_ms);
        }
        Ok(Some(next))
    }
}

impl Entry {
    /// The entry as it is appended.
    pub fn encode(&self) -> JournalEntry {
        let line = serde_json::to_vec(&self.schedule).expect("a plain struct always serializes");
        let mut value = BytesMut::with_capacity(line.len() + 1 + self.record.len());
        value.put_slice(&line);
        value.put_u8(b'\n');
        value.put_slice(&self.record);
        JournalEntry { key: Bytes::copy_from_slice(self.id.as_str().as_bytes()), value: Some(value.freeze()) }
    }

    /// What [`Entry::encode`] wrote.
    pub fn decode(key: &[u8], value: &Bytes) -> Result<Self, ScheduleError> {
        let parts = || {
            let id = decode_id(key)?;
            // JSON of one line has no line break: it is escaped in strings.
            let end = value.iter().position(|byte| *byte == b'\n').ok_or("its first line does not end")?;
            let schedule: Schedule = parse_json(&value[..end])?;
            Ok(Self { id, schedule, record: value.slice(end + 1..) })
        };
        parts().map_err(|cause| ScheduleError::Corrupt { key: String::from_utf8_lossy(key).into_owned(), cause })
    }
}

/// The entry that says that a schedule is over.
pub(super) fn tombstone(id: &ScheduleId) -> JournalEntry {
    JournalEntry::tombstone(id.as_str().to_owned())
}

pub(super) fn decode_id(key: &[u8]) -> Result<ScheduleId, String> {
    let text = std::str::from_utf8(key).map_err(|error| error.to_string())?;
    ScheduleId::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Entry {
        let recurrence = Recurrence::new("0 9 * * *", "Europe/Berlin", Missed::Skip).expect("valid");
        let schedule = Schedule {
            topic: TopicName::new("orders").expect("valid"),
            partition: Some(3),
            due_ms: 1_700_000_000_000,
            recurrence: Some(recurrence),
            created_at_ms: 5,
            delivered: 2,
            last_delivered_ms: Some(9),
        };
        Entry { id: ScheduleId::new("a-1").expect("valid"), schedule, record: Bytes::from_static(b"\n\x00{}\n") }
    }

    #[test]
    fn an_entry_comes_back_from_its_bytes() {
        let entry = example();
        let JournalEntry { key, value } = entry.encode();
        let value = value.expect("it has one");
        let line = r#"{"topic":"orders","partition":3,"due_ms":1700000000000,"recurrence":{"cron":"0 9 * * *","time_zone":"Europe/Berlin","missed":"skip"},"created_at_ms":5,"delivered":2,"last_delivered_ms":9}"#;
        assert!(value.starts_with(line.as_bytes()), "{value:?}");
        assert_eq!(Entry::decode(&key, &value), Ok(entry));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_by_name() {
        for (key, value) in [("a", "{}\n"), ("a", "no end"), ("", "{}\n"), ("a/b", "{}\n"), ("a", "")] {
            let refused = Entry::decode(key.as_bytes(), &Bytes::from_static(value.as_bytes()));
            assert!(matches!(&refused, Err(ScheduleError::Corrupt { key: named, .. }) if named == key), "{refused:?}");
        }
    }

    #[test]
    fn missed_occurrences_come_once_or_not_at_all_and_none_comes_twice() {
        let day_ms = 86_400_000;
        let skipping = example().schedule;
        let due_ms = skipping.due_ms;
        assert!(!skipping.is_left_out(due_ms + 60_000));
        assert!(skipping.is_left_out(due_ms + 60_001));
        let once = Recurrence { missed: Missed::Once, ..skipping.recurrence.clone().expect("it has one") };
        let catching_up = Schedule { recurrence: Some(once), ..skipping.clone() };
        assert!(!catching_up.is_left_out(due_ms + 10 * day_ms));

        let next = catching_up.next(due_ms + 10 * day_ms, true).expect("valid").expect("there is one");
        assert!(next.due_ms > due_ms + 10 * day_ms && next.due_ms <= due_ms + 11 * day_ms);
        assert_eq!((next.delivered, next.last_delivered_ms), (3, Some(due_ms + 10 * day_ms)));
        let left_out = skipping.next(due_ms + day_ms, false).expect("valid").expect("there is one");
        assert_eq!((left_out.delivered, left_out.last_delivered_ms), (2, Some(9)));
        let set_back = catching_up.next(due_ms - 5 * day_ms, true).expect("valid").expect("there is one");
        assert!(set_back.due_ms > due_ms);
        let single = Schedule { recurrence: None, ..skipping };
        assert_eq!(single.next(due_ms, true), Ok(None));
    }
}
