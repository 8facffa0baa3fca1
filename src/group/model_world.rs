//! The model that `super::model_tests` holds random lives of groups against.
//!
//! It never looks inside: it keeps what each member reads and what it was asked to stop, from what the member was told
//! alone, and foretells every commit from that. `super::model_checks` holds it against the state.

use super::commit::{CommitRequest, OffsetToCommit};
use super::error::{CommitError, GroupError};
use super::event::{Decision, Event, Now};
use super::groups::Groups;
use super::ids::{Generation, GroupName, MemberId};
use super::journal_entries::encode;
use super::membership::{Assignor, JoinRequest, MemberEvent};
use super::model_tests::{GROUPS, INSTANCES, Step, TOPICS};
use super::state::UnfollowedSeek;
use super::test_support::{
    HIGH_WATERMARK, SESSION_TIMEOUT_MS, group, joining, joining_as, joining_by, offset_at, place, topics,
};
use super::topics::TopicsSnapshot;
use crate::partition::journal::JournalEntry;
use crate::types::{TopicId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a member knows of one partition.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    pub(super) topic_id: TopicId,
    pub(super) since: Generation,
    /// Set when it was told to stop: in which generation, and until when it may take its time.
    pub(super) revoked: Option<(Generation, u64)>,
    /// Set when the group was moved there and the member has not said that it follows.
    pub(super) seek: Option<UnfollowedSeek>,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) group: GroupName,
    pub(super) id: MemberId,
    pub(super) topics: Vec<&'static str>,
    pub(super) gone: bool,
    instance: Option<&'static str>,
    /// Set while it is away: until when.
    pub(super) away_until_ms: Option<u64>,
    pub(super) reads: BTreeMap<TopicPartition, Reads>,
}

