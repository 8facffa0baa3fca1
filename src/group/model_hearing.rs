//! What members of `super::model_world` conclude from what they are told.

use super::event::Effect;
use super::ids::GroupName;
use super::membership::{MemberEvent, RemovalReason};
use super::model_world::{Reads, World};
use super::rebalance::RELEASE_MS;
use super::state::UnfollowedSeek;
use crate::types::TopicPartition;

impl World {
    /// Who is away is told nothing: what others get, or what is gone, it has lost.
    pub(super) fn take_from_the_away(&mut self, effects: &[Effect]) {
        let given = |name: &GroupName, partition: &TopicPartition| {
            effects.iter().filter(|effect| effect.group == *name).any(|effect| match &effect.event {
                MemberEvent::Assigned { partitions, .. } => partitions.iter().any(|(given, _)| given == partition),
                _ => false,
            })
        };
        for client in self.clients.iter_mut().filter(|client| client.away_until_ms.is_some()) {
            let topics = self.groups.topics();
            client.reads.retain(|at, reads| topics.has(at, reads.topic_id) && !given(&client.group, at));
        }
    }

    pub(super) fn hear(&mut self, effect: Effect) {
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
                assert_eq!(client.away_until_ms, None, "who is away cannot stop anything");
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
            MemberEvent::PauseChanged { paused } => assert_eq!(paused, self.paused.contains(&group)),
            MemberEvent::Removed { reason: RemovalReason::Fenced { .. } | RemovalReason::Evicted } => {
                assert!(self.clients.iter().any(|client| client.id == member && client.gone));
            }
            MemberEvent::Removed { reason } => panic!("the state removes nobody by itself: {reason:?}"),
        }
    }
}
