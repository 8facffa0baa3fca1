//! Chooses which member reads which partition. Pure and deterministic.
//!
//! Promises: every partition of a subscribed topic goes to one of its subscribers; no partition could move to a
//! subscriber that has at least two less than its owner, so members with equal subscriptions differ by one at most;
//! what a member reads stays with it unless balance demands a move, and among members with equal subscriptions the
//! moves are the fewest possible. With unequal subscriptions balance is reached one move at a time, never by
//! exchanging partitions round about. Does not know generations, revocations or time.

use super::ids::MemberId;
use crate::types::{TopicName, TopicPartition};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A member as the assignor sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscriber<'a> {
    pub member: &'a MemberId,
    pub topics: &'a BTreeSet<TopicName>,
}

/// The owner of every partition, given the subscribers in the order in which they joined, the number of partitions
/// of each topic (0 = no such topic), and who reads what now. Ties go to who joined first.
pub(super) fn assign<'a>(
    subscribers: &[Subscriber<'a>],
    partitions_of: impl Fn(&TopicName) -> u32,
    held: impl Iterator<Item = (&'a TopicPartition, &'a MemberId)>,
) -> BTreeMap<TopicPartition, MemberId> {
    let mut draft = Draft::new(subscribers, partitions_of);
    draft.keep(subscribers, held);
    draft.hand_out();
    draft.balance();
    draft.finish(subscribers)
}

/// Members are numbered by their place in the list of subscribers.
type Number = usize;

/// An assignment in the making.
struct Draft<'a> {
    /// How many partitions each member has, over all topics.
    loads: Vec<usize>,
    topics: BTreeMap<&'a TopicName, Shares>,
}

/// How one topic is shared.
struct Shares {
    subscribers: Vec<Number>,
    partitions: u32,
    /// What each has. At the front what it keeps, in order; behind it what is new, so that new ones move on first.
    held: BTreeMap<Number, Vec<u32>>,
}

impl<'a> Draft<'a> {
    fn new(subscribers: &[Subscriber<'a>], partitions_of: impl Fn(&TopicName) -> u32) -> Self {
        let mut topics: BTreeMap<&TopicName, Shares> = BTreeMap::new();
        for (number, subscriber) in subscribers.iter().enumerate() {
            for topic in subscriber.topics {
                let shares = topics.entry(topic).or_insert_with(|| Shares {
                    subscribers: Vec::new(),
                    partitions: partitions_of(topic),
                    held: BTreeMap::new(),
                });
                shares.subscribers.push(number);
            }
        }
        Self { loads: vec![0; subscribers.len()], topics }
    }

    /// Leaves with every member what it reads and may still read.
    fn keep(&mut self, subscribers: &[Subscriber<'_>], held: impl Iterator<Item = (&'a TopicPartition, &'a MemberId)>) {
        let numbers: HashMap<&MemberId, Number> = subscribers.iter().map(|s| s.member).zip(0..).collect();
        for (partition, member) in held {
            let Some(&number) = numbers.get(member) else { continue };
            let Some(shares) = self.topics.get_mut(&partition.topic) else { continue };
            if partition.partition < shares.partitions && subscribers[number].topics.contains(&partition.topic) {
                shares.held.entry(number).or_default().push(partition.partition);
                self.loads[number] += 1;
            }
        }
    }

    /// Gives what nobody reads to the subscriber that has least. Topics with few subscribers come first: those with
    /// many can make up for it.
    fn hand_out(&mut self) {
        let mut topics: Vec<&mut Shares> = self.topics.values_mut().collect();
        topics.sort_by_key(|shares| shares.subscribers.len());
        for shares in topics {
            let taken: BTreeSet<u32> = shares.held.values().flatten().copied().collect();
            let mut by_load: BTreeSet<_> = shares.subscribers.iter().map(|&n| (self.loads[n], n)).collect();
            for partition in (0..shares.partitions).filter(|partition| !taken.contains(partition)) {
                let (load, number) = by_load.pop_first().expect("a topic is here because somebody subscribed to it");
                shares.held.entry(number).or_default().push(partition);
                self.loads[number] = load + 1;
                by_load.insert((load + 1, number));
            }
        }
    }

    /// Moves partitions until none could go to a subscriber with at least two less. Ends, because every move makes
    /// the sum of the squares of the loads smaller.
    fn balance(&mut self) {
        loop {
            let mut moves = 0;
            for shares in self.topics.values_mut() {
                moves += shares.balance(&mut self.loads);
            }
            if moves == 0 {
                return;
            }
        }
    }

    fn finish(self, subscribers: &[Subscriber<'_>]) -> BTreeMap<TopicPartition, MemberId> {
        let mut target = BTreeMap::new();
        for (topic, shares) in self.topics {
            for (number, partitions) in shares.held {
                for partition in partitions {
                    let partition = TopicPartition { topic: topic.clone(), partition };
                    let twice = target.insert(partition, subscribers[number].member.clone());
                    debug_assert!(twice.is_none(), "a partition has one owner");
                }
            }
        }
        target
    }
}

impl Shares {
    /// Balances this topic against the loads over all topics; says how many partitions moved.
    fn balance(&mut self, loads: &mut [usize]) -> usize {
        let mut takers: BTreeSet<_> = self.subscribers.iter().map(|&n| (loads[n], n)).collect();
        let mut givers: BTreeSet<_> = self.held.keys().map(|&n| (loads[n], n)).collect();
        let mut moves = 0;
        while let (Some(&(most, from)), Some(&(least, to))) = (givers.last(), takers.first()) {
            if most <= least + 1 {
                break;
            }
            let shared = self.held.get_mut(&from).expect("givers are those who hold something");
            let partition = shared.pop().expect("a member that holds nothing is taken out below");
            let gives_more = !shared.is_empty();
            if !gives_more {
                self.held.remove(&from);
            }
            self.held.entry(to).or_default().push(partition);

            givers.remove(&(most, from));
            givers.remove(&(least, to));
            takers.remove(&(most, from));
            takers.remove(&(least, to));
            (loads[from], loads[to]) = (most - 1, least + 1);
            if gives_more {
                givers.insert((loads[from], from));
            }
            givers.insert((loads[to], to));
            takers.extend([(loads[from], from), (loads[to], to)]);
            moves += 1;
        }
        moves
    }
}

#[cfg(test)]
#[path = "assignor_tests.rs"]
mod tests;
