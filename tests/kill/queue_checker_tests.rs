//! The part of the checker that is about queues: a life without fault has no anomaly, and each kind of fault, put into it
//! by hand, is named.

use crate::history::event::{Delivered, Letter, Said};
use crate::history::{Anomaly, Batch, Checker, Event, RecordId, Rule};

const RECORDS: u32 = 8;

fn received(worker: u32, offset: u32, attempt: u32) -> Event {
    heard(worker, offset, Some(offset), attempt)
}

fn heard(worker: u32, offset: u32, record: Option<RecordId>, attempt: u32) -> Event {
    let offset = u64::from(offset);
    let (queue, log, heard_ms, kept_until_ms) = (0, 0, 0, 0);
    Event::Received(Delivered { worker, queue, log, offset, record, attempt, heard_ms, kept_until_ms })
}

fn asked(worker: u32, offset: u64, attempt: u32, said: Said) -> Event {
    Event::SettleAsked { worker, queue: 0, log: 0, offset, attempt, said }
}

fn done(offset: u64, attempt: u32, said: Said) -> Event {
    Event::SettleDone { queue: 0, log: 0, offset, attempt, said }
}

/// What a worker says, and its confirmation.
fn said(worker: u32, offset: u64, attempt: u32, what: Said) -> [Event; 2] {
    [asked(worker, offset, attempt, what), done(offset, attempt, what)]
}

fn letter(offset: u32, attempts: u32, is_rejected: bool) -> Letter {
    let at = u64::from(offset);
    Letter { at, log: 0, offset: at, attempts, is_rejected, is_resolved: false, record: Some(offset) }
}

/// What adds up to what is a matter of `late_checker_tests.rs`.
fn audited(done_below: u64, letters: Vec<Letter>) -> [Event; 2] {
    let audited = Event::QueueAudited { queue: 0, log: 0, done_below, frontier: 0, open: 0 };
    [audited, Event::DeadLetters { queue: 0, letters }]
}

/// Eight records in one log, and a queue of at most two attempts. Neighbours share a key: four and four.
fn begin(keeps_order: bool) -> Vec<Event> {
    let records = (0..RECORDS).map(Some).collect();
    vec![
        Event::TopicDone { topic: "orders".to_owned(), exists: true },
        Event::Log { log: 0, topic: "orders".to_owned(), partition: 0, rule: Rule::Keep },
        Event::Producer { producer: 0, topic: "orders".to_owned(), idempotent: true },
        Event::Sent { producer: 0, first: 0, count: RECORDS },
        Event::Acked { first: 0, count: RECORDS, log: 0, offset: 0 },
        Event::Audited { log: 0, start: 0, end: 8, bytes: 100, batches: vec![Batch { base: 0, records }] },
        Event::Queue { queue: 0, name: "work".to_owned(), attempts_max: 2, keeps_order, only_keys: Vec::new() },
        Event::WorkerOpened { worker: 1, is_stream: true },
        Event::WorkerOpened { worker: 2, is_stream: true },
        Event::WorkerOpened { worker: 3, is_stream: false },
    ]
}

fn judge(before: Vec<Event>, events: impl IntoIterator<Item = Event>) -> Vec<Anomaly> {
    Checker::judge(&before.into_iter().chain(events).collect::<Vec<_>>())
}

/// Everything that may happen to a message.
fn a_life() -> Vec<Event> {
    let mut life = begin(false);
    life.push(received(1, 0, 1));
    life.extend(said(1, 0, 1, Said::Ack));
    // Failed twice: dead.
    life.push(received(1, 1, 1));
    life.extend(said(1, 1, 1, Said::Nack));
    life.push(received(2, 1, 2));
    life.extend(said(2, 1, 2, Said::Nack));
    // Given back: the same attempt again. Then rejected.
    life.push(received(1, 2, 1));
    life.extend(said(1, 2, 1, Said::Release));
    life.push(received(2, 2, 1));
    life.extend(said(2, 2, 1, Said::Reject));
    // A lease that ended by time; its late ack is refused.
    life.push(received(3, 3, 1));
    life.push(received(2, 3, 2));
    life.push(asked(3, 3, 1, Said::Ack));
    life.push(Event::SettleRefused { queue: 0, log: 0, offset: 3, said: Said::Ack });
    life.extend(said(2, 3, 2, Said::Ack));
    // With a stream that is given up; and an ack in doubt when the broker goes down, which was done.
    life.push(received(1, 4, 1));
    life.push(Event::WorkerClosed { worker: 1 });
    life.push(received(2, 4, 2));
    life.extend([asked(2, 4, 2, Said::Ack), Event::Down]);
    life.extend(audited(5, vec![letter(1, 2, false), letter(2, 1, true)]));
    // Handed out twice in a life that nobody heard of: dead without a word.
    life.push(Event::WorkerOpened { worker: 4, is_stream: true });
    for offset in 6..8 {
        life.push(received(4, offset, 1));
        life.extend(said(4, offset.into(), 1, Said::Ack));
    }
    life.extend(audited(8, vec![letter(1, 2, false), letter(2, 1, true), letter(5, 2, false)]));
    life.push(Event::Drained { queue: 0, log: 0, end: 8 });
    life
}

