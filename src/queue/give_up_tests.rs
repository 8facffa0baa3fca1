//! When a queue hands out something else than the next message, or nothing: messages too old, partitions before others,
//! a breaker that has opened; and which keys hold up others.

use super::breaker::BreakerState;
use super::desk::{Desk, ONE, TWO, offsets_of};
use super::event::{DeathReason, Departure, ReceiverKind};
use super::hand_out::{Found, FoundMessage};
use super::policy::{BreakerPolicy, Ordering, Priority, QueuePolicy};
use super::queues::Queues;
use super::settle::Verb;
use super::test_support::{WIDE, all_found, queue, topic};
use crate::queue::MessageStage;
use crate::types::Offset;

const NACK: Verb = Verb::Nack { delay_ms: Some(0), reason: String::new() };

/// The desk's clock shows 1,000; messages of the desk were appended at 0.
fn with_ttl(ttl_ms: u64, change: impl FnOnce(&mut QueuePolicy)) -> Desk {
    let mut desk = Desk::with(&[(0, 4)], |policy| {
        policy.message_ttl_ms = ttl_ms;
        policy.dead_letter_topic = Some(topic("dead"));
        change(policy);
    });
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    desk
}

fn dying(desk: &Desk) -> Vec<(u64, DeathReason)> {
    desk.queues.dying(100).into_iter().map(|message| (message.place.offset.0, message.reason)).collect()
}

#[test]
fn what_is_too_old_when_its_turn_comes_is_a_dead_letter_and_never_handed_out() {
    let mut desk = with_ttl(1_000, |_| ());
    let reservation = desk.reserve(ONE, 10).unwrap();
    assert!(reservation.wants_ttl);
    let of = |offset, append_time_ms, ttl_ms| FoundMessage {
        offset: Offset(offset),
        bytes: 10,
        key: None,
        append_time_ms,
        ttl_ms,
    };
    // As old as it may be; younger; young, but says less; says more than the queue allows.
    let messages = vec![of(0, 0, None), of(1, 1, None), of(2, 900, Some(100)), of(3, 0, Some(5_000))];
    let found = Found { messages, ..all_found(&reservation, |_| None) };
    let leased = desk.deliver(ONE, &found);
    assert_eq!(offsets_of(&leased), [1]);
    let expired = [0, 2, 3].map(|offset| (offset, DeathReason::Expired));
    assert_eq!(dying(&desk), expired);
    assert_eq!(desk.queues.dying(1)[0].attempts, 0, "it was not an attempt");

    // Nothing but their settlement speaks of them in the journal.
    let replayed = Queues::replay(desk.journal.clone()).unwrap();
    assert_eq!(replayed.dying(100).len(), 3);
    assert_eq!(replayed.snapshot(), desk.queues.snapshot());
}

#[test]
fn the_messages_behind_one_that_is_too_old_keep_their_order() {
    let mut desk = with_ttl(1_000, |policy| policy.ordering = Ordering::Key);
    let reservation = desk.reserve(ONE, 10).unwrap();
    let mut found = all_found(&reservation, |_| Some(1));
    found.messages[1..].iter_mut().for_each(|message| message.append_time_ms = 999);
    assert_eq!(desk.deliver(ONE, &found), [], "the first is on its way to the dead letters, the others behind it");
    let buried: Vec<_> = desk.queues.dying(10).into_iter().map(|message| message.place).collect();
    assert_eq!(buried.len(), 1);
    let events = desk.queues.decide_bury(&queue("work"), &buried, &[]).events;
    desk.enact(events);
    let reservation = desk.reserve(ONE, 10).unwrap();
    let mut found = all_found(&reservation, |_| Some(1));
    found.messages.iter_mut().for_each(|message| message.append_time_ms = 999);
    assert_eq!(offsets_of(&desk.deliver(ONE, &found)), [1]);
}

#[test]
fn a_higher_partition_comes_first_while_it_has_anything() {
    let mut desk = Desk::with(&[(0, 3), (0, 2), (0, 1)], |policy| policy.priority = Priority::Partition);
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    let next = |desk: &mut Desk| {
        let reservation = desk.reserve(ONE, 1).unwrap();
        let leased = desk.deliver(ONE, &all_found(&reservation, |_| None));
        (reservation.at.partition, leased[0].clone())
    };
    let first = next(&mut desk);
    assert_eq!(first.0, 2);
    assert_eq!((next(&mut desk).0, next(&mut desk).0), (1, 1));
    assert_eq!(next(&mut desk).0, 0);
    desk.logs.append(1, 1);
    assert_eq!(next(&mut desk).0, 1, "what comes late overtakes what is lower");
    desk.settle(&[first.1], &NACK);
    desk.wait(0);
    assert_eq!(next(&mut desk).0, 2, "so does what comes again");
    assert_eq!(next(&mut desk).0, 0);
}

