//! Promises of one queue that the model does not look at: bounds, wakes, windows, deadlines, what a journal may hold.

use super::desk::{Desk, ONE, TWO, offsets_of};
use super::event::{Departure, Event, HandedOut, MessageKey, Moment, Now, ReceiverKind, Settlement, Window};
use super::event::{StoredMessage, StoredProgress};
use super::hand_out::Found;
use super::policy::Ordering;
use super::queues::Queues;
use super::settle::Verb;
use super::test_support::{WIDE, all_found, queue, topic};
use crate::types::Offset;
use std::collections::BTreeSet;

#[test]
fn a_delivery_and_a_batch_of_acks_are_one_entry_each() {
    let mut desk = Desk::with(&[(0, 1_000)], |_| ());
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    let before = desk.journal.len();
    let messages = desk.receive(ONE, 1_000);
    assert_eq!((messages.len(), desk.journal.len()), (1_000, before + 1));
    assert!(desk.settle(&messages, &Verb::Ack).iter().all(|is_ok| *is_ok));
    assert_eq!(desk.journal.len(), before + 2);
}

#[test]
fn a_done_message_leaves_nothing_behind() {
    let mut desk = Desk::with(&[(0, 500)], |_| ());
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    let messages = desk.receive(ONE, 500);
    let (odd, even): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.offset.0 % 2 == 1);
    desk.settle(&odd, &Verb::Ack);
    let places = |desk: &Desk| {
        let state = desk.queues.get(&queue("work")).unwrap();
        state.deliveries.values().map(|delivery| delivery.places.len()).sum::<usize>()
    };
    assert!(places(&desk) <= 500);
    desk.settle(&even[..200], &Verb::Ack);
    assert!(places(&desk) <= 100, "settled places go when they are the greater part");
    desk.settle(&even[200..], &Verb::Ack);
    let state = desk.queues.get(&queue("work")).unwrap();
    assert!(state.deliveries.is_empty() && state.deadlines.is_empty() && state.open == 0);
    assert_eq!(state.next_due_ms(), None);
}

#[test]
fn leases_of_a_call_expire_and_those_of_a_stream_live_with_it() {
    let mut desk = Desk::with(&[(0, 2)], |policy| (policy.lease_ms, policy.max_lease_ms) = (100, 250));
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    desk.open(TWO, ReceiverKind::Call, WIDE);
    assert_eq!(offsets_of(&desk.receive(ONE, 1)), [0]);
    assert_eq!(offsets_of(&desk.receive(TWO, 1)), [1]);
    desk.wait(99);
    assert_eq!(desk.receive(TWO, 10), []);
    desk.wait(1);
    assert_eq!(offsets_of(&desk.receive(TWO, 10)), [1]);
    desk.wait(149);
    assert_eq!(offsets_of(&desk.receive(TWO, 10)), [1], "the stream still has its own");
    desk.wait(1);
    assert_eq!(offsets_of(&desk.receive(TWO, 10)), [0], "but not beyond the maximum");
}

#[test]
fn an_extension_is_found_when_the_delivery_is_looked_at() {
    let mut desk = Desk::with(&[(0, 2)], |policy| policy.lease_ms = 100);
    desk.open(ONE, ReceiverKind::Call, WIDE);
    let messages = desk.receive(ONE, 2);
    desk.settle(&messages[..1], &Verb::Extend { lease_ms: Some(500) });
    desk.settle(&messages[1..], &Verb::Extend { lease_ms: Some(20) });
    assert_eq!(desk.queues.next_due_ms(), Some(20), "a shorter lease ends in time");
    desk.wait(20);
    assert_eq!(offsets_of(&desk.receive(ONE, 2)), [1]);
    desk.wait(479);
    assert_eq!(desk.settle(&messages, &Verb::Ack), [true, false]);
}

#[test]
fn a_receiver_has_no_more_than_its_window_and_the_queue_allow() {
    let mut desk = Desk::with(&[(0, 100)], |policy| policy.max_in_flight_per_receiver = 4);
    desk.open(ONE, ReceiverKind::Stream, Window { messages: 3, bytes: 1_000 });
    desk.open(TWO, ReceiverKind::Stream, WIDE);
    assert_eq!((desk.receive(ONE, 100).len(), desk.receive(TWO, 100).len()), (3, 4));
    assert_eq!((desk.reserve(ONE, 100), desk.reserve(TWO, 100)), (None, None));
}