#[test]
fn a_life_without_fault_has_no_anomaly() {
    assert_eq!(Checker::judge(&a_life()), []);
}

#[test]
fn a_message_that_nobody_acked_and_that_has_no_letter_is_lost() {
    let found = judge(begin(false), audited(1, Vec::new()));
    assert!(matches!(found[..], [Anomaly::MessageLost { offset: 0, .. }]), "{found:?}");
    // A refused ack did not happen.
    let refused = Event::SettleRefused { queue: 0, log: 0, offset: 0, said: Said::Ack };
    let events = [received(1, 0, 1), asked(1, 0, 1, Said::Ack), refused].into_iter().chain(audited(1, Vec::new()));
    let found = judge(begin(false), events);
    assert!(matches!(found[..], [Anomaly::MessageLost { offset: 0, .. }]), "{found:?}");
    // Nor is a rejected message done without its letter.
    let rejected = [received(1, 0, 1)].into_iter().chain(said(1, 0, 1, Said::Reject)).chain(audited(1, Vec::new()));
    assert!(matches!(judge(begin(false), rejected)[..], [Anomaly::MessageLost { offset: 0, .. }]));
}

#[test]
fn two_leases_at_a_time_are_told() {
    let found = judge(begin(false), [received(1, 0, 1), received(2, 0, 2)]);
    assert!(matches!(found[..], [Anomaly::TwoLeases { one: 1, other: 2, .. }]), "{found:?}");
    let late = [received(3, 0, 1), received(2, 0, 2)].into_iter().chain(said(3, 0, 1, Said::Ack));
    assert!(matches!(judge(begin(false), late)[..], [Anomaly::AckOfOldLease { attempt: 1, .. }]));
}

#[test]
fn what_is_done_does_not_come_again() {
    let acked = || [received(1, 0, 1)].into_iter().chain(said(1, 0, 1, Said::Ack));
    let found = judge(begin(false), acked().chain([received(2, 0, 2)]));
    assert!(matches!(found[..], [Anomaly::DeliveredWhenDone { attempt: 2, .. }]), "{found:?}");
    let found = judge(begin(false), acked().chain(audited(1, vec![letter(0, 2, false)])));
    assert!(matches!(found[..], [Anomaly::AckedAndDead { offset: 0, .. }]), "{found:?}");
}

#[test]
fn attempts_only_grow() {
    let failed = || [received(1, 0, 1)].into_iter().chain(said(1, 0, 1, Said::Nack));
    let found = judge(begin(false), failed().chain([received(2, 0, 1)]));
    assert!(matches!(found[..], [Anomaly::AttemptRepeated { attempt: 1, .. }]), "{found:?}");
    let found = judge(begin(false), failed().chain([received(2, 0, 2)]).chain([received(3, 0, 3)]));
    assert!(found.iter().any(|found| matches!(found, Anomaly::TooManyAttempts { attempt: 3, .. })), "{found:?}");
    let twice = [received(3, 0, 1), received(3, 0, 2), Event::Down];
    let again = [Event::WorkerOpened { worker: 4, is_stream: true }, received(4, 0, 2)];
    let found = judge(begin(false), twice.into_iter().chain(again));
    assert!(found.iter().any(|found| matches!(found, Anomaly::AttemptsLost { before: 2, .. })), "{found:?}");
}

#[test]
fn of_one_key_nothing_is_overtaken_unless_it_is_dead() {
    let overtaken = || [received(3, 0, 1), received(3, 1, 1)];
    let found = judge(begin(true), overtaken().into_iter().chain(audited(0, Vec::new())));
    assert!(matches!(found[..], [Anomaly::Overtaken { offset: 0, by: 1, .. }]), "{found:?}");
    let dead = overtaken().into_iter().chain(audited(1, vec![letter(0, 2, false)]));
    assert_eq!(judge(begin(true), dead), [], "its other attempts were not heard");
    // Its letter was written while the letters were read; the next reading has it.
    let read_before = audited(0, Vec::new()).into_iter().next().into_iter().chain(overtaken());
    let late = read_before.chain([Event::DeadLetters { queue: 0, letters: Vec::new() }]);
    let late = late.chain(audited(1, vec![letter(0, 2, false)]));
    assert_eq!(judge(begin(true), late), []);
    assert_eq!(judge(begin(true), [received(3, 0, 1), received(3, 4, 1)]), [], "another key");
    assert_eq!(judge(begin(false), overtaken()), [], "no order was asked for");
    let acked = [received(1, 0, 1)].into_iter().chain(said(1, 0, 1, Said::Ack));
    let found = judge(begin(true), acked.chain([received(1, 1, 1), received(3, 0, 2)]));
    assert!(found.iter().any(|found| matches!(found, Anomaly::Overtaken { offset: 0, by: 1, .. })), "{found:?}");
}

