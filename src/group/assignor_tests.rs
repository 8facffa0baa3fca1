//! The promises of the assignor, over random groups that have an assignment already.

use super::*;
use proptest::prelude::*;

/// Topics `t0`..: how many partitions each has; members: which of the topics each subscribes to; and who holds what,
/// as pairs of (topic, partition) -> member, some of which may make no sense any more.
#[derive(Debug, Clone)]
struct Scene {
    partitions: Vec<u32>,
    subscriptions: Vec<BTreeSet<TopicName>>,
    held: BTreeMap<TopicPartition, MemberId>,
}

fn topic(number: usize) -> TopicName {
    TopicName::new(&format!("t{number}")).unwrap()
}

fn member(number: usize) -> MemberId {
    MemberId::new(&format!("m{number}"))
}

fn scene(topics: usize, equal: bool) -> impl Strategy<Value = Scene> {
    let partitions = prop::collection::vec(0..12_u32, topics);
    let subscriptions = prop::collection::vec(prop::collection::vec(any::<bool>(), topics), 1..8);
    let held = prop::collection::btree_map((0..topics, 0..14_u32), 0..9_usize, 0..40);
    (partitions, subscriptions, held).prop_map(move |(partitions, subscriptions, held)| Scene {
        partitions,
        subscriptions: subscriptions
            .into_iter()
            .map(|chosen| (0..topics).filter(|&t| equal || chosen[t]).map(topic).collect())
            .collect(),
        held: held
            .into_iter()
            .map(|((t, partition), m)| (TopicPartition { topic: topic(t), partition }, member(m)))
            .collect(),
    })
}

impl Scene {
    fn partitions_of(&self, name: &TopicName) -> u32 {
        (0..self.partitions.len()).find(|&t| topic(t) == *name).map_or(0, |t| self.partitions[t])
    }

    fn assign(&self, held: &BTreeMap<TopicPartition, MemberId>) -> BTreeMap<TopicPartition, MemberId> {
        let ids: Vec<MemberId> = (0..self.subscriptions.len()).map(member).collect();
        let subscribers: Vec<_> =
            ids.iter().zip(&self.subscriptions).map(|(member, topics)| Subscriber { member, topics }).collect();
        assign(&subscribers, |topic| self.partitions_of(topic), held.iter())
    }

    fn loads(&self, target: &BTreeMap<TopicPartition, MemberId>) -> Vec<usize> {
        (0..self.subscriptions.len()).map(|m| target.values().filter(|owner| **owner == member(m)).count()).collect()
    }

    /// What of `held` still makes sense: the member is there, subscribes, and the partition exists.
    fn still_held(&self) -> BTreeMap<TopicPartition, MemberId> {
        let mut held = self.held.clone();
        held.retain(|partition, owner| {
            partition.partition < self.partitions_of(&partition.topic)
                && (0..self.subscriptions.len())
                    .any(|m| member(m) == *owner && self.subscriptions[m].contains(&partition.topic))
        });
        held
    }
}

/// The fewest moves that balance members who all subscribe to the same: whoever has most may keep one more.
fn fewest_moves(mut held: Vec<usize>, partitions: usize) -> usize {
    held.sort_unstable_by(|a, b| b.cmp(a));
    let (share, more) = (partitions / held.len(), partitions % held.len());
    held.iter().enumerate().map(|(i, has)| has.saturating_sub(share + usize::from(i < more))).sum()
}

proptest! {
    #[test]
    fn every_subscribed_partition_goes_to_one_of_its_subscribers(scene in scene(4, false)) {
        let target = scene.assign(&scene.held);
        let subscribed: BTreeSet<&TopicName> = scene.subscriptions.iter().flatten().collect();
        let expected: BTreeSet<TopicPartition> = subscribed
            .into_iter()
            .flat_map(|t| (0..scene.partitions_of(t)).map(|partition| TopicPartition { topic: t.clone(), partition }))
            .collect();
        prop_assert_eq!(target.keys().cloned().collect::<BTreeSet<_>>(), expected);
        for (partition, owner) in &target {
            let number = (0..scene.subscriptions.len()).find(|&m| member(m) == *owner).expect("the owner is a member");
            prop_assert!(scene.subscriptions[number].contains(&partition.topic), "{owner} got {partition}");
        }
    }

    #[test]
    fn no_partition_could_move_to_a_subscriber_with_two_less(scene in scene(4, false)) {
        let target = scene.assign(&scene.held);
        let loads = scene.loads(&target);
        for (partition, owner) in &target {
            let has = loads[(0..loads.len()).find(|&m| member(m) == *owner).expect("the owner is a member")];
            for (m, topics) in scene.subscriptions.iter().enumerate() {
                prop_assert!(!topics.contains(&partition.topic) || has <= loads[m] + 1, "{partition}: {loads:?}");
            }
        }
    }

    #[test]
    fn members_with_equal_subscriptions_differ_by_one_at_most(scene in scene(3, false)) {
        let loads = scene.loads(&scene.assign(&scene.held));
        for (a, load_of_a) in loads.iter().enumerate() {
            for (b, load_of_b) in loads.iter().enumerate() {
                let equal = scene.subscriptions[a] == scene.subscriptions[b];
                prop_assert!(!equal || load_of_a.abs_diff(*load_of_b) <= 1, "{loads:?}");
            }
        }
    }

    #[test]
    fn equal_subscribers_are_balanced_with_the_fewest_moves(scene in scene(2, true)) {
        let held = scene.still_held();
        let target = scene.assign(&scene.held);
        let moves = held.iter().filter(|(partition, owner)| target[*partition] != **owner).count();
        let partitions = scene.partitions.iter().map(|&p| p as usize).sum();
        prop_assert_eq!(moves, fewest_moves(scene.loads(&held), partitions));
    }

    #[test]
    fn an_assignment_is_kept_while_nothing_changes(scene in scene(4, false)) {
        let target = scene.assign(&scene.held);
        prop_assert_eq!(scene.assign(&target), target.clone());
        prop_assert_eq!(scene.assign(&scene.held), target);
    }
}

/// Balancing went topic by topic once: in `t0` the member with a fair share gave a partition up, because somebody had
/// less, before the one with too many was looked at in `t1`. One move was enough.
#[test]
fn who_has_most_gives_first_whatever_the_topic() {
    let place = |t, partition| TopicPartition { topic: topic(t), partition };
    let fair = [place(0, 0), place(0, 1), place(0, 2)];
    let too_many = [place(1, 0), place(1, 1), place(1, 2), place(1, 4)];
    let held: BTreeMap<_, _> =
        fair.iter().map(|p| (p.clone(), member(1))).chain(too_many.map(|p| (p, member(5)))).collect();
    let scene = Scene { partitions: vec![10, 6], subscriptions: vec![BTreeSet::from([topic(0), topic(1)]); 7], held };
    let target = scene.assign(&scene.held);
    assert!(fair.iter().all(|partition| target[partition] == member(1)), "{target:?}");
}
