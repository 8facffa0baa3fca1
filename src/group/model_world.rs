//! The model that `super::model_tests` holds random lives of groups against.
//!
//! It never looks inside: it keeps what each member reads and what it was asked to stop, from what the member was told
//! alone, and foretells every commit from that.

use super::commit::{CommitRequest, OffsetToCommit};
use super::error::{CommitError, GroupError};
use super::event::{Decision, Effect, Event, Now};
use super::groups::Groups;
use super::ids::{Generation, GroupName, MemberId};
use super::journal_entries::encode;
use super::membership::MemberEvent;
use super::model_tests::{GROUPS, Step, TOPICS};
use super::rebalance::RELEASE_MS;
use super::state::UnfollowedSeek;
use super::test_support::{HIGH_WATERMARK, group, joining, offset_at, place, topics};
use super::topics::TopicsSnapshot;
use crate::partition::journal::JournalEntry;
use crate::types::{TopicId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a member knows of one partition.
#[derive(Debug, Clone)]
struct Reads {
    topic_id: TopicId,
    since: Generation,
    /// Set when it was told to stop: in which generation, and until when it may take its time.
    revoked: Option<(Generation, u64)>,
    /// Set when the group was moved there and the member has not said that it follows.
    seek: Option<UnfollowedSeek>,
}

#[derive(Debug)]
struct Client {
    group: GroupName,
    id: MemberId,
    topics: Vec<&'static str>,
    gone: bool,
    reads: BTreeMap<TopicPartition, Reads>,
}

pub(super) struct World {
    groups: Groups,
    journal: Vec<JournalEntry>,
    now: Now,
    /// Name to identity and partitions, as the catalog has it.
    topics: BTreeMap<&'static str, (u128, u32)>,
    topics_created: u128,
    clients: Vec<Client>,
    committed: BTreeMap<(GroupName, TopicPartition), u64>,
    /// The highest generation each group was ever in, over restarts and deletions.
    generations: BTreeMap<GroupName, Generation>,
}

impl World {
    pub(super) fn new() -> Self {
        let names = TOPICS.into_iter().zip([(1, 3), (2, 5), (3, 1)]).collect();
        let mut world = Self {
            groups: Groups::default(),
            journal: Vec::new(),
            now: Now { monotonic_ms: 0, wall_ms: 0 },
            topics: names,
            topics_created: 3,
            clients: Vec::new(),
            committed: BTreeMap::new(),
            generations: BTreeMap::new(),
        };
        world.groups.set_topics(world.snapshot_of_topics());
        world
    }

    fn snapshot_of_topics(&self) -> Arc<TopicsSnapshot> {
        topics(&self.topics.iter().map(|(name, (id, partitions))| (*name, *id, *partitions)).collect::<Vec<_>>())
    }

    /// Takes one step, in the state and in the model.
    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::Join { group, topics } => self.join(*group, topics),
            Step::Leave { member } => self.leave(*member),
            Step::Release { member, back } => self.release(*member, *back),
            Step::Commit { member, generation, topic, partition, offset } => {
                self.commit(*member, *generation, &offset_at(TOPICS[*topic], *partition, *offset));
            }
            Step::CommitFromOutside { group: name, topic, partition, offset } => {
                let offset = offset_at(TOPICS[*topic], *partition, *offset);
                self.commit_from_outside(GROUPS[*name], &offset);
            }
            Step::Seek { group: name, topic, partition, offset } => {
                let offset = offset_at(TOPICS[*topic], *partition, *offset);
                self.seek(GROUPS[*name], &offset);
            }
            Step::Wait { ms } => self.wait(*ms),
            Step::Delete { group } => self.delete(GROUPS[*group]),
            Step::AddPartitions { topic } => {
                self.topics.entry(TOPICS[*topic]).and_modify(|(_, partitions)| *partitions = (*partitions + 1).min(7));
                self.topics_changed();
            }
            Step::DeleteTopic { topic } => {
                self.topics.remove(TOPICS[*topic]);
                self.topics_changed();
            }
            Step::CreateTopic { topic } => {
                self.topics_created += 1;
                self.topics.insert(TOPICS[*topic], (self.topics_created, 2));
                self.topics_changed();
            }
            Step::Restart { from_snapshot } => self.restart(*from_snapshot),
        }
    }

    fn join(&mut self, number: usize, topics: &[usize]) {
        let names: Vec<&str> = topics.iter().map(|&t| TOPICS[t]).collect();
        let exist = names.iter().all(|name| self.topics.contains_key(name));
        let Ok(decision) = self.groups.decide_join(&joining(GROUPS[number], &names), self.now) else {
            return assert!(!exist, "a join to topics that exist was refused");
        };
        assert!(exist, "a join to a topic that does not exist was accepted");
        let id = decision.reply.clone();
        assert!(self.clients.iter().all(|c| c.id != id || c.group != group(GROUPS[number])), "{id} was used before");
        self.clients.push(Client {
            group: group(GROUPS[number]),
            id,
            topics: names,
            gone: false,
            reads: BTreeMap::new(),
        });
        self.enact(decision);
    }

    fn leave(&mut self, member: usize) {
        let Some(client) = self.clients.get_mut(member) else { return };
        let decided = self.groups.decide_leave(&client.group, &client.id, self.now);
        assert_eq!(decided.is_err(), client.gone, "only members can leave");
        client.gone = true;
        client.reads.clear();
        if let Ok(decision) = decided {
            self.enact(decision);
        }
    }

    fn release(&mut self, member: usize, back: usize) {
        let Some(client) = self.clients.get_mut(member) else { return };
        let heard = |reads: &Reads| {
            let sought = reads.seek.and_then(|seek| if let UnfollowedSeek::Told(g) = seek { Some(g) } else { None });
            [reads.revoked.map(|(g, _)| g), sought].into_iter().flatten()
        };
        let heard: BTreeSet<Generation> = client.reads.values().flat_map(heard).collect();
        let generation = heard.into_iter().rev().nth(back).unwrap_or(Generation(back as u64));
        client.reads.retain(|_, reads| reads.revoked.is_none_or(|(revoked, _)| revoked != generation));
        for reads in client.reads.values_mut() {
            reads.seek = reads.seek.filter(|seek| *seek != UnfollowedSeek::Told(generation));
        }
        let decided = self.groups.decide_release(&client.group, &client.id, generation);
        assert_eq!(decided.is_err(), client.gone, "only members can release");
        if let Ok(decision) = decided {
            self.enact(decision);
        }
    }

    /// `generation` counts back from one after the group's present one.
    fn commit(&mut self, member: usize, generation: Option<u64>, offset: &OffsetToCommit) {
        let Some(client) = self.clients.get(member) else { return };
        let current = self.generations[&client.group];
        let generation = generation.map(|back| Generation((current.0 + 1).saturating_sub(back)));
        let (name, place) =
            (client.group.clone(), TopicPartition { topic: offset.topic.clone(), partition: offset.partition });
        let member = Some((client.id.clone(), generation));
        let request = CommitRequest { group: name.clone(), member, offsets: vec![offset.clone()] };
        let decided = self.groups.decide_commit(&request, self.now);
        if client.gone {
            let refused = decided.map(|_| ()).unwrap_err();
            return assert!(matches!(refused, GroupError::UnknownMember { .. }), "{refused}");
        }
        let before = self.committed.get(&(name.clone(), place.clone())).copied();
        let mut decision = decided.expect("a member may commit");
        let result = decision.reply.remove(0);
        match (self.topics.get(place.topic.as_str()), client.reads.get(&place)) {
            (None, _) => assert!(matches!(result, Err(CommitError::UnknownTopic { .. }))),
            (Some((_, partitions)), _) if place.partition >= *partitions => {
                assert!(matches!(result, Err(CommitError::UnknownPartition { .. })));
            }
            (Some((id, _)), reads) => {
                let foretold = Self::foretell(reads, *id, generation, current, offset, before);
                assert_eq!(result.as_ref().err().map(kind), foretold, "{result:?}");
            }
        }
        assert_eq!(decision.events.is_empty(), result.is_err(), "a refused commit has no effect");
        if result.is_ok() {
            self.committed.insert((name, place), offset.offset.0);
        }
        self.enact(decision);
    }

    fn foretell(
        reads: Option<&Reads>,
        topic_id: u128,
        generation: Option<Generation>,
        current: Generation,
        offset: &OffsetToCommit,
        before: Option<u64>,
    ) -> Option<&'static str> {
        let Some(reads) = reads.filter(|reads| reads.topic_id.0.as_u128() == topic_id) else { return Some("owner") };
        let is_of_before = match reads.seek {
            Some(UnfollowedSeek::Told(_)) => generation.is_none(),
            Some(UnfollowedSeek::Stopping) => true,
            None => false,
        };
        if is_of_before {
            return Some("seek");
        }
        if generation.is_some_and(|generation| generation < reads.since || generation > current) {
            return Some("generation");
        }
        if offset.offset > HIGH_WATERMARK {
            return Some("range");
        }
        before.is_some_and(|before| offset.offset.0 < before).then_some("below")
    }

    fn commit_from_outside(&mut self, name: &str, offset: &OffsetToCommit) {
        let key = (group(name), place(offset.topic.as_str(), offset.partition));
        let request = CommitRequest { group: group(name), member: None, offsets: vec![offset.clone()] };
        let decided = self.groups.decide_commit(&request, self.now);
        if self.clients.iter().any(|client| !client.gone && client.group == group(name)) {
            return assert!(matches!(decided.map(|_| ()), Err(GroupError::HasMembers { .. })));
        }
        let mut decision = decided.expect("nobody is there to be disturbed");
        let back = self.committed.get(&key).is_some_and(|before| offset.offset.0 < *before);
        let accepted = self.exists(offset) && !back;
        assert_eq!(decision.reply.remove(0).is_ok(), accepted);
        if accepted {
            self.committed.insert(key, offset.offset.0);
        }
        self.enact(decision);
    }

    fn seek(&mut self, name: &str, offset: &OffsetToCommit) {
        let (name, at) = (group(name), place(offset.topic.as_str(), offset.partition));
        let decided = self.groups.decide_seek(&name, std::slice::from_ref(offset), self.now);
        let mut decision = decided.expect("a seek needs nothing of the group");
        assert_eq!(decision.reply.remove(0).is_ok(), self.exists(offset));
        if !self.exists(offset) {
            assert!(decision.events.is_empty() && decision.effects.is_empty(), "a refused seek has no effect");
            return;
        }
        let topic_id = self.topics[offset.topic.as_str()].0;
        let readers = self.clients.iter_mut().filter(|client| client.group == name);
        let owned = readers.filter_map(|client| client.reads.get_mut(&at));
        let owned: Vec<_> = owned.filter(|reads| reads.topic_id.0.as_u128() == topic_id).collect();
        assert_eq!(decision.effects.len(), owned.iter().filter(|reads| reads.revoked.is_none()).count());
        // One that stops already is told nothing, and may commit no more.
        let next = self.generations.get(&name).copied().unwrap_or_default().next();
        for reads in owned.into_iter().filter(|reads| reads.revoked.is_some()) {
            (reads.since, reads.seek) = (next, Some(UnfollowedSeek::Stopping));
        }
        self.committed.insert((name, at), offset.offset.0);
        self.enact(decision);
    }

    fn exists(&self, offset: &OffsetToCommit) -> bool {
        let partitions = self.topics.get(offset.topic.as_str()).map_or(0, |(_, partitions)| *partitions);
        offset.partition < partitions && offset.offset <= HIGH_WATERMARK
    }

    fn wait(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        for client in &mut self.clients {
            let now_ms = self.now.monotonic_ms;
            client.reads.retain(|_, reads| reads.revoked.is_none_or(|(_, deadline_ms)| now_ms < deadline_ms));
        }
        for name in self.groups.take_due(self.now) {
            let decision = self.groups.decide_expiry(&name, self.now);
            self.enact(decision);
        }
    }

    fn delete(&mut self, name: &str) {
        let Ok(decision) = self.groups.decide_delete(&group(name)) else { return };
        assert!(self.clients.iter().all(|client| client.gone || client.group != group(name)));
        self.committed.retain(|(of, _), _| *of != group(name));
        self.enact(decision);
    }

    fn topics_changed(&mut self) {
        let (topics, before) = (self.snapshot_of_topics(), Arc::clone(self.groups.topics()));
        self.committed
            .retain(|(_, place), _| topics.get(&place.topic).map(|t| t.id) == before.get(&place.topic).map(|t| t.id));
        let decision = self.groups.decide_topics_changed(&topics, self.now);
        self.groups.set_topics(topics);
        self.enact(decision);
    }

    fn restart(&mut self, from_snapshot: bool) {
        if from_snapshot {
            self.journal = self.groups.snapshot();
        }
        self.groups = Groups::replay(self.journal.clone(), self.snapshot_of_topics()).expect("we wrote it");
        self.now.monotonic_ms = 0;
        for client in &mut self.clients {
            client.gone = true;
            client.reads.clear();
        }
    }

    /// Applies and journals what was decided, then lets the members hear of it.
    fn enact<R>(&mut self, decision: Decision<R>) {
        let mut advanced = BTreeMap::new();
        for event in &decision.events {
            self.journal.extend(encode(event));
            self.groups.apply(event);
            if let Event::GenerationAdvanced { group, generation } = event {
                advanced.insert(group.clone(), *generation);
            }
        }
        for (group, generation) in advanced {
            let before = self.generations.insert(group.clone(), generation).unwrap_or_default();
            // Only the making of a group without members leaves it in a generation that was there.
            let used = self.groups.describe(&group, self.now).is_ok_and(|described| described.summary.members > 0);
            assert!(
                generation > before || (generation == before && !used),
                "{group} went from {before} to {generation}"
            );
        }
        decision.effects.into_iter().for_each(|effect| self.hear(effect));
    }

    fn hear(&mut self, effect: Effect) {
        let Effect { group, member, event } = effect;
        match event {
            MemberEvent::Assigned { generation, partitions } => {
                for (partition, committed) in partitions {
                    let others = self
                        .clients
                        .iter()
                        .filter(|client| client.group == group && client.reads.contains_key(&partition));
                    let others: Vec<_> = others.map(|client| &client.id).collect();
                    assert!(others.is_empty(), "{partition} was given to {member} while it was with {others:?}");
                    let expected = self.committed.get(&(group.clone(), partition.clone())).copied();
                    assert_eq!(committed.map(|offset| offset.0), expected, "{partition}");
                    let topic_id = self.groups.topics().get(&partition.topic).expect("given partitions exist").id;
                    let client = self.clients.iter_mut().find(|c| c.group == group && c.id == member && !c.gone);
                    let reads = Reads { topic_id, since: generation, revoked: None, seek: None };
                    client.expect("only members are told").reads.insert(partition, reads);
                }
            }
            MemberEvent::Revoked { generation, partitions } => {
                let client = self.clients.iter_mut().find(|c| c.group == group && c.id == member && !c.gone);
                let client = client.expect("only members are told");
                for partition in partitions {
                    let reads = client.reads.get_mut(&partition).expect("what is revoked was assigned");
                    assert!(reads.revoked.is_none(), "{partition} was revoked twice");
                    reads.revoked = Some((generation, self.now.monotonic_ms + RELEASE_MS));
                }
            }
            MemberEvent::Sought { generation, partitions } => {
                let client = self.clients.iter_mut().find(|c| c.group == group && c.id == member && !c.gone);
                let client = client.expect("only members are told");
                for (partition, offset) in partitions {
                    assert_eq!(self.committed[&(group.clone(), partition.clone())], offset.0);
                    let reads = client.reads.get_mut(&partition).expect("only owners are told");
                    assert!(reads.revoked.is_none(), "{partition} was revoked before");
                    (reads.since, reads.seek) = (generation, Some(UnfollowedSeek::Told(generation)));
                }
            }
            MemberEvent::Removed { reason } => panic!("the state removes nobody by itself: {reason:?}"),
        }
    }

    /// Holds the state, the journal and the model against each other.
    pub(super) fn check(&self) {
        for name in GROUPS {
            self.check_every_partition_is_with_somebody(&group(name));
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

fn kind(error: &CommitError) -> &'static str {
    match error {
        CommitError::UnknownTopic { .. } | CommitError::UnknownPartition { .. } => "place",
        CommitError::MetadataTooLong { .. } => "metadata",
        CommitError::NotOwner { .. } => "owner",
        CommitError::StaleGeneration { .. } => "generation",
        CommitError::BeforeSeek { .. } => "seek",
        CommitError::BelowCommitted { .. } => "below",
        CommitError::OutOfRange { .. } => "range",
    }
}
