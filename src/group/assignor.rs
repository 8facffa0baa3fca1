//! Chooses which member reads which partition. Pure and deterministic.
//!
//! Promises: every partition of a subscribed topic goes to one of its subscribers; no partition could move to a
//! subscriber that has at least two less than its owner, so members with equal subscriptions differ by one at most;
//! what a member reads stays with it unless balance demands a move, and among members with equal subscriptions the
//! moves are the fewest possible. With unequal subscriptions balance is reached one move at a time, never by
//! exchanging partitions round about. Does not know generations, revocations or time.

use super::ids::MemberId;
use crate::types::{TopicName, TopicPartition};
use std::cmp::Reverse;
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
    subscribers: &'a [Subscriber<'a>],
    partitions_of: impl Fn(&TopicName) -> u32,
    held: impl Iterator<Item = (&'a TopicPartition, &'a MemberId)>,
) -> BTreeMap<TopicPartition, MemberId> {
    let mut draft = Draft::new(subscribers, partitions_of);
    draft.keep(held);
    draft.hand_out();
    draft.balance();
    draft.finish()
}

/// Members are numbered by their place in the list of subscribers.
type Number = usize;

/// An assignment in the making.
struct Draft<'a> {
    subscribers: &'a [Subscriber<'a>],
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
    /// While balancing: all subscribers, and those that have something of this topic, by their loads.
    takers: BTreeSet<(usize, Number)>,
    givers: BTreeSet<(usize, Number)>,
}

impl<'a> Draft<'a> {
    fn new(subscribers: &'a [Subscriber<'a>], partitions_of: impl Fn(&TopicName) -> u32) -> Self {
        let mut topics: BTreeMap<&TopicName, Shares> = BTreeMap::new();
        for (number, subscriber) in subscribers.iter().enumerate() {
            for topic in subscriber.topics {
                let shares = topics.entry(topic).or_insert_with(|| Shares {
                    subscribers: Vec::new(),
                    partitions: partitions_of(topic),
                    held: BTreeMap::new(),
                    takers: BTreeSet::new(),
                    givers: BTreeSet::new(),
                });
                shares.subscribers.push(number);
            }
        }
        Self { subscribers, loads: vec![0; subscribers.len()], topics }
    }

    /// Leaves with every member what it reads and may still read.
    fn keep(&mut self, held: impl Iterator<Item = (&'a TopicPartition, &'a MemberId)>) {
        let numbers: HashMap<&MemberId, Number> = self.subscribers.iter().map(|s| s.member).zip(0..).collect();
        for (partition, member) in held {
            let Some(&number) = numbers.get(member) else { continue };
            let Some(shares) = self.topics.get_mut(&partition.topic) else { continue };
            if partition.partition < shares.partitions && self.subscribers[number].topics.contains(&partition.topic) {
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
    /// the sum of the squares of the loads smaller. Of all topics, the member that has most gives first: then nobody
    /// with a fair share gives something up before the others have come down to it.
    fn balance(&mut self) {
        for shares in self.topics.values_mut() {
            shares.takers = shares.subscribers.iter().map(|&n| (self.loads[n], n)).collect();
            shares.givers = shares.held.keys().map(|&n| (self.loads[n], n)).collect();
        }
        loop {
            let moves = self.topics.values_mut().filter_map(|shares| Some((shares.next_move()?, shares)));
            let Some((Move { from, to, .. }, shares)) = moves.reduce(|a, b| if b.0 > a.0 { b } else { a }) else {
                return;
            };
            shares.hand_over(from, to);
            self.change_load(from, self.loads[from] - 1);
            self.change_load(to, self.loads[to] + 1);
        }
    }

    fn change_load(&mut self, number: Number, load: usize) {
        let before = std::mem::replace(&mut self.loads[number], load);
        for topic in self.subscribers[number].topics {
            let shares = self.topics.get_mut(topic).expect("every subscribed topic is here");
            shares.takers.remove(&(before, number));
            shares.takers.insert((load, number));
            shares.givers.remove(&(before, number));
            if shares.held.contains_key(&number) {
                shares.givers.insert((load, number));
            }
        }
    }

    fn finish(self) -> BTreeMap<TopicPartition, MemberId> {
        let mut target = BTreeMap::new();
        for (topic, shares) in self.topics {
            for (number, partitions) in shares.held {
                for partition in partitions {
                    let partition = TopicPartition { topic: topic.clone(), partition };
                    let twice = target.insert(partition, self.subscribers[number].member.clone());
                    debug_assert!(twice.is_none(), "a partition has one owner");
                }
            }
        }
        target
    }
}

/// A partition could go from one member to another. The greater, the sooner it should.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Move {
    most: usize,
    least: Reverse<usize>,
    from: Number,
    to: Number,
}

impl Shares {
    /// The best move of this topic, if any partition should move.
    fn next_move(&self) -> Option<Move> {
        let (&(most, from), &(least, to)) = self.givers.last().zip(self.takers.first())?;
        (most > least + 1).then_some(Move { most, least: Reverse(least), from, to })
    }

    fn hand_over(&mut self, from: Number, to: Number) {
        let partitions = self.held.get_mut(&from).expect("givers are those who have something");
        let partition = partitions.pop().expect("who has nothing is taken out below");
        if partitions.is_empty() {
            self.held.remove(&from);
        }
        self.held.entry(to).or_default().push(partition);
    }
}

#[cfg(test)]
#[path = "assignor_tests.rs"]
mod tests;
