//! Random lives of groups, step by step.
//!
//! After each step: no two members have one partition, every partition is with somebody, what is committed is what the
//! model foretold, no generation was used twice, and the journal, a compacted journal and the snapshot each replay to
//! the durable state. A restart forgets everything but the journal.

use super::model_world::World;
use super::rebalance::RELEASE_MS;
use super::test_support::HIGH_WATERMARK;
use proptest::prelude::*;

pub(super) const GROUPS: [&str; 2] = ["g", "h"];
/// Instance ids that members may have.
pub(super) const INSTANCES: [&str; 2] = ["one", "two"];
pub(super) const TOPICS: [&str; 3] = ["t", "u", "v"];

/// One step. Members are named by their place among all that ever joined, so some have left long ago.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Without topics: by a pattern that matches all of them, now or later.
    Join {
        group: usize,
        topics: Vec<usize>,
        instance: Option<usize>,
    },
    /// The stream of a member ends.
    Depart {
        member: usize,
    },
    Leave {
        member: usize,
    },
    /// Releases what was revoked in the `back`-th last generation the member heard of.
    Release {
        member: usize,
        back: usize,
    },
    Commit {
        member: usize,
        generation: Option<u64>,
        topic: usize,
        partition: u32,
        offset: u64,
    },
    CommitFromOutside {
        group: usize,
        topic: usize,
        partition: u32,
        offset: u64,
    },
    Seek {
        group: usize,
        topic: usize,
        partition: u32,
        offset: u64,
    },
    Wait {
        ms: u64,
    },
    Evict {
        member: usize,
    },
    Fork {
        group: usize,
    },
    Pause {
        group: usize,
        paused: bool,
    },
    Delete {
        group: usize,
    },
    AddPartitions {
        topic: usize,
    },
    DeleteTopic {
        topic: usize,
    },
    CreateTopic {
        topic: usize,
    },
    /// From the journal, or from a journal that was cut down to a snapshot.
    Restart {
        from_snapshot: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (group, topic, partition) = (0..GROUPS.len(), 0..TOPICS.len(), 0..7_u32);
    let (member, offset) = (0..12_usize, 0..HIGH_WATERMARK.0 + 100);
    let subscription = prop::sample::subsequence(vec![0, 1, 2], 0..=3);
    prop_oneof![
        6 => (group.clone(), subscription, prop::option::weighted(0.4, 0..INSTANCES.len()))
            .prop_map(|(group, topics, instance)| Step::Join { group, topics, instance }),
        3 => member.clone().prop_map(|member| Step::Depart { member }),
        3 => member.clone().prop_map(|member| Step::Leave { member }),
        1 => member.clone().prop_map(|member| Step::Evict { member }),
        8 => (member.clone(), 0..3_usize).prop_map(|(member, back)| Step::Release { member, back }),
        12 => (member, prop::option::of(0..4_u64), topic.clone(), partition.clone(), offset.clone()).prop_map(
            |(member, generation, topic, partition, offset)| {
                Step::Commit { member, generation, topic, partition, offset }
            }
        ),
        1 => (group.clone(), topic.clone(), partition.clone(), offset.clone()).prop_map(
            |(group, topic, partition, offset)| Step::CommitFromOutside { group, topic, partition, offset }
        ),
        3 => (group.clone(), topic.clone(), partition, offset)
            .prop_map(|(group, topic, partition, offset)| Step::Seek { group, topic, partition, offset }),
        4 => (0..RELEASE_MS).prop_map(|ms| Step::Wait { ms }),
        1 => group.clone().prop_map(|group| Step::Fork { group }),
        1 => (group.clone(), any::<bool>()).prop_map(|(group, paused)| Step::Pause { group, paused }),
        1 => group.prop_map(|group| Step::Delete { group }),
        1 => topic.clone().prop_map(|topic| Step::AddPartitions { topic }),
        1 => topic.clone().prop_map(|topic| Step::DeleteTopic { topic }),
        1 => topic.prop_map(|topic| Step::CreateTopic { topic }),
        1 => any::<bool>().prop_map(|from_snapshot| Step::Restart { from_snapshot }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn groups_keep_their_promises_through_any_life(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
    }
}

/// While partitions move, an assignment that is computed anew may be another one. Who took a place then made others give
/// up partitions, although it wanted what the one before it wanted (found by the lives above).
#[test]
fn who_takes_a_place_while_partitions_move_disturbs_nobody() {
    let join = |topics: &[usize], instance| Step::Join { group: 0, topics: topics.to_vec(), instance };
    let mut world = World::new();
    for step in [join(&[0, 1], None), join(&[0, 2], Some(0)), join(&[], None), join(&[0, 2], Some(0))] {
        world.take(&step);
        world.check();
    }
}
