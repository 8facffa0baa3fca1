//! What must hold after each step of a life: the state, the journal and the model of `super::model_world` say the same.

use super::groups::Groups;
use super::ids::GroupName;
use super::model_tests::GROUPS;
use super::model_world::{Client, World};
use super::test_support::{group, place};
use crate::partition::journal::JournalEntry;
use std::collections::BTreeMap;

impl World {
    /// Holds the state, the journal and the model against each other.
    pub(super) fn check(&self) {
        for name in GROUPS {
            self.check_every_partition_is_with_somebody(&group(name));
            let summary = self.groups.describe(&group(name), self.now).map(|described| described.summary);
            assert_eq!(summary.is_ok_and(|summary| summary.is_paused), self.paused.contains(&group(name)));
            let offsets = self.groups.committed(&group(name), &[]);
            let offsets: BTreeMap<_, _> =
                offsets.iter().map(|c| ((group(name), place(c.topic.as_str(), c.partition)), c.offset.0)).collect();
            let expected: BTreeMap<_, _> =
                self.committed.iter().filter(|((of, _), _)| *of == group(name)).map(|(k, v)| (k.clone(), *v)).collect();
            assert_eq!(offsets, expected);
        }
        let snapshot = self.groups.snapshot();
        let replay = |entries: &[JournalEntry]| {
            Groups::replay(entries.to_vec(), self.snapshot_of_topics()).expect("we wrote it").snapshot()
        };
        assert_eq!(replay(&self.journal), snapshot, "the journal replays to what is there");
        assert_eq!(replay(&snapshot), snapshot, "the snapshot replays to what is there");
        assert_eq!(replay(&compacted(&self.journal)), snapshot, "so does a compacted journal");
    }

    /// Whatever is read by somebody at all is read, or being given up, by exactly one member of the group.
    fn check_every_partition_is_with_somebody(&self, name: &GroupName) {
        let Ok(described) = self.groups.describe(name, self.now) else { return };
        let clients: Vec<&Client> = self.clients.iter().filter(|c| c.group == *name && !c.gone).collect();
        assert_eq!(described.members.len(), clients.len());
        for partition in &described.partitions {
            let with: Vec<_> = clients.iter().filter(|c| c.reads.contains_key(&partition.partition)).collect();
            assert!(with.len() <= 1, "{} is with {with:?}", partition.partition);
            assert_eq!(with.first().map(|client| &client.id), partition.owner.as_ref(), "{}", partition.partition);
        }
        for topic in clients.iter().flat_map(|client| &client.topics) {
            for partition in 0..self.topics.get(topic).map_or(0, |(_, partitions)| *partitions) {
                let reads = clients.iter().find_map(|client| client.reads.get(&place(topic, partition)));
                let reads = reads.unwrap_or_else(|| panic!("{topic}/{partition} is subscribed to and with nobody"));
                let of_this_topic = reads.topic_id.0.as_u128() == self.topics[topic].0;
                assert!(of_this_topic || reads.revoked.is_some(), "{topic}/{partition} is read as of a deleted topic");
            }
        }
        for member in &described.members {
            let client = clients.iter().find(|c| c.id == member.member_id).expect("members are clients");
            assert_eq!(member.partitions, client.reads.keys().cloned().collect::<Vec<_>>(), "{}", client.id);
        }
    }
}

/// Only the last entry of each key, in the order of the journal.
fn compacted(journal: &[JournalEntry]) -> Vec<JournalEntry> {
    let last: BTreeMap<_, usize> =
        journal.iter().enumerate().map(|(place, entry)| (entry.key.clone(), place)).collect();
    journal.iter().enumerate().filter(|(place, entry)| last[&entry.key] == *place).map(|(_, e)| e.clone()).collect()
}
