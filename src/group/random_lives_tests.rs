//! Random lives of the coordinator itself, held against what its members may conclude from their events.
//!
//! Smaller than the model of the pure state (`super::model_tests`); what it adds is the task: real drops, real waiting,
//! a journal, and a crash that loses everything else.

use super::coordinator::GroupCoordinator;
use super::coordinator_tests::{commit, join, settle, start, two_partitions};
use super::groups::Groups;
use super::ids::Generation;
use super::membership::{MemberEvent, Membership};
use super::rebalance::RELEASE_MS;
use super::test_support::{MemoryJournal, group, place};
use crate::types::TopicPartition;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, advance};

#[derive(Debug, Clone)]
enum Step {
    Join,
    Drop(usize),
    Release(usize),
    Commit(usize, u32, u64),
    Wait(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Join),
        2 => (0..5_usize).prop_map(Step::Drop),
        4 => (0..5_usize).prop_map(Step::Release),
        6 => (0..5_usize, 0..2_u32, 0..50_u64).prop_map(|(member, p, offset)| Step::Commit(member, p, offset)),
        3 => (0..RELEASE_MS).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

struct Reader {
    membership: Membership,
    /// The generation and the end of its time, for what it was told to stop.
    reads: BTreeMap<TopicPartition, Option<(Generation, Instant)>>,
}

struct Life {
    journal: Arc<MemoryJournal>,
    groups: GroupCoordinator,
    readers: Vec<Reader>,
    committed: BTreeMap<u32, u64>,
}

impl Life {
    async fn take(&mut self, step: Step) {
        match step {
            Step::Join => {
                let membership = join(&self.groups).await;
                self.readers.push(Reader { membership, reads: BTreeMap::new() });
            }
            Step::Drop(number) if number < self.readers.len() => drop(self.readers.remove(number)),
            Step::Release(number) if number < self.readers.len() => {
                let reader = &mut self.readers[number];
                let revoked = reader.reads.values().find_map(|revoked| revoked.map(|(generation, _)| generation));
                let generation = revoked.unwrap_or_default();
                reader.reads.retain(|_, revoked| revoked.is_none_or(|(of, _)| of != generation));
                let member = reader.membership.member_id.clone();
                self.groups.release(group("g"), member, generation).await.unwrap();
            }
            Step::Commit(number, partition, offset) if number < self.readers.len() => {
                let reader = &self.readers[number];
                let request = commit(Some(&reader.membership.member_id), partition, offset);
                let accepted = self.groups.commit(request).await.unwrap()[0].is_ok();
                let owns = reader.reads.contains_key(&place("t", partition));
                let back = self.committed.get(&partition).is_some_and(|before| offset < *before);
                assert_eq!(accepted, owns && !back);
                if accepted {
                    self.committed.insert(partition, offset);
                }
            }
            Step::Wait(ms) => {
                advance(Duration::from_millis(ms)).await;
                let now = Instant::now();
                for reader in &mut self.readers {
                    reader.reads.retain(|_, revoked| revoked.is_none_or(|(_, deadline)| now < deadline));
                }
            }
            Step::Restart => {
                // What the old life still writes while it ends is lost with it, as in a crash.
                self.journal = MemoryJournal::open_with(self.journal.entries());
                self.groups = start(&self.journal);
                self.readers.clear();
            }
            Step::Drop(_) | Step::Release(_) | Step::Commit(..) => {}
        }
    }

    /// Hears everything that was said, losses before gains, and holds it against each other.
    async fn check(&mut self) {
        settle().await;
        let mut gains = Vec::new();
        for (number, reader) in self.readers.iter_mut().enumerate() {
            while let Ok(event) = reader.membership.events.try_recv() {
                match event {
                    MemberEvent::Assigned { partitions, .. } => gains.push((number, partitions)),
                    MemberEvent::Revoked { generation, partitions } => {
                        let deadline = Instant::now() + Duration::from_millis(RELEASE_MS);
                        for partition in partitions {
                            let before = reader.reads.insert(partition, Some((generation, deadline)));
                            assert_eq!(before, Some(None), "revoked once, after it was assigned");
                        }
                    }
                    MemberEvent::Sought { .. } | MemberEvent::PauseChanged { .. } => panic!("nobody asked for it"),
                    MemberEvent::Removed { reason } => panic!("{reason:?}"),
                }
            }
        }
        for (number, (partition, offset)) in
            gains.into_iter().flat_map(|(number, partitions)| partitions.into_iter().map(move |p| (number, p)))
        {
            let taken = self.readers.iter().any(|reader| reader.reads.contains_key(&partition));
            assert!(!taken, "{partition} has two owners");
            let expected = self.committed.get(&partition.partition).copied();
            assert_eq!(offset.map(|offset| offset.0), expected);
            self.readers[number].reads.insert(partition, None);
        }
        let owned: usize = self.readers.iter().map(|reader| reader.reads.len()).sum();
        assert_eq!(owned, if self.readers.is_empty() { 0 } else { 2 }, "every partition has its owner");
        let durable = Groups::replay(self.journal.entries(), two_partitions()).unwrap();
        assert_eq!(durable.snapshot(), self.groups.snapshot().await.unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_coordinator_keeps_its_promises_through_any_life(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let journal = MemoryJournal::open();
            let groups = start(&journal);
            let mut life = Life { journal, groups, readers: Vec::new(), committed: BTreeMap::new() };
            for step in steps {
                life.take(step).await;
                life.check().await;
            }
        });
    }
}