#[test]
fn letters_have_their_reasons() {
    let why = |letters| match &judge(begin(false), audited(0, letters))[..] {
        [Anomaly::LetterInvented { why, .. }] => why.clone(),
        found => panic!("{found:?}"),
    };
    assert_eq!(why(vec![letter(0, 1, true)]), "nobody rejected it");
    assert_eq!(why(vec![letter(0, 1, false)]), "it had 1 attempts of 2");
    assert_eq!(why(vec![Letter { record: Some(7), ..letter(0, 2, false) }]), "it is another record");
}

#[test]
fn what_is_done_stays_done_and_in_the_end_all_is() {
    let went_back = audited(0, Vec::new()).into_iter().chain([Event::Drained { queue: 0, log: 0, end: 8 }]);
    let found = judge(begin(false), went_back);
    assert!(matches!(found[..], [Anomaly::NotDone { done: 0, end: 8, .. }]), "{found:?}");
    let mut life = a_life();
    life.push(Event::QueueAudited { queue: 0, log: 0, done_below: 5, frontier: 8, open: 0 });
    assert!(matches!(Checker::judge(&life)[..], [Anomaly::DoneWentBack { before: 8, done_below: 5, .. }]));
}

#[test]
fn a_message_is_the_record_that_stands_there() {
    let other = heard(1, 0, Some(1), 1);
    let found = judge(begin(false), [other]);
    assert!(found.iter().any(|found| matches!(found, Anomaly::Inconsistent { one: 0, other: 1, .. })), "{found:?}");
    let unknown = heard(1, 0, None, 1);
    assert!(matches!(judge(begin(false), [unknown])[..], [Anomaly::Invented { offset: 0, .. }]));
}

#[test]
fn what_a_broker_that_is_gone_has_sent_may_be_heard_late() {
    let gone = [received(1, 4, 1), Event::Down, Event::WorkerOpened { worker: 4, is_stream: true }];
    let late = gone.into_iter().chain([received(4, 0, 2), received(1, 0, 1)]);
    assert_eq!(judge(begin(true), late), []);
}

#[test]
fn a_lease_that_ends_by_time_is_nobody_elses_before() {
    let kept = |worker, attempt, heard_ms, kept_until_ms| {
        let (queue, log, offset, record) = (0, 0, 0, Some(0));
        Event::Received(Delivered { worker, queue, log, offset, record, attempt, heard_ms, kept_until_ms })
    };
    let found = judge(begin(false), [kept(3, 1, 10, 500), kept(2, 2, 499, 0)]);
    assert!(matches!(found[..], [Anomaly::TwoLeases { one: 3, other: 2, .. }]), "{found:?}");
    assert_eq!(judge(begin(false), [kept(3, 1, 10, 500), kept(2, 2, 500, 0)]), []);
    let failed = [kept(3, 1, 10, 500)].into_iter().chain(said(3, 0, 1, Said::Nack)).chain([kept(2, 2, 20, 0)]);
    assert_eq!(judge(begin(false), failed), []);
}

#[test]
fn who_has_a_stream_that_is_frozen_keeps_nothing_and_hears_late() {
    let life = [received(1, 0, 1), Event::Frozen, received(3, 0, 2)].into_iter().chain(said(3, 0, 2, Said::Ack));
    let refused = Event::SettleRefused { queue: 0, log: 0, offset: 0, said: Said::Ack };
    let late = [received(3, 1, 1), asked(1, 0, 1, Said::Ack), refused, received(2, 0, 1)];
    let found = judge(begin(true), life.chain(late));
    assert!(matches!(found[..], [Anomaly::AttemptRepeated { attempt: 1, .. }]), "the first has it already: {found:?}");
    let confirmed = [received(1, 0, 1), Event::Frozen, received(3, 0, 2)].into_iter().chain(said(1, 0, 1, Said::Ack));
    assert!(matches!(judge(begin(true), confirmed)[..], [Anomaly::AckOfOldLease { attempt: 1, .. }]));
}