fn with_breaker(failures_percent: u32, deliveries: u32) -> Desk {
    let mut desk = Desk::with(&[(0, 1_000)], |policy| {
        policy.breaker = Some(BreakerPolicy { failures_percent, deliveries, pause_ms: 100 });
    });
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    desk.open(TWO, ReceiverKind::Stream, WIDE);
    desk
}

fn state(desk: &Desk) -> BreakerState {
    desk.queues.describe(&queue("work")).unwrap().breaker
}

#[test]
fn a_queue_pauses_itself_when_most_deliveries_fail_and_tries_one_after_the_pause() {
    let mut desk = with_breaker(50, 4);
    let messages = desk.receive(ONE, 8);
    desk.settle(&messages[..1], &NACK);
    desk.settle(&messages[1..3], &Verb::Ack);
    desk.wait(0);
    assert_eq!(state(&desk), BreakerState::Closed, "three are too few to judge by");
    desk.settle(&messages[3..4], &NACK);
    desk.wait(0);
    assert_eq!(state(&desk), BreakerState::Open { until_ms: 1_100 });
    assert_eq!(desk.receive(ONE, 10), []);
    // What was out when it opened changes nothing.
    desk.settle(&messages[4..6], &Verb::Ack);
    desk.wait(99);
    assert_eq!((state(&desk), desk.receive(TWO, 10)), (BreakerState::Open { until_ms: 1_100 }, Vec::new()));

    desk.settle(&messages[6..], &Verb::Release);
    desk.queues.take_wakes();
    desk.wait(1);
    assert_eq!(state(&desk), BreakerState::Probing);
    assert!(desk.queues.take_wakes().contains(&TWO), "there is something to try");
    let probe = desk.receive(ONE, 10);
    assert_eq!((probe.len(), desk.receive(TWO, 10).len()), (1, 0), "one at a time");
    desk.settle(&probe, &Verb::Release);
    let probe = desk.receive(TWO, 10);
    assert_eq!((probe.len(), state(&desk)), (1, BreakerState::Probing), "that says nothing: another one is tried");
    desk.settle(&probe, &NACK);
    desk.wait(0);
    desk.wait(199);
    assert_eq!(desk.receive(ONE, 10), [], "the second pause is twice as long");
    desk.wait(1);
    let probe = desk.receive(ONE, 10);
    desk.queues.take_wakes();
    desk.settle(&probe, &Verb::Ack);
    assert_eq!((state(&desk), desk.queues.take_wakes().len()), (BreakerState::Closed, 2));
    assert_eq!(desk.receive(TWO, 10).len(), 10);
}

/// A message that takes a worker hours was out when the breaker opened: nothing was tried until it was done.
#[test]
fn what_was_out_before_does_not_keep_the_breaker_from_trying() {
    let mut desk = with_breaker(100, 1);
    let messages = desk.receive(ONE, 2);
    desk.settle(&messages[..1], &NACK);
    desk.wait(0);
    desk.wait(100);
    assert_eq!(state(&desk), BreakerState::Probing);
    let probe = desk.receive(TWO, 10);
    assert_eq!((probe.len(), desk.receive(TWO, 10).len()), (1, 0), "one, although another one is out");
    desk.settle(&probe, &Verb::Ack);
    assert_eq!(state(&desk), BreakerState::Closed);
}

/// Whoever asked while another one tried was told to wait, and would have waited for ever.
#[test]
fn when_there_was_nothing_to_try_others_are_woken() {
    let mut desk = with_breaker(100, 1);
    let messages = desk.receive(ONE, 1);
    desk.settle(&messages, &NACK);
    desk.wait(0);
    desk.wait(100);
    let reservation = desk.reserve(ONE, 10).unwrap();
    assert_eq!(desk.reserve(TWO, 10), None, "one at a time");
    desk.queues.take_wakes();
    let found = Found { messages: Vec::new(), absent: reservation.ranges.clone(), ..all_found(&reservation, |_| None) };
    assert_eq!(desk.deliver(ONE, &found), []);
    assert!(desk.queues.take_wakes().contains(&TWO));
    assert_eq!(desk.receive(TWO, 10).len(), 1);
}

