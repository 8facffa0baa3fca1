//! The journal entries of one drain, with what was settled in a partition gathered in one of them.
//!
//! Workers that acknowledge each message by itself would otherwise write an entry for each. Settlements of one partition
//! that follow each other say together what they said one by one, as long as nothing else happened to the partition in
//! between; and partitions know nothing of each other.

use super::event::{Event, Settlement};
use super::ids::{PartitionKey, QueueName};
use super::journal_entries::encode;
use crate::partition::journal::JournalEntry;
use std::collections::BTreeMap;

/// About what a settlement adds to an entry, in bytes.
const SETTLEMENT_BYTES: usize = 32;

/// Entries in the making.
#[derive(Debug, Default, Clone)]
pub(super) struct DrainEntries {
    entries: Vec<JournalEntry>,
    settled: BTreeMap<(QueueName, PartitionKey), Settlement>,
    bytes: usize,
}

impl DrainEntries {
    /// Adds what is durable of an event.
    pub(super) fn push(&mut self, event: &Event) {
        match event {
            Event::Settled { queue, at, settlement } => {
                self.settled.entry((queue.clone(), *at)).or_default().add(settlement);
                self.bytes += SETTLEMENT_BYTES;
                return;
            }
            Event::Delivered { queue, at, .. } => {
                if let Some(settled) = self.settled.remove_entry(&(queue.clone(), *at)) {
                    self.write(settled);
                }
            }
            _ => {}
        }
        let Some(entry) = encode(event) else { return };
        if !matches!(event, Event::Delivered { .. }) {
            self.write_settled();
        }
        self.add(entry);
    }

    /// About how long they are, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of them, in order, and how long they are.
    pub(super) fn finish(mut self) -> (Vec<JournalEntry>, usize) {
        self.write_settled();
        (self.entries, self.bytes)
    }

    fn write_settled(&mut self) {
        for settled in std::mem::take(&mut self.settled) {
            self.write(settled);
        }
    }

    fn write(&mut self, ((queue, at), settlement): ((QueueName, PartitionKey), Settlement)) {
        if let Some(entry) = encode(&Event::Settled { queue, at, settlement }) {
            self.add(entry);
        }
    }

    fn add(&mut self, entry: JournalEntry) {
        self.bytes += entry.key.len() + entry.value.as_ref().map_or(0, bytes::Bytes::len);
        self.entries.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{HandedOut, MessageKey, Moment};
    use super::super::journal_entries::decode;
    use super::super::test_support::{config, partition, queue};
    use super::*;
    use crate::types::Offset;

    fn acked(at: u32, offset: u64) -> Event {
        let settlement = Settlement { acked: vec![Offset(offset)..Offset(offset + 1)], ..Settlement::default() };
        Event::Settled { queue: queue("work"), at: partition(at), settlement }
    }

    fn delivered(at: u32, offset: u64) -> Event {
        let messages = vec![HandedOut { offset: Offset(offset), bytes: 0, key: MessageKey::Unknown }];
        Event::Delivered { queue: queue("work"), at: partition(at), messages, at_ms: 0, lease: None }
    }

    fn written(events: &[Event]) -> Vec<Event> {
        let mut entries = DrainEntries::default();
        for event in events {
            entries.push(event);
        }
        entries.finish().0.iter().map(|entry| decode(entry).unwrap()).collect()
    }

    #[test]
    fn acks_of_one_partition_are_one_entry_of_ranges() {
        let failed = vec![(Offset(9), Moment { monotonic_ms: 0, wall_ms: 5 })];
        let settlement = Settlement { failed: failed.clone(), ..Settlement::default() };
        let nack = Event::Settled { queue: queue("work"), at: partition(0), settlement };
        let events = [acked(0, 1), acked(1, 7), acked(0, 2), nack, acked(0, 4)];
        let one =
            Settlement { acked: vec![Offset(1)..Offset(3), Offset(4)..Offset(5)], failed, ..Settlement::default() };
        let expected = [Event::Settled { queue: queue("work"), at: partition(0), settlement: one }, acked(1, 7)];
        assert_eq!(written(&events), expected);
    }

    #[test]
    fn what_else_happens_to_a_partition_keeps_its_place() {
        let events = [acked(0, 1), acked(1, 1), delivered(0, 2), acked(0, 2)];
        assert_eq!(written(&events), [acked(0, 1), delivered(0, 2), acked(0, 2), acked(1, 1)]);
        let set = Event::QueueSet { config: config("work", |_| ()) };
        let events = [acked(0, 1), set.clone(), acked(0, 2)];
        assert_eq!(written(&events), [acked(0, 1), set, acked(0, 2)]);
    }
}
