//! What the headers of a dead letter say of it, and the message that it was.
//!
//! The writer of dead letters (`crate::broker::queues::dead_letters`) puts its headers behind those of the record, the reason
//! first. A letter that died again in a queue on a dead letter topic has two such blocks: the last one is of its last
//! death, and sending it back takes off that one alone.

use crate::limits;
use crate::types::record_set::{Record, encode_identified_record};
use crate::types::{Offset, TimestampMs, TopicName, TopicPartition};
use bytes::{Bytes, BytesMut};

/// The header that every block begins with, and how the names of all begin.
const REASON: &str = "dead-letter-reason";
const PREFIX: &str = "dead-letter-";

/// What the writer of dead letters puts into one header is no longer than this; what somebody else did is cut.
const FACT_BYTES_MAX: usize = limits::SETTLE_REASON_BYTES_MAX;

/// Headers of a message that was sent back: how many times, and which letter it was the last time.
const REDRIVEN_COUNT: &str = "redriven-count";
const REDRIVEN_FROM: &str = "redriven-from";

/// A dead letter.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its place in the dead letter topic.
    pub at: TopicPartition,
    /// See `at`.
    pub offset: Offset,
    /// When it died.
    pub append_time_ms: TimestampMs,
    /// Whether it was redriven or purged.
    pub resolved: bool,
    /// What its headers say.
    pub facts: LetterFacts,
    /// The record as it stands, decoded.
    pub record: Record,
    /// And encoded.
    pub body: Bytes,
}

/// What is known of a death. Empty where nothing is: by a letter that had no room for headers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LetterFacts {
    /// What the message died of.
    pub reason: String,
    /// What its worker said last.
    pub detail: String,
    /// Deliveries that counted.
    pub attempts: u32,
    /// The queue that gave it up.
    pub queue: String,
    /// Where it stood.
    pub origin: Option<(TopicPartition, Offset)>,
    /// When it was delivered for the first time.
    pub first_delivered_ms: TimestampMs,
    /// And for the last.
    pub last_delivered_ms: TimestampMs,
    /// What it is called for good.
    pub message_id: Option<String>,
    /// How many times it had been sent back before.
    pub redriven_count: u32,
}

