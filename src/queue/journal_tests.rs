//! Journals that no broker has written: whatever stands in them is refused by name, or replays to a state that says the
//! same when it is written anew, and that time can pass over.

use super::event::{
    DeathReason, Event, HandedOut, LetterEvent, MessageKey, Moment, Now, Settlement, StoredMessage, StoredProgress,
};
use super::journal_entries::{decode, encode};
use super::policy::Ordering;
use super::queues::Queues;
use super::test_support::{ListedLogs, config, partition, queue, topic};
use crate::types::Offset;
use proptest::prelude::*;
use std::ops::Range;

/// Near the beginning, where events meet, and at the far end.
fn offset() -> impl Strategy<Value = Offset> {
    prop_oneof![20 => 0..40_u64, 1 => (u64::MAX - 3)..=u64::MAX, 1 => Just(1 << 40)].prop_map(Offset)
}

fn ranges() -> impl Strategy<Value = Vec<Range<Offset>>> {
    let range = (offset(), 0..6_u64).prop_map(|(start, length)| start..start.advance(length));
    prop::collection::vec(range, 0..3)
}

fn moment() -> impl Strategy<Value = Moment> {
    any::<i64>().prop_map(|wall_ms| Moment { monotonic_ms: 0, wall_ms })
}

fn settlement() -> impl Strategy<Value = Settlement> {
    let failed = prop::collection::vec((offset(), moment()), 0..3);
    let dying = prop::collection::vec((offset(), Just(DeathReason::Rejected(String::new()))), 0..3);
    (ranges(), ranges(), ranges(), ranges(), ranges(), failed, dying).prop_map(
        |(acked, buried, absent, filtered, released, failed, dying)| Settlement {
            acked,
            buried,
            absent,
            filtered,
            released,
            failed,
            dying,
        },
    )
}

fn stored() -> impl Strategy<Value = StoredProgress> {
    let dying = prop::option::of(Just(DeathReason::AttemptsExhausted(String::new())));
    let message =
        (offset(), any::<u32>(), prop::option::of(moment()), dying).prop_map(|(offset, attempts, until, dying)| {
            StoredMessage { offset, attempts, first_delivered_ms: 3, last_delivered_ms: 4, until, dying }
        });
    (offset(), prop::collection::vec(message, 0..4)).prop_map(|(frontier, mut open)| {
        open.retain(|message| message.offset < frontier);
        StoredProgress { topic: topic("orders"), frontier, open }
    })
}

fn event() -> impl Strategy<Value = Event> {
    let at = (0..2_u32).prop_map(partition);
    let handed_out = offset().prop_map(|offset| HandedOut { offset, bytes: 0, key: MessageKey::Unknown });
    let messages = prop::collection::vec(handed_out, 0..4);
    prop_oneof![
        1 => any::<bool>().prop_map(|keeps_order| Event::QueueSet {
            config: config("work", |policy| {
                policy.ordering = if keeps_order { Ordering::Key } else { Ordering::None };
            })
        }),
        1 => Just(Event::QueueDeleted { queue: queue("work") }),
        3 => (at.clone(), stored()).prop_map(|(at, stored)| Event::PartitionSet { queue: queue("work"), at, stored }),
        1 => at.clone().prop_map(|at| Event::PartitionDropped { queue: queue("work"), at }),
        8 => (at.clone(), messages, any::<i64>()).prop_map(|(at, messages, at_ms)| {
            Event::Delivered { queue: queue("work"), at, messages, at_ms, lease: None }
        }),
        4 => (at.clone(), ranges()).prop_map(|(at, ranges)| {
            Event::Letters(LetterEvent::Resolved { topic: topic("orders"), at, ranges })
        }),
        1 => at.clone().prop_map(|at| Event::Letters(LetterEvent::Forgotten { at })),
        8 => (at, settlement()).prop_map(|(at, settlement)| Event::Settled { queue: queue("work"), at, settlement }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_journal_replays_to_what_its_snapshot_says(events in prop::collection::vec(event(), 0..30), now in any::<i64>()) {
        let begin = [Event::QueueSet { config: config("work", |_| ()) }];
        let entries: Vec<_> = begin.iter().chain(&events).filter_map(encode).collect();
        let mut queues = Queues::replay(entries).expect("each entry is one that can be read");
        let again = Queues::replay(queues.snapshot()).expect("so is each of a snapshot");
        prop_assert_eq!(again.snapshot(), queues.snapshot());

        let logs = ListedLogs::holding(&[(0, 50), (0, 50)]);
        let (mut now, mut rounds) = (Now { monotonic_ms: 0, wall_ms: now }, 0);
        for event in queues.decide_start(&logs, now) {
            queues.apply(&event);
        }
        while let Some(due_ms) = queues.next_due_ms() {
            now.monotonic_ms = due_ms;
            for event in queues.decide_due(now) {
                queues.apply(&event);
            }
            rounds += 1;
            prop_assert!(rounds < 100, "time passes");
        }
    }

    #[test]
    fn any_bytes_are_refused_by_name_or_read(key in "(run|queue|progress|delivered|settled|resolved|x)(/[a-z0-9-]{0,4}){0,3}", value in ".{0,60}") {
        let entry = crate::partition::journal::JournalEntry { key: key.into(), value: Some(value.into()) };
        drop(decode(&entry));
    }
}