#[test]
fn room_that_is_made_wakes_its_receiver_and_nobody_else() {
    let mut desk = Desk::with(&[(0, 10)], |_| ());
    desk.open(ONE, ReceiverKind::Stream, Window { messages: 2, bytes: 1_000 });
    desk.open(TWO, ReceiverKind::Stream, Window { messages: 5, bytes: 1_000 });
    let messages = desk.receive(ONE, 2);
    let others = desk.receive(TWO, 2);
    desk.queues.take_wakes();
    desk.settle(&messages[..1], &Verb::Ack);
    assert_eq!(desk.queues.take_wakes(), BTreeSet::from([ONE]));
    desk.settle(&others[..1], &Verb::Ack);
    assert_eq!(desk.queues.take_wakes(), BTreeSet::new(), "it had room all the time");
    desk.settle(&messages[1..], &Verb::Release);
    assert_eq!(desk.queues.take_wakes(), BTreeSet::from([ONE, TWO]), "there is something for everyone");
}

#[test]
fn a_receiver_without_room_for_the_next_message_is_left_alone_until_it_has_some() {
    let mut desk = Desk::with(&[(0, 10)], |_| ());
    desk.open(ONE, ReceiverKind::Stream, Window { messages: 10, bytes: 100 });
    let messages = desk.receive(ONE, 1);
    let reservation = desk.reserve(ONE, 1).unwrap();
    assert!(!reservation.takes_oversize);
    let nothing = Found { messages: Vec::new(), starved: true, ..all_found(&reservation, |_| None) };
    assert_eq!(desk.deliver(ONE, &nothing), []);
    assert_eq!(desk.reserve(ONE, 1), None, "else it would read the same again and again");
    desk.settle(&messages, &Verb::Ack);
    assert!(desk.queues.take_wakes().contains(&ONE));
    assert!(desk.reserve(ONE, 1).unwrap().takes_oversize);
}

#[test]
fn what_a_lost_reader_had_reserved_is_free_and_uncounted() {
    let mut desk = Desk::with(&[(0, 3)], |_| ());
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    desk.open(TWO, ReceiverKind::Stream, WIDE);
    assert!(desk.reserve(ONE, 2).is_some());
    assert_eq!(offsets_of(&desk.receive(TWO, 3)), [2]);
    let closed = desk.queues.get(&queue("work")).unwrap().decide_close(ONE, Departure::Lost);
    desk.done(closed);
    let messages = desk.receive(TWO, 3);
    assert_eq!(
        messages.iter().map(|message| (message.offset.0, message.attempt)).collect::<Vec<_>>(),
        [(0, 1), (1, 1)]
    );
}

#[test]
fn one_receiver_at_a_time_learns_keys_so_that_a_slow_one_is_not_overtaken() {
    let mut desk = Desk::with(&[(0, 4)], |policy| policy.ordering = Ordering::Key);
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    desk.open(TWO, ReceiverKind::Stream, WIDE);
    let slow = desk.reserve(ONE, 2).unwrap();
    assert_eq!(desk.reserve(TWO, 2), None, "offset 2 may have the key of offset 0");
    let delivered = desk.deliver(ONE, &all_found(&slow, |_| Some(5)));
    assert_eq!(offsets_of(&delivered), [0]);
    let rest = desk.reserve(TWO, 10).unwrap();
    let delivered = desk.deliver(TWO, &all_found(&rest, |offset| Some(if offset == 3 { 6 } else { 5 })));
    assert_eq!(offsets_of(&delivered), [3]);
}

#[test]
fn partitions_take_turns() {
    let mut desk = Desk::with(&[(0, 10), (0, 10), (0, 10)], |_| ());
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    let mut served: Vec<u32> = Vec::new();
    for _ in 0..4 {
        let reservation = desk.reserve(ONE, 2).unwrap();
        served.push(reservation.at.partition);
        desk.deliver(ONE, &all_found(&reservation, |_| None));
    }
    assert_eq!(served, [0, 1, 2, 0]);
}