/// A long piece of work from before the outage ended well while the broker tried: the breaker closed, and the queue used up
/// attempts on what was still down. One that ended badly made the pause twice as long, whatever became of the probe.
#[test]
fn only_the_probe_decides_while_the_breaker_tries() {
    let mut desk = with_breaker(100, 1);
    let messages = desk.receive(ONE, 4);
    desk.settle(&messages[..1], &NACK);
    desk.wait(0);
    desk.wait(100);
    assert_eq!(state(&desk), BreakerState::Probing);
    desk.settle(&messages[1..2], &Verb::Ack);
    assert_eq!(state(&desk), BreakerState::Probing, "it was out before");
    let probe = desk.receive(TWO, 10);
    assert_eq!(probe.len(), 1);
    desk.settle(&messages[2..3], &NACK);
    desk.wait(0);
    assert_eq!(state(&desk), BreakerState::Probing);
    let lost = desk.queues.get(&queue("work")).unwrap().decide_close(ONE, Departure::Lost).events;
    desk.enact(lost);
    desk.wait(0);
    assert_eq!(state(&desk), BreakerState::Probing, "nor does it matter that a worker from before is lost");
    assert_eq!(desk.receive(TWO, 10), [], "what it had waits for the outcome of the probe");
    desk.settle(&probe, &NACK);
    desk.wait(0);
    assert!(matches!(state(&desk), BreakerState::Open { .. }), "the probe has failed");

    desk.wait(200);
    assert_eq!(state(&desk), BreakerState::Probing);
    assert_eq!(desk.receive(TWO, 10).len(), 1);
    let lost = desk.queues.get(&queue("work")).unwrap().decide_close(TWO, Departure::Lost).events;
    desk.enact(lost);
    desk.wait(0);
    assert!(matches!(state(&desk), BreakerState::Open { .. }), "whoever has the probe and is lost has failed");
}

#[test]
fn a_lost_worker_is_one_failure_however_much_it_had() {
    let mut desk = with_breaker(100, 2);
    desk.receive(ONE, 50);
    let lost = desk.queues.get(&queue("work")).unwrap().decide_close(ONE, Departure::Lost).events;
    desk.enact(lost);
    desk.wait(0);
    assert_eq!(state(&desk), BreakerState::Closed);
    desk.receive(TWO, 50);
    let lost = desk.queues.get(&queue("work")).unwrap().decide_close(TWO, Departure::Lost).events;
    desk.enact(lost);
    desk.wait(0);
    assert!(matches!(state(&desk), BreakerState::Open { .. }), "but all who try are lost");
}

#[test]
fn a_person_or_a_restart_closes_the_breaker() {
    let mut desk = with_breaker(1, 1);
    let messages = desk.receive(ONE, 1);
    desk.settle(&messages, &NACK);
    desk.wait(0);
    assert!(matches!(state(&desk), BreakerState::Open { .. }));
    let mut restarted = Queues::replay(desk.journal.clone()).unwrap();
    for event in restarted.decide_start(&desk.logs, desk.now) {
        restarted.apply(&event);
    }
    let described = restarted.describe(&queue("work")).unwrap();
    assert_eq!((described.breaker, described.counts.failed), (BreakerState::Closed, 0), "both count from the start");

    let resumed = desk.queues.decide_update(&queue("work"), None, Some(false)).unwrap();
    desk.done(resumed);
    assert_eq!(state(&desk), BreakerState::Closed);
    assert_eq!(desk.receive(ONE, 10).len(), 10);
}

#[test]
fn keys_that_hold_up_others_are_told_with_how_many() {
    let mut desk = Desk::with(&[(0, 10)], |policy| policy.ordering = Ordering::Key);
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    let reservation = desk.reserve(ONE, 10).unwrap();
    // Key 0 has offsets 0, 3, 6, 9; key 1 has 1, 4, 7; those of 2 have no key.
    let leased = desk.deliver(ONE, &all_found(&reservation, |offset| Some(offset % 3).filter(|key| *key < 2)));
    assert_eq!(offsets_of(&leased), [0, 1, 2, 5, 8]);
    desk.settle(&leased[1..2], &Verb::Nack { delay_ms: Some(500), reason: String::new() });
    let blocking = desk.queues.get(&queue("work")).unwrap().blocking(10);
    let told: Vec<_> = blocking.iter().map(|found| (found.offset.0, found.blocked, found.stage)).collect();
    assert_eq!(told, [(0, 3, MessageStage::Leased), (1, 2, MessageStage::Waiting)]);
    assert_eq!(desk.queues.get(&queue("work")).unwrap().blocking(1).len(), 1);
}