pub(super) struct World {
    pub(super) groups: Groups,
    pub(super) journal: Vec<JournalEntry>,
    pub(super) now: Now,
    /// Name to identity and partitions, as the catalog has it.
    pub(super) topics: BTreeMap<&'static str, (u128, u32)>,
    topics_created: u128,
    pub(super) clients: Vec<Client>,
    pub(super) committed: BTreeMap<(GroupName, TopicPartition), u64>,
    pub(super) paused: BTreeSet<GroupName>,
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
            paused: BTreeSet::new(),
            generations: BTreeMap::new(),
        };
        world.groups.set_topics(world.snapshot_of_topics());
        world
    }

    pub(super) fn snapshot_of_topics(&self) -> Arc<TopicsSnapshot> {
        topics(&self.topics.iter().map(|(name, (id, partitions))| (*name, *id, *partitions)).collect::<Vec<_>>())
    }

    /// Takes one step, in the state and in the model.
    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::Join { group, topics, instance } => self.join(*group, topics, instance.map(|i| INSTANCES[i])),
            Step::Depart { member } => self.depart(*member),
            Step::Leave { member } => self.leave(*member, false),
            Step::Evict { member } => self.leave(*member, true),
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
            Step::Fork { group } => self.fork(GROUPS[*group], GROUPS[1 - *group]),
            Step::Pause { group, paused } => self.pause(GROUPS[*group], *paused),
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

    fn join(&mut self, number: usize, topics: &[usize], instance: Option<&'static str>) {
        let by_pattern = topics.is_empty();
        let named: Vec<&str> = topics.iter().map(|&t| TOPICS[t]).collect();
        let exist = named.iter().all(|name| self.topics.contains_key(name));
        let wanted = if by_pattern { TOPICS.to_vec() } else { named.clone() };
        let request = match instance {
            Some(id) => joining_as(GROUPS[number], &named, id),
            None => joining(GROUPS[number], &named),
        };
        let patterns = if by_pattern { joining_by(GROUPS[number], "?").patterns } else { Vec::new() };
        // One group shares in ranges, the other evenly.
        let assignor = if number == 0 { Assignor::Balanced } else { Assignor::Range };
        let request = JoinRequest { patterns, assignor, ..request };
        let Ok(decision) = self.groups.decide_join(&request, self.now) else {
            return assert!(!exist, "a join to topics that exist was refused");
        };
        assert!(exist, "a join to a topic that does not exist was accepted");
        let id = decision.reply.clone();
        assert!(self.clients.iter().all(|c| c.id != id || c.group != group(GROUPS[number])), "{id} was used before");
        self.succeed(&group(GROUPS[number]), &wanted, instance, &decision);
        self.clients.push(Client {
            group: group(GROUPS[number]),
            id,
            topics: wanted,
            gone: false,
            instance,
            away_until_ms: None,
            reads: BTreeMap::new(),
        });
        self.enact(decision);
    }

    /// Who had the instance id until now is gone, and unless it wanted something else nobody hears of it.
    fn succeed(
        &mut self,
        name: &GroupName,
        topics: &[&str],
        instance: Option<&'static str>,
        decision: &Decision<MemberId>,
    ) {
        let mut holders = self.clients.iter_mut().filter(|client| client.group == *name && !client.gone);
        let before = holders.find(|client| instance.is_some() && client.instance == instance);
        let fenced = decision.effects.iter().filter(|effect| matches!(effect.event, MemberEvent::Removed { .. }));
        let fenced: Vec<_> = fenced.map(|effect| &effect.member).collect();
        let Some(before) = before else { return assert!(fenced.is_empty(), "nobody was there to be fenced") };
        let is_here = before.away_until_ms.is_none();
        assert_eq!(fenced, [&before.id].into_iter().filter(|_| is_here).collect::<Vec<_>>());
        if before.topics == topics && before.reads.values().all(|reads| reads.revoked.is_none()) {
            let others: Vec<_> = decision.effects.iter().filter(|e| e.member != decision.reply).collect();
            assert_eq!(others.len(), fenced.len(), "others were disturbed: {others:?}");
        }
        before.gone = true;
        before.reads.clear();
    }

    fn depart(&mut self, member: usize) {
        let Some(client) = self.clients.get_mut(member) else { return };
        let decided = self.groups.decide_departure(&client.group, &client.id, self.now);
        assert_eq!(decided.is_err(), client.gone, "only members can go");
        if client.instance.is_some() {
            client.away_until_ms = Some(self.now.monotonic_ms + SESSION_TIMEOUT_MS);
            client.reads.retain(|_, reads| reads.revoked.is_none());
        } else {
            client.gone = true;
            client.reads.clear();
        }
        if let Ok(decision) = decided {
            self.enact(decision);
        }
    }

    /// By itself, or taken out by somebody; then it is told, unless it is away.
    fn leave(&mut self, member: usize, evicted: bool) {
        let Some(client) = self.clients.get_mut(member) else { return };
        let decide = if evicted { Groups::decide_evict } else { Groups::decide_leave };
        let decided = decide(&self.groups, &client.group, &client.id, self.now);
        assert_eq!(decided.is_err(), client.gone, "only members can leave");
        let is_told = evicted && client.away_until_ms.is_none();
        client.gone = true;
        client.reads.clear();
        if let Ok(decision) = decided {
            let told = decision.effects.iter().filter(|told| matches!(told.event, MemberEvent::Removed { .. }));
            assert_eq!(
                told.map(|told| &told.member).collect::<Vec<_>>(),
                Vec::from_iter(is_told.then_some(&client.id))
            );
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
            let now_ms = self.now.monotonic_ms;
            let clients = self.clients.iter_mut().filter(|client| client.group == name);
            for client in clients.filter(|client| client.away_until_ms.is_some_and(|until_ms| until_ms <= now_ms)) {
                client.gone = true;
                client.reads.clear();
            }
            let decision = self.groups.decide_absences(&name, self.now);
            self.enact(decision);
        }
    }

    fn fork(&mut self, source: &str, target: &str) {
        let decided = self.groups.decide_fork(&group(source), &group(target), self.now);
        let Ok(decision) = decided else { return };
        assert!(self.committed.keys().all(|(of, _)| *of != group(target)), "nothing is written over");
        assert!(self.clients.iter().all(|client| client.gone || client.group != group(target)));
        let copied = self.committed.iter().filter(|((of, _), _)| *of == group(source));
        let copied: Vec<_> = copied.map(|((_, at), offset)| ((group(target), at.clone()), *offset)).collect();
        assert_eq!(decision.reply.len(), copied.len());
        self.committed.extend(copied);
        self.enact(decision);
    }

    fn pause(&mut self, name: &str, paused: bool) {
        let Ok(decision) = self.groups.decide_pause(&group(name), paused) else { return };
        if paused {
            self.paused.insert(group(name));
        } else {
            self.paused.remove(&group(name));
        }
        self.enact(decision);
    }

    fn delete(&mut self, name: &str) {
        let Ok(decision) = self.groups.decide_delete(&group(name)) else { return };
        assert!(self.clients.iter().all(|client| client.gone || client.group != group(name)));
        self.paused.remove(&group(name));
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
            if let Event::GenerationAdvanced { group, generation, .. } = event {
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
        self.take_from_the_away(&decision.effects);
        decision.effects.into_iter().for_each(|effect| self.hear(effect));
    }
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