#[test]
fn unreadable_records_are_put_off_and_absent_ones_done() {
    let mut desk = Desk::with(&[(0, 5)], |_| ());
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    let reservation = desk.reserve(ONE, 5).unwrap();
    let mut found = all_found(&reservation, |_| None);
    found.messages.drain(..4);
    found.absent = vec![Offset(0)..Offset(2)];
    found.unreadable = vec![Offset(2)..Offset(4)];
    assert_eq!(offsets_of(&desk.deliver(ONE, &found)), [4]);
    assert_eq!(desk.reserve(ONE, 5), None);
    let described = desk.queues.describe(&queue("work")).unwrap();
    assert_eq!((described.partitions[0].low_watermark, described.counts.absent), (Offset(2), 2));
    desk.wait(5_000);
    assert_eq!(offsets_of(&desk.receive(ONE, 5)), [2, 3]);
}

#[test]
fn what_retention_took_is_passed_over_at_once_however_much_it_is() {
    let mut desk = Desk::with(&[(1 << 40, (1 << 40) + 2)], |_| ());
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    assert_eq!(offsets_of(&desk.receive(ONE, 5)), [1 << 40, (1 << 40) + 1]);
    assert_eq!(desk.queues.get(&queue("work")).unwrap().open, 2);
}

#[test]
fn a_message_that_waits_longer_than_can_be_asked_for_after_a_restart_is_cut_short() {
    let mut desk = Desk::with(&[(0, 1)], |_| ());
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    let messages = desk.receive(ONE, 1);
    let hour = 3_600_000;
    desk.settle(&messages, &Verb::Nack { delay_ms: Some(hour), reason: String::new() });
    for (clock_ms, expected_ms) in
        [(1_000, hour), (1_000 + 3_000_000, 600_000), (i64::MIN, crate::limits::RETRY_MS_MAX)]
    {
        let mut again = Queues::replay(desk.queues.snapshot()).unwrap();
        let now = Now { monotonic_ms: 0, wall_ms: clock_ms };
        for event in again.decide_start(&desk.logs, now) {
            again.apply(&event);
        }
        assert_eq!(again.next_due_ms(), Some(expected_ms), "the clock shows {clock_ms}");
    }
}

#[test]
fn a_rejected_message_is_given_up_also_after_a_restart() {
    let mut desk = Desk::with(&[(0, 1)], |policy| policy.dead_letter_topic = Some(topic("dead")));
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    let messages = desk.receive(ONE, 1);
    desk.settle(&messages, &Verb::Reject { reason: "x".repeat(5_000) });
    let again = Queues::replay(desk.queues.snapshot()).unwrap();
    assert_eq!(again.dying(10), desk.queues.dying(10));
    assert_eq!(again.dying(10).len(), 1);
}

/// What `log repair` leaves of a journal may lack what lies between. It once would have taken memory for all of it.
#[test]
fn a_journal_with_a_hole_hands_out_again_what_it_cannot_place() {
    let mut desk = Desk::with(&[(0, 10)], |_| ());
    let far = Offset(1 << 40);
    let (queue, at) = (queue("work"), super::test_support::partition(0));
    let messages = vec![HandedOut { offset: far, bytes: 0, key: MessageKey::Unknown }];
    desk.enact(vec![Event::Delivered { queue: queue.clone(), at, messages, at_ms: 0, lease: None }]);
    let settlement = Settlement { acked: vec![far..far.advance(1)], ..Settlement::default() };
    desk.enact(vec![Event::Settled { queue, at, settlement }]);
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    assert_eq!(offsets_of(&desk.receive(ONE, 10)), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_message_that_a_journal_names_twice_is_one() {
    let mut desk = Desk::with(&[(0, 10)], |_| ());
    let until = Moment { monotonic_ms: 0, wall_ms: 5 };
    let waits = |until| StoredMessage {
        offset: Offset(1),
        attempts: 1,
        first_delivered_ms: 0,
        last_delivered_ms: 0,
        until,
        dying: None,
    };
    let open = vec![waits(Some(until)), waits(None)];
    let stored = StoredProgress { topic: topic("orders"), frontier: Offset(2), open };
    desk.enact(vec![Event::PartitionSet { queue: queue("work"), at: super::test_support::partition(0), stored }]);
    desk.wait(1);
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    assert_eq!(offsets_of(&desk.receive(ONE, 10)), (1..10).collect::<Vec<_>>());
}
