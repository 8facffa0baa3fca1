//! What is resolved stays so over every restart, is forgotten with its topic, and has a bound.

use super::error::QueueError;
use super::event::{Event, Now};
use super::ids::PartitionKey;
use super::journal_entries::encode;
use super::policy::QueuePolicy;
use super::queues::Queues;
use super::range_set::RangeSet;
use super::test_support::{ListedLogs, config, partition, queue, topic};
use crate::limits;
use crate::types::{Offset, TopicId};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;

const NOW: Now = Now { monotonic_ms: 0, wall_ms: 0 };

/// A queue `work` that writes its dead letters to topic `orders`, the one that [`ListedLogs`] knows.
fn queues() -> Queues {
    let mut queues = Queues::default();
    let config = config("work", |policy| policy.dead_letter_topic = Some(topic("orders")));
    queues.apply(&Event::QueueSet { config });
    queues
}

fn range(start: u64, end: u64) -> Range<Offset> {
    Offset(start)..Offset(end)
}

/// Resolves letters of partition 0; gives the events.
fn resolve(queues: &mut Queues, ranges: &[Range<Offset>], logs: &ListedLogs) -> Vec<Event> {
    let decision = queues.decide_resolve(&topic("orders"), partition(0), ranges, logs).expect("they may be");
    decision.events.iter().for_each(|event| queues.apply(event));
    decision.events
}

fn resolved(queues: &Queues, at: PartitionKey) -> RangeSet {
    let mut found = queues.letter_topic(&topic("orders")).expect("it is one of dead letters");
    found.resolved.remove(&at).unwrap_or_default()
}

/// The state that the present one is written anew as, after a restart.
fn restarted(queues: &Queues, logs: &ListedLogs) -> Queues {
    let mut again = Queues::replay(queues.snapshot()).expect("a snapshot can be read");
    again.decide_start(logs, NOW).iter().for_each(|event| again.apply(event));
    again
}

#[test]
fn what_is_resolved_is_told_once_and_kept() {
    let (mut queues, logs) = (queues(), ListedLogs::holding(&[(0, 50)]));
    assert_eq!(resolve(&mut queues, &[range(3, 5), range(9, 10)], &logs).len(), 1);
    assert_eq!(resolve(&mut queues, &[range(4, 5)], &logs), [], "it was so before");
    let expected: RangeSet = [range(3, 5), range(9, 10)].into_iter().collect();
    assert_eq!(resolved(&restarted(&queues, &logs), partition(0)), expected);
}

#[test]
fn what_the_log_has_no_more_is_one_range() {
    let (mut queues, logs) = (queues(), ListedLogs::holding(&[(0, 50)]));
    resolve(&mut queues, &[range(1, 2), range(3, 4), range(5, 6), range(30, 31)], &logs);
    logs.0.lock().unwrap()[0].0 = 20;
    resolve(&mut queues, &[range(40, 41)], &logs);
    let expected: RangeSet = [range(0, 20), range(30, 31), range(40, 41)].into_iter().collect();
    assert_eq!(resolved(&queues, partition(0)), expected);
}

#[test]
fn only_topics_of_dead_letters_have_letters() {
    let (queues, logs) = (queues(), ListedLogs::holding(&[(0, 50)]));
    let refused = |name, at| queues.decide_resolve(&topic(name), at, &[range(0, 1)], &logs).map(drop);
    let not_letters = |name| Err(QueueError::NotDeadLetters { topic: topic(name) });
    assert_eq!(refused("plain", partition(0)), not_letters("plain"));
    let of_an_earlier_topic = PartitionKey { topic_id: TopicId(uuid::Uuid::from_u128(1)), partition: 0 };
    assert_eq!(refused("orders", of_an_earlier_topic), not_letters("orders"));
    assert_eq!(refused("orders", partition(1)), not_letters("orders"), "there is no such partition");
}