impl LetterFacts {
    /// What the headers of a record say.
    pub(super) fn of(record: &Record) -> Self {
        let (own, facts) = split(&record.headers);
        let text = |name: &str| -> String {
            let header = facts.iter().find(|(found, _)| found.strip_prefix(PREFIX) == Some(name));
            let value = header.map(|(_, value)| &value[..value.len().min(FACT_BYTES_MAX)]);
            value.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        let origin = || {
            let topic = TopicName::new(&text("topic")).ok()?;
            let at = TopicPartition { topic, partition: text("partition").parse().ok()? };
            Some((at, Offset(text("offset").parse().ok()?)))
        };
        let time = |name| text(name).parse().unwrap_or(0);
        Self {
            reason: text("reason"),
            detail: text("detail"),
            attempts: text("attempts").parse().unwrap_or(0),
            queue: text("queue"),
            origin: origin(),
            first_delivered_ms: time("first-delivered-ms"),
            last_delivered_ms: time("last-delivered-ms"),
            message_id: Some(text("message-id")).filter(|id| !id.is_empty()),
            redriven_count: redriven_count(&own),
        }
    }
}

impl Letter {
    /// The message that it was, as a record set of one: what its death has added is off, that it was sent back is on.
    pub(super) fn revived(&self) -> BytesMut {
        let count = self.facts.redriven_count.saturating_add(1).to_string();
        let from = format!("{}/{}", self.at, self.offset);
        let (own, _) = split(&self.record.headers);
        let own = own.into_iter().filter(|(name, _)| ![REDRIVEN_COUNT, REDRIVEN_FROM].contains(&name.as_str()));
        let own = own.map(|(name, value)| (name.as_str(), value.as_ref()));
        let headers = own.chain([(REDRIVEN_COUNT, count.as_bytes()), (REDRIVEN_FROM, from.as_bytes())]);
        let Record { key, value, timestamp, message_id, .. } = &self.record;
        let id = self.facts.message_id.as_deref().or(message_id.as_deref());
        let mut set = BytesMut::new();
        encode_identified_record(&mut set, key.as_deref(), value.as_deref(), headers, *timestamp, id);
        set
    }
}

type Header = (String, Bytes);

/// A record's own headers, and those of its last death.
fn split(headers: &[Header]) -> (Vec<&Header>, Vec<&Header>) {
    let died = headers.iter().rposition(|(name, _)| name == REASON).unwrap_or(headers.len());
    let (before, behind) = headers.split_at(died);
    let (facts, added): (Vec<_>, Vec<_>) = behind.iter().partition(|(name, _)| name.starts_with(PREFIX));
    (before.iter().chain(added).collect(), facts)
}

fn redriven_count(own: &[&Header]) -> u32 {
    let last = own.iter().rfind(|(name, _)| name == REDRIVEN_COUNT);
    let count = last.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
    count.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::record_set::records;

    fn headers(pairs: &[(&str, &str)]) -> Vec<Header> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()))).collect()
    }

    fn letter(pairs: &[(&str, &str)]) -> Letter {
        let record = Record { value: Some("v".into()), headers: headers(pairs), ..Record::default() };
        let at = TopicPartition { topic: TopicName::new("work.dlq").expect("valid"), partition: 2 };
        let facts = LetterFacts::of(&record);
        let body = Bytes::new();
        Letter { at, offset: Offset(7), append_time_ms: 0, resolved: false, facts, record, body }
    }

    const DEATH: [(&str, &str); 5] = [
        ("dead-letter-reason", "rejected"),
        ("dead-letter-queue", "work"),
        ("dead-letter-topic", "orders"),
        ("dead-letter-partition", "3"),
        ("dead-letter-offset", "41"),
    ];

    #[test]
    fn a_revived_letter_has_its_own_headers_and_how_often_it_was_sent_back() {
        let own = [("trace", "t"), ("redriven-count", "1"), ("redriven-from", "work.dlq/0/3")];
        let dead = letter(&[&own[..], &DEATH].concat());
        assert_eq!((dead.facts.reason.as_str(), dead.facts.redriven_count), ("rejected", 1));
        let (origin, offset) = dead.facts.origin.as_ref().expect("it is known");
        assert_eq!((origin.to_string(), offset.0), ("orders/3".to_owned(), 41));
        let revived = records(&dead.revived().freeze()).next().expect("there is one");
        let expected = [("trace", "t"), ("redriven-count", "2"), ("redriven-from", "work.dlq/2/7")];
        assert_eq!(revived.headers, headers(&expected));
    }

    #[test]
    fn of_two_deaths_the_last_one_is_taken_off() {
        let first = [("dead-letter-reason", "attempts_exhausted"), ("dead-letter-queue", "first")];
        let dead = letter(&[&first[..], &DEATH, &[("added", "by hand")]].concat());
        assert_eq!(dead.facts.queue, "work");
        let revived = records(&dead.revived().freeze()).next().expect("there is one");
        assert_eq!(revived.headers[..3], headers(&[&first[..], &[("added", "by hand")]].concat()));
    }

    #[test]
    fn what_headers_do_not_say_is_not_known() {
        for pairs in [&[][..], &[("dead-letter-topic", "orders")], &[("redriven-count", "many")]] {
            assert_eq!(letter(pairs).facts, LetterFacts::default(), "{pairs:?}");
        }
        let odd = [("dead-letter-reason", "x"), ("dead-letter-attempts", "-1"), ("dead-letter-topic", "no name!")];
        let facts = letter(&odd).facts;
        assert_eq!((facts.attempts, facts.origin), (0, None));
    }
}
