//! The other way to share partitions: neighbours stay together, and equal numbers of different topics meet.
//!
//! Each topic is cut into as many ranges as it has subscribers, in the order in which they joined; the first ranges are
//! longer by one where it does not come out even. Members with equal subscriptions have the same partitions of every
//! topic with as many: what stands for a join over topics that are partitioned alike. The price is moves: a join or leave
//! shifts most ranges, and with few partitions the first members have more. Pure and deterministic.

use super::assignor::Subscriber;
use super::ids::MemberId;
use crate::types::{TopicName, TopicPartition};
use std::collections::BTreeMap;

/// The owner of every partition, given the subscribers in the order in which they joined and the number of partitions of
/// each topic (0 = no such topic).
pub(super) fn assign(
    subscribers: &[Subscriber<'_>],
    partitions_of: impl Fn(&TopicName) -> u32,
) -> BTreeMap<TopicPartition, MemberId> {
    let mut by_topic: BTreeMap<&TopicName, Vec<&MemberId>> = BTreeMap::new();
    for subscriber in subscribers {
        for topic in subscriber.topics {
            by_topic.entry(topic).or_default().push(subscriber.member);
        }
    }
    let mut target = BTreeMap::new();
    for (topic, members) in by_topic {
        let (partitions, count) = (partitions_of(topic) as usize, members.len());
        let (share, longer) = (partitions / count, partitions % count);
        let owners = members.into_iter().enumerate().flat_map(|(place, member)| {
            let length = share + usize::from(place < longer);
            std::iter::repeat_n(member, length)
        });
        target.extend(
            (0..)
                .zip(owners)
                .map(|(partition, owner)| (TopicPartition { topic: topic.clone(), partition }, owner.clone())),
        );
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn shared(members: usize, partitions: u32, names: &[&str]) -> Vec<Vec<String>> {
        let ids: Vec<_> = (0..members).map(|number| MemberId::new(&number.to_string())).collect();
        let topics: BTreeSet<_> = names.iter().map(|name| topic(name)).collect();
        let subscribers: Vec<_> = ids.iter().map(|member| Subscriber { member, topics: &topics }).collect();
        let target = assign(&subscribers, |_| partitions);
        let of = |id| target.iter().filter(|(_, owner)| *owner == id).map(|(at, _)| at.to_string()).collect();
        ids.iter().map(of).collect()
    }

    #[test]
    fn neighbours_stay_together_and_equal_numbers_meet() {
        let expected = [["a/0", "a/1", "b/0", "b/1"].as_slice(), &["a/2", "b/2"]];
        assert_eq!(shared(2, 3, &["a", "b"]), expected);
    }

    #[test]
    fn who_has_no_topic_has_nothing() {
        assert_eq!(shared(3, 2, &["a"]), [["a/0"].as_slice(), &["a/1"], &[]]);
        assert_eq!(shared(2, 0, &["a"]), [[""; 0]; 2]);
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner_and_loads_differ_by_one(members in 1..20_usize, partitions in 0..50_u32) {
            let shares = shared(members, partitions, &["a"]);
            prop_assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), partitions as usize);
            let loads = shares.iter().map(Vec::len);
            prop_assert!(loads.clone().max().unwrap() - loads.min().unwrap() <= 1);
        }
    }
}
