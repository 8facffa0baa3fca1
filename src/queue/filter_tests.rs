//! A filter passes over many records for little: one range, no messages, one reader at a time.

use super::desk::{Desk, ONE, TWO, offsets_of};
use super::event::{Event, ReceiverKind};
use super::hand_out::Found;
use super::policy::{Ordering, QueueConfig};
use super::queues::Queues;
use super::state::QueueState;
use super::test_support::{WIDE, all_found, config, queue};
use crate::filter::Filter;
use crate::types::Offset;

/// Two streams at a queue with a filter, on a topic with so many records.
fn desk(records: u64, ordering: Ordering) -> Desk {
    let mut desk = Desk::with(&[(0, records)], |policy| policy.ordering = ordering);
    let filter = Some(Filter::new("attributes:wanted").unwrap());
    let config = QueueConfig { filter, ..config("work", |policy| policy.ordering = ordering) };
    desk.enact(vec![Event::QueueSet { config }]);
    desk.open(ONE, ReceiverKind::Stream, WIDE);
    desk.open(TWO, ReceiverKind::Stream, WIDE);
    desk
}

fn state(desk: &Desk) -> &QueueState {
    desk.queues.get(&queue("work")).unwrap()
}

#[test]
fn a_million_records_that_do_not_match_are_one_range() {
    for ordering in [Ordering::None, Ordering::Key] {
        let mut desk = desk(1_000_000, ordering);
        let reservation = desk.reserve(ONE, 10).expect("there are records");
        assert!(reservation.reads_on && reservation.filter.is_some());
        let entries = desk.journal.len();
        let found = Found {
            messages: Vec::new(),
            filtered: vec![Offset(0)..Offset(999_999)],
            ..all_found(&reservation, |_| None)
        };
        assert_eq!(desk.deliver(ONE, &found), []);
        assert_eq!(desk.journal.len(), entries + 1);
        assert!(desk.journal[entries].value.as_ref().unwrap().len() < 100);
        assert_eq!((state(&desk).open, state(&desk).counts.filtered), (0, 999_999));
        let replayed = Queues::replay(desk.journal.clone()).unwrap();
        assert_eq!(replayed.snapshot(), desk.queues.snapshot());

        assert_eq!(offsets_of(&desk.receive(TWO, 10)), [999_999]);
    }
}

#[test]
fn one_receiver_at_a_time_reads_on_and_only_that_one_is_believed() {
    let mut desk = desk(100, Ordering::None);
    let first = desk.reserve(ONE, 10).expect("there are records");
    assert_eq!(desk.reserve(TWO, 10), None, "it would read on where the first does");
    let far = Found { messages: Vec::new(), filtered: vec![Offset(5)..Offset(50)], ..all_found(&first, |_| None) };
    assert_eq!(desk.deliver(TWO, &far), []);
    assert_eq!(state(&desk).counts.filtered, 0, "it has reserved nothing");

    let matching = Found { filtered: vec![Offset(0)..Offset(5)], ..all_found(&first, |_| None) };
    let messages = matching.messages[5..].to_vec();
    assert_eq!(offsets_of(&desk.deliver(ONE, &Found { messages, ..matching })), [5, 6, 7, 8, 9]);
    assert_eq!(offsets_of(&desk.receive(TWO, 2)), [10, 11], "now it is another one's turn");
}

#[test]
fn gaps_between_records_that_do_not_match_are_passed_over_too() {
    let mut desk = desk(500_000, Ordering::None);
    let reservation = desk.reserve(ONE, 1).expect("there are records");
    let found = Found {
        messages: Vec::new(),
        absent: vec![Offset(10)..Offset(200_000), Offset(300_000)..Offset(450_000)],
        filtered: vec![Offset(0)..Offset(10), Offset(200_000)..Offset(300_000), Offset(450_000)..Offset(500_000)],
        ..all_found(&reservation, |_| None)
    };
    assert_eq!(desk.deliver(ONE, &found), []);
    let described = state(&desk).describe();
    assert_eq!((described.partitions[0].frontier, described.partitions[0].available), (Offset(500_000), 0));
    assert_eq!((described.counts.absent, described.counts.filtered), (349_990, 150_010));
    assert_eq!(Queues::replay(desk.journal.clone()).unwrap().snapshot(), desk.queues.snapshot());
}