#[test]
fn letters_outlive_their_queue_and_end_with_their_topic() {
    let logs = ListedLogs::holding(&[(0, 50)]);
    let deleted = queues().decide_delete_keeping(&queue("work"), &logs).expect("there is one").events;
    let elsewhere = QueuePolicy { dead_letter_topic: Some(topic("other")), ..QueuePolicy::default() };
    let moved = queues().decide_update_keeping(&queue("work"), Some(&elsewhere), None, &logs).expect("it can").events;
    for events in [deleted, moved] {
        let mut queues = queues();
        for event in &events {
            queues.apply(event);
        }
        let mut queues = restarted(&queues, &logs);
        assert!(queues.letter_topics("").contains(&topic("orders")));
        assert_eq!(queues.letter_topic(&topic("orders")).expect("it is known").queues, []);
        resolve(&mut queues, &[range(0, 7)], &logs);

        logs.0.lock().unwrap().clear();
        queues.decide_topics_changed(&logs).iter().for_each(|event| queues.apply(event));
        assert!(!queues.letter_topics("").contains(&topic("orders")), "its only partition is gone");
        *logs.0.lock().unwrap() = vec![(0, 50)];
    }
}

/// Nobody synced them, the power went, and what died since has their offsets.
#[test]
fn what_was_resolved_beyond_the_end_of_the_log_is_open_again() {
    let (mut queues, logs) = (queues(), ListedLogs::holding(&[(0, 50)]));
    resolve(&mut queues, &[range(10, 12), range(40, 50)], &logs);
    logs.0.lock().unwrap()[0].1 = 45;
    let again = restarted(&queues, &logs);
    let expected: RangeSet = [range(10, 12), range(40, 45)].into_iter().collect();
    assert_eq!(resolved(&again, partition(0)), expected);
    assert_eq!(resolved(&restarted(&again, &logs), partition(0)), expected);
}

#[test]
fn more_ranges_than_may_be_are_refused_with_a_way_out() {
    let (mut queues, logs) = (queues(), ListedLogs::holding(&[(0, 1 << 40)]));
    let most = limits::LETTER_RANGES_MAX as u64;
    let scattered: Vec<_> = (0..most).map(|number| range(2 * number + 1, 2 * number + 2)).collect();
    resolve(&mut queues, &scattered, &logs);
    assert_eq!(queues.snapshot().len(), 2 + scattered.len() / 1_000, "a snapshot has entries of bounded size");
    assert_eq!(resolved(&restarted(&queues, &logs), partition(0)).ranges(), scattered);
    let one_more = [range(2 * most + 1, 2 * most + 2)];
    let refused = queues.decide_resolve(&topic("orders"), partition(0), &one_more, &logs);
    let Err(QueueError::TooManyRanges { half, limit, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(limit, limits::LETTER_RANGES_MAX);
    resolve(&mut queues, &[Offset::ZERO..half], &logs);
    resolve(&mut queues, &one_more, &logs);
}

proptest! {
    /// A naive set of resolved offsets, through restarts from the journal, from a snapshot, and from both.
    #[test]
    fn a_resolved_letter_stays_resolved(steps in prop::collection::vec((0..40_u64, 0..8_u64, 0..4_u8), 1..30)) {
        let logs = ListedLogs::holding(&[(0, 64)]);
        let (mut queues, mut naive) = (queues(), BTreeSet::new());
        let mut journal = queues.snapshot();
        for (start, length, restart) in steps {
            journal.extend(resolve(&mut queues, &[range(start, start + length)], &logs).iter().filter_map(encode));
            naive.extend(start..start + length);
            match restart {
                0 => queues = Queues::replay(journal.clone()).expect("it can be read"),
                1 => queues = restarted(&queues, &logs),
                2 => journal.extend(queues.snapshot()),
                _ => {}
            }
            let set = resolved(&queues, partition(0));
            for offset in 0..60 {
                prop_assert_eq!(set.contains(Offset(offset)), naive.contains(&offset));
            }
        }
    }
}
